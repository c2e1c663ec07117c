// Package version says which version of the plugin is running, for people who report a
// fault: in `caddy kerberos version`, in `check --json`, in /kerberos/identities and with
// internal errors.
package version

import (
	"cmp"
	"runtime/debug"
)

// module is the plugin's path.
const module = "github.com/caddy-negotiate/caddy-negotiate"

// version and commit are set by the linker, in releases and images:
//
//	-ldflags "-X github.com/caddy-negotiate/caddy-negotiate/internal/version.version=v1.2.3"
//
// Without them what the go command recorded counts.
var version, commit string

// Info is a version of the plugin.
type Info struct {
	// Version is a semantic version with its v, or "(devel)" if it is not known: a build
	// from a folder.
	Version string `json:"version"`
	// Commit is the hash of the commit, with "+modified" if files differed from it; empty
	// if it is not known: a build from the module proxy has the version only.
	Commit string `json:"commit,omitempty"`
}

// Current returns the version of the plugin in this process.
func Current() Info {
	recorded := Info{}
	if build, ok := debug.ReadBuildInfo(); ok {
		recorded = of(build)
	}
	return Info{Version: cmp.Or(version, recorded.Version, "(devel)"), Commit: cmp.Or(commit, recorded.Commit)}
}

// String returns the version and the commit for people.
func (i Info) String() string {
	if i.Commit == "" {
		return i.Version
	}
	return i.Version + " (commit " + i.Commit + ")"
}

// of returns what the go command recorded. The plugin is the main module in a checkout, and
// a dependency in what xcaddy builds; replaced by a folder it has no version.
func of(build *debug.BuildInfo) Info {
	if build.Main.Path == module {
		return Info{Version: build.Main.Version, Commit: commitOf(build)}
	}
	for _, dep := range build.Deps {
		if dep.Path != module {
			continue
		}
		if dep.Replace != nil {
			dep = dep.Replace
		}
		return Info{Version: dep.Version}
	}
	return Info{}
}

func commitOf(build *debug.BuildInfo) string {
	hash, modified := "", ""
	for _, s := range build.Settings {
		switch {
		case s.Key == "vcs.revision":
			hash = s.Value
		case s.Key == "vcs.modified" && s.Value == "true":
			modified = "+modified"
		}
	}
	if hash == "" {
		return ""
	}
	return hash + modified
}
