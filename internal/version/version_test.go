package version

import (
	"runtime/debug"
	"testing"
)

func TestOf(t *testing.T) {
	main := func(path, version string, settings ...debug.BuildSetting) *debug.BuildInfo {
		return &debug.BuildInfo{Main: debug.Module{Path: path, Version: version}, Settings: settings}
	}
	dependency := func(dep debug.Module) *debug.BuildInfo {
		return &debug.BuildInfo{Main: debug.Module{Path: "caddy"}, Deps: []*debug.Module{{Path: "golang.org/x/net", Version: "v0.9.0"}, &dep}}
	}
	revision := debug.BuildSetting{Key: "vcs.revision", Value: "1f2e3d"}
	for name, c := range map[string]struct {
		build *debug.BuildInfo
		want  string
	}{
		"a checkout at a tag":           {main(module, "v1.2.3", revision), "v1.2.3 (commit 1f2e3d)"},
		"a checkout with changes":       {main(module, "(devel)", revision, debug.BuildSetting{Key: "vcs.modified", Value: "true"}), "(devel) (commit 1f2e3d+modified)"},
		"a checkout without its commit": {main(module, "(devel)"), "(devel)"},
		"xcaddy":                        {dependency(debug.Module{Path: module, Version: "v1.2.3"}), "v1.2.3"},
		"xcaddy with a fork":            {dependency(debug.Module{Path: module, Version: "v1.2.3", Replace: &debug.Module{Path: "example.com/fork", Version: "v1.2.4"}}), "v1.2.4"},
		"xcaddy with a folder":          {dependency(debug.Module{Path: module, Version: "v1.2.3", Replace: &debug.Module{Path: "./caddy-negotiate"}}), ""},
		"another commit than ours":      {&debug.BuildInfo{Main: debug.Module{Path: "caddy", Version: "v9.9.9"}, Settings: []debug.BuildSetting{revision}, Deps: []*debug.Module{{Path: module, Version: "v1.2.3"}}}, "v1.2.3"},
		"without the plugin":            {main("caddy", "v9.9.9", revision), ""},
	} {
		if got := of(c.build).String(); got != c.want {
			t.Errorf("%s: %q, want %q", name, got, c.want)
		}
	}
}

func TestCurrent(t *testing.T) {
	if got := Current().Version; got == "" {
		t.Error("no version at all")
	}
	version, commit = "v1.2.3", "1f2e3d"
	defer func() { version, commit = "", "" }()
	if got := Current(); got != (Info{"v1.2.3", "1f2e3d"}) {
		t.Errorf("the linker's values do not win: %+v", got)
	}
}
