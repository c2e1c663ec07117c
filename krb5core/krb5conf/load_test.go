package krb5conf

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/caddy-negotiate/caddy-negotiate/tests/filetest"
	"github.com/caddy-negotiate/caddy-negotiate/tests/must"
)

func TestLoad_SeveralFiles(t *testing.T) {
	open := mapOpener(map[string]string{
		"/a": "[libdefaults]\n default_realm = A\n[realms]\n X = {\n  kdc = k1\n }\n",
		"/b": "[libdefaults]\n default_realm = B\n[realms]\n X = {\n  kdc = k2\n }\n",
	})
	c := must.OK(Load(open, "/missing", "/a", "/b"))(t)
	if c.LibDefaults.DefaultRealm != "A" {
		t.Errorf("default_realm %q, not that of the first file", c.LibDefaults.DefaultRealm)
	}
	filetest.Same(t, []string{"k1", "k2"}, c.Realms["X"].KDCs)
	filetest.Same(t, []string{"/a", "/b"}, c.Files)
}

func TestLoad_FinalSections(t *testing.T) {
	open := mapOpener(map[string]string{
		"/a": "[q]\n z = 1\n x = {\n  y = 1\n }*\n v = {\n  w = 1\n }\n[r]*\n a = 1\ninclude /inc\n",
		// An included file is part of the one that includes it, and as late as a second section.
		"/inc": "[r]\n c = inc\n[q]\n x = {\n  y = inc\n  d = {\n   e = inc\n  }\n }\n v = {\n  w = inc\n }\n",
		"/b":   "[q]\n z = 2\n x = {\n  y = 2\n  n = 2\n }\n v = {\n  w = 2\n }\n[r]\n a = 2\n b = 3\n",
	})
	c := must.OK(Load(open, "/a", "/b"))(t)
	want := []any{
		[]any{"q", []any{
			[]any{"v", []any{[]any{"w", "1"}, []any{"w", "inc"}, []any{"w", "2"}}},
			[]any{"x", []any{[]any{"y", "1"}}},
			[]any{"z", "1"},
			[]any{"z", "2"},
		}},
		[]any{"r", []any{[]any{"a", "1"}}},
	}
	filetest.Same(t, want, tree(c.Profile))
}

// What is written after a final marker under its name is ignored, whatever it nests.
func TestLoad_FinalMarkers(t *testing.T) {
	for name, x := range map[string]struct {
		files []string
		want  []any
	}{
		"relation":             {[]string{"[s]\n k = 1\n k* = 2\n k = 3\n k* = 4\n l = 5\n"}, []any{[]any{"s", []any{[]any{"k", "1"}, []any{"k", "2"}, []any{"l", "5"}}}}},
		"relation, next file":  {[]string{"[s]\n k* = 1\n", "[s]\n k = 2\n l = 3\n"}, []any{[]any{"s", []any{[]any{"k", "1"}, []any{"l", "3"}}}}},
		"relation, third file": {[]string{"[s]\n k = 1\n", "[s]\n k* = 2\n k = 3\n", "[s]\n k = 4\n"}, []any{[]any{"s", []any{[]any{"k", "1"}, []any{"k", "2"}}}}},
		"relation in a subsection": {
			[]string{"[s]\n x = {\n  k* = 1\n }\n k = 2\n x = {\n  k = 3\n }\n"},
			[]any{[]any{"s", []any{[]any{"k", "2"}, []any{"x", []any{[]any{"k", "1"}}}}}},
		},
		"relation after a final subsection": {[]string{"[s]\n x* = {\n }\n x = 1\n"}, []any{[]any{"s", []any{[]any{"x", []any{}}}}}},
		"section": {
			[]string{"[s]*\n k = 1\n[t]\n k = 2\n[s]\n k = 3\n x = {\n  k = 4\n }*\n l = 5\n[t]\n l = 6\n"},
			[]any{[]any{"s", []any{[]any{"k", "1"}}}, []any{"t", []any{[]any{"k", "2"}, []any{"l", "6"}}}},
		},
		"section, marked the second time": {
			[]string{"[s]\n k = 1\n[s]*\n k = 2\n[s]\n k = 3\n"},
			[]any{[]any{"s", []any{[]any{"k", "1"}, []any{"k", "2"}}}},
		},
		"subsection by its tag": {
			[]string{"[s]\n x* = {\n  k = 1\n }\n x = {\n  k = 2\n  y = {\n   k = 3\n  }\n  l = 4\n }\n m = 5\n"},
			[]any{[]any{"s", []any{[]any{"m", "5"}, []any{"x", []any{[]any{"k", "1"}}}}}},
		},
		"subsection by its brace": {
			[]string{"[s]\n x = {\n  k = 1\n }*\n x =\n {\n  k = 2\n }\n m = 5\n", "[s]\n x = {\n  k = 3\n }\n"},
			[]any{[]any{"s", []any{[]any{"m", "5"}, []any{"x", []any{[]any{"k", "1"}}}}}},
		},
	} {
		t.Run(name, func(t *testing.T) {
			files, names := make(map[string]string), []string(nil)
			for i, text := range x.files {
				names = append(names, fmt.Sprintf("/%d", i))
				files[names[i]] = text
			}
			filetest.Same(t, x.want, tree(must.OK(Load(mapOpener(files), names...))(t).Profile))
		})
	}
	if _, err := Load(mapOpener(map[string]string{"/a": "[s]*\n[s]\n }\n"}), "/a"); err == nil {
		t.Error("a brace too many in an ignored section is accepted")
	}
}

func TestLoad_Errors(t *testing.T) {
	tests := []struct {
		name  string
		files map[string]string
		want  string
	}{
		{"syntax", map[string]string{"/c": "[s]\n\n bad line\n"}, `/c:3: malformed relation`},
		{"syntax in an included file", map[string]string{"/c": "include /d\n", "/d": "[s]\n }\n"}, `/d:2: "}" without a "{"`},
		{"missing include", map[string]string{"/c": "[s]\n a = 1\ninclude /d\n"}, `/c:3: reading included /d:`},
		{"include without a name", map[string]string{"/c": "include\n"}, `/c:1: include names no file`},
		{"include of a folder", map[string]string{"/c": "include /d\n", "/d/e": ""}, `/c:1: reading included /d: is a folder: use includedir`},
		{"includedir of a file", map[string]string{"/c": "includedir /d\n", "/d": ""}, `/c:1: reading included folder /d: not a folder`},
		{"cycle of one", map[string]string{"/c": "[s]\ninclude /c\n"}, `/c:2: include cycle: /c -> /c`},
		{"cycle of three", map[string]string{"/c": "include /d\n", "/d": "\ninclude /e\n", "/e": "include /c\n"}, `/e:1: include cycle: /c -> /d -> /e -> /c`},
		{"cycle through a folder", map[string]string{"/d/x.conf": "includedir /d\n"}, `/d/x.conf:1: include cycle: /d/x.conf -> /d/x.conf`},
		{"module", map[string]string{"/c": "module /lib/x.so:rest\n"}, `/c:1: "module" directives load shared objects`},
		{"zero byte", map[string]string{"/c": "[s]\n a\x00 = 1\n"}, `/c: contains a zero byte`},
		{"too large", map[string]string{"/c": strings.Repeat("#", maxFileSize+1)}, `/c: larger than 1048576 bytes`},
		{"nested too deep", map[string]string{"/c": "[s]\n" + strings.Repeat("a = {\n", maxNesting+1)}, `/c:34: braces nested more than 32 deep`},
		{"bad duration", map[string]string{"/c": "[libdefaults]\n ticket_lifetime = long\n"}, `/c:2: ticket_lifetime: "long" is not a duration`},
		{"negative duration", map[string]string{"/c": "[libdefaults]\n clockskew = -5m\n"}, `/c:2: clockskew: must not be negative`},
		{"bad number", map[string]string{"/c": "[libdefaults]\n udp_preference_limit = 1k\n"}, `/c:2: udp_preference_limit: "1k" is not a number`},
		{"bad value for one realm", map[string]string{"/c": "[libdefaults]\n R = {\n  ticket_lifetime = x\n }\n"}, `/c:3: ticket_lifetime: "x" is not a duration`},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			name := "/c"
			if tt.files["/c"] == "" {
				name = "/d/x.conf"
			}
			_, err := Load(mapOpener(tt.files), name)
			if _, ok := errors.AsType[*Error](err); !ok {
				t.Fatalf("error %v is no *Error", err)
			}
			if !strings.HasPrefix(err.Error(), tt.want) {
				t.Errorf("error %q, want %q", err, tt.want)
			}
		})
	}
}

func TestLoadBoundsInclusion(t *testing.T) {
	chain := make(map[string]string)
	for i := range maxInclusion + 2 {
		chain[fmt.Sprintf("/%d", i)] = fmt.Sprintf("include /%d\n", i+1)
	}
	if _, err := Load(mapOpener(chain), "/0"); err == nil || !strings.Contains(err.Error(), "deep") {
		t.Errorf("a long chain of includes: %v", err)
	}
	// Each file includes the next twice: 2^16 readings, if nothing counted them.
	fan := make(map[string]string)
	for i := range maxInclusion {
		fan[fmt.Sprintf("/%d", i)] = strings.Repeat(fmt.Sprintf("include /%d\n", i+1), 2)
	}
	fan[fmt.Sprintf("/%d", maxInclusion)] = ""
	if _, err := Load(mapOpener(fan), "/0"); err == nil || !strings.Contains(err.Error(), "more than 1024 files") {
		t.Errorf("a fan of includes: %v", err)
	}
	large := map[string]string{"/big": strings.Repeat("#", maxFileSize), "/c": strings.Repeat("include /big\n", 9)}
	if _, err := Load(mapOpener(large), "/c"); err == nil || !strings.Contains(err.Error(), "larger than 8388608 bytes") {
		t.Errorf("large includes: %v", err)
	}
}

func TestLoadWithoutAnyFileSaysWhich(t *testing.T) {
	_, err := Load(mapOpener(nil), "/etc/krb5.conf")
	if !errors.Is(err, fs.ErrNotExist) || !strings.Contains(err.Error(), "/etc/krb5.conf") {
		t.Errorf("error %v", err)
	}
	if _, err := Load(nil); err == nil {
		t.Error("no error without names")
	}
}

func TestLoadReadsTheSystemsFiles(t *testing.T) {
	dir := t.TempDir()
	write := func(name, text string) string {
		name = filepath.Join(dir, name)
		must.Do(t, os.WriteFile(name, []byte(text), 0o600))
		return name
	}
	must.Do(t, os.MkdirAll(filepath.Join(dir, "conf.d", "folder"), 0o700))
	write("conf.d/one.conf", "[libdefaults]\n default_realm = ONE\n")
	name := write("krb5.conf", "includedir "+filepath.ToSlash(filepath.Join(dir, "conf.d"))+"\n")
	c := must.OK(Load(nil, name))(t)
	if c.LibDefaults.DefaultRealm != "ONE" || len(c.Files) != 2 || !slices.Contains(c.Files, name) {
		t.Errorf("realm %q of files %q", c.LibDefaults.DefaultRealm, c.Files)
	}
}

func TestParseRefusesIncludes(t *testing.T) {
	if _, err := Parse([]byte("include /etc/krb5.conf\n")); err == nil {
		t.Error("no error")
	}
}

func TestLoad_Warnings(t *testing.T) {
	tests := []struct{ text, want string }{
		{"\ufeff[libdefaults]\n default_realm = A\n", "krb5.conf:1: the first section header is ignored because a byte order mark"},
		{"# c\n [libdefaults]\n default_realm = A\n", "krb5.conf:2: the first section header is ignored because it is indented"},
		{"[realms]\n X = { kdc = k1 }\n", `krb5.conf:2: ignored: in [realms] write "X = {"`},
		{"[libdefaults]\n canonicalize = true # why\n", `krb5.conf:2: canonicalize: "true # why" is neither true nor false and counts as false`},
	}
	for _, tt := range tests {
		c := must.OK(Parse([]byte(tt.text)))(t)
		if len(c.Warnings) != 1 || !strings.HasPrefix(c.Warnings[0].Error(), tt.want) {
			t.Errorf("%q: warnings %v, want %q", tt.text, c.Warnings, tt.want)
		}
		if c.LibDefaults.DefaultRealm != "" || c.LibDefaults.Canonicalize != nil && *c.LibDefaults.Canonicalize || len(c.Realms) != 0 {
			t.Errorf("%q: read what MIT ignores", tt.text)
		}
	}
}
