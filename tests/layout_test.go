// Package tests checks what concerns the module as a whole: which package may import
// which, and how large a package may be.
package tests

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

const module = "github.com/caddy-negotiate/caddy-negotiate"

// imports is what a package may import beside the standard library.
type imports struct {
	ours   []string // packages of this module; "x/..." is x and all below
	theirs []string // the same of other modules; "..." is any
}

var (
	crypto   = []string{"golang.org/x/crypto/..."}
	x        = []string{"golang.org/x/..."}
	pdus     = []string{"krb5core/messages", "krb5core/enctype", "internal/der"}
	core     = []string{"krb5core/...", "negotiate/...", "cache"}
	anything = []string{"..."}
)

// allowed has a row for each package of the product and for what it must not import:
// the packages that only tests and examples use.
var allowed = map[string]imports{
	"internal/der":              {theirs: crypto},
	"internal/secretfile":       {theirs: x},
	"internal/sspi":             {theirs: x},
	"krb5core/internal/filefmt": {},
	"krb5core/enctype":          {theirs: crypto},
	"krb5core/krb5conf":         {},
	"krb5core/messages":         {ours: []string{"krb5core/enctype", "internal/der"}, theirs: crypto},
	"krb5core/kdc":              {ours: []string{"krb5core/messages", "internal/der"}, theirs: x},
	"krb5core/exchange/spake":   {ours: pdus, theirs: []string{"filippo.io/..."}},
	"krb5core/pac":              {ours: pdus, theirs: crypto},
	"krb5core/pkinit":           {ours: pdus, theirs: []string{"filippo.io/..."}},
	"krb5core/kpasswd":          {ours: pdus, theirs: crypto},
	"krb5core/exchange":         {ours: append([]string{"krb5core/exchange/spake", "krb5core/pac", "krb5core/pkinit"}, pdus...), theirs: crypto},
	"krb5core/gss":              {ours: pdus, theirs: crypto},
	"krb5core/keytab":           {ours: append([]string{"krb5core/internal/filefmt"}, pdus...), theirs: crypto},
	"krb5core/ccache":           {ours: append([]string{"krb5core/internal/filefmt", "internal/secretfile"}, pdus...), theirs: x},
	"krb5core":                  {ours: []string{"krb5core/..."}, theirs: x},
	"cache":                     {theirs: x},
	"negotiate/spnego":          {ours: []string{"internal/der"}, theirs: crypto},
	"negotiate/httpauth":        {ours: []string{"krb5core/gss"}},
	"negotiate/certfile":        {ours: []string{"internal/secretfile", "krb5core/pkinit"}, theirs: []string{"software.sslmate.com/..."}},
	"negotiate/gmsa":            {ours: []string{"internal/der", "krb5core", "krb5core/exchange", "krb5core/messages"}, theirs: crypto},
	"negotiate/accept":          {ours: []string{"negotiate/spnego", "krb5core/gss", "krb5core/pac", "krb5core/messages", "krb5core/enctype"}},
	"negotiate/candidate":       {},
	"negotiate":                 {ours: []string{"negotiate/...", "internal/secretfile", "internal/sspi", "krb5core", "krb5core/gss", "krb5core/keytab", "krb5core/ccache", "krb5core/messages", "krb5core/enctype", "krb5core/exchange", "krb5core/pkinit", "cache"}, theirs: append([]string{"software.sslmate.com/..."}, x...)},
	"internal/diagnosis":        {ours: append([]string{"internal/sspi"}, core...), theirs: x},
	"internal/connections":      {theirs: anything},
	"internal/signin":           {ours: core, theirs: anything},
	"internal/config":           {ours: append([]string{"internal/secretfile", "internal/signin", "internal/sspi"}, core...), theirs: anything},
	"internal/metrics":          {ours: core, theirs: []string{"github.com/prometheus/..."}},
	"internal/logging":          {ours: append([]string{"internal/diagnosis", "internal/metrics"}, core...), theirs: anything},
	"internal/ticketstore":      {ours: core, theirs: anything},
	"internal/session/cookie":   {ours: []string{"krb5core/messages", "krb5core/pac", "negotiate/accept"}},
	"internal/session":          {ours: append([]string{"internal/session/cookie", "internal/config", "internal/signin", "internal/ticketstore"}, core...), theirs: anything},
	"internal/rotation":         {ours: append([]string{"internal/logging", "internal/secretfile"}, core...), theirs: anything},
	"internal/identitypool":     {ours: append([]string{"internal/config", "internal/logging", "internal/metrics", "internal/rotation", "internal/ticketstore"}, core...), theirs: anything},
	"internal/version":          {},
	"internal/adminapi":         {ours: append([]string{"internal/identitypool", "internal/diagnosis", "internal/version"}, core...), theirs: anything},
	"internal/command":          {ours: append([]string{"internal/..."}, core...), theirs: anything},
	".":                         {ours: append([]string{"internal/..."}, core...), theirs: anything},
	"cmd/...":                   {ours: []string{"."}, theirs: anything},
	"examples/...":              {ours: []string{".", "examples/...", "tests/kdctest"}, theirs: anything},
	"tests/filetest":            {ours: []string{"krb5core/messages", "tests/must", "tests/vectors"}, theirs: []string{"github.com/google/go-cmp/..."}},
	"tests/kdctest":             {ours: []string{"krb5core/...", "negotiate/accept", "negotiate/spnego", "internal/der"}, theirs: x},
	"tests/lab":                 {},
	"tests/must":                {},
	"tests/vectors":             {},
}

// caddys are the modules that packages below the plugin must not depend on, by any path.
var caddys = []string{"github.com/caddyserver/...", "go.uber.org/zap/...", "github.com/prometheus/..."}

// banned modules may not be imported at all, not even by a test: tests/bench is a module
// of its own to measure against them.
var banned = []string{"github.com/jcmturner/...", "github.com/go-krb5/..."}

// listed is what go list says of a package.
type listed struct {
	Dir, ImportPath                    string
	GoFiles                            []string
	Imports, TestImports, XTestImports []string
	Deps                               []string
}

func TestLayout_ImportDirections(t *testing.T) {
	for _, p := range list(t) {
		for _, fault := range faults(p) {
			t.Error(fault)
		}
	}
}

// Bounds of a package, without tests: files and lines.
const (
	mostFiles, mostLines         = 20, 4000
	mostRootFiles, mostRootLines = 14, 3000
)

// unbounded packages have one file for each message or step of a protocol.
var unbounded = []string{"krb5core/messages", "krb5core/kdc"}

func TestLayout_SizesOfPackages(t *testing.T) {
	for _, p := range list(t) {
		name := ours(p.ImportPath)
		if !product(name) || slices.Contains(unbounded, name) {
			continue
		}
		files, lines := mostFiles, mostLines
		if name == "." {
			files, lines = mostRootFiles, mostRootLines
		}
		n := 0
		for _, f := range p.GoFiles {
			content, err := os.ReadFile(filepath.Join(p.Dir, f))
			if err != nil {
				t.Fatal(err)
			}
			n += bytes.Count(content, []byte("\n"))
		}
		if len(p.GoFiles) > files || n > lines {
			t.Errorf("%s has %d files and %d lines; at most %d and %d", name, len(p.GoFiles), n, files, lines)
		}
	}
}

// product reports whether a package is part of the plugin.
func product(name string) bool {
	return name == "." || slices.ContainsFunc([]string{"internal/", "negotiate", "krb5core", "cache"}, func(p string) bool { return strings.HasPrefix(name, p) })
}

// Files of a package use what is declared below them: few references run back up.
func TestLayout_ReferencesRunOneWay(t *testing.T) {
	cmd := exec.Command("go", "run", "./tests/references", "-check")
	cmd.Dir = ".."
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0") // as the binaries are built: nothing is compiled once more
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("%v\n%s", err, out)
	}
}

func list(t *testing.T) []listed {
	t.Helper()
	cmd := exec.Command("go", "list", "-json=Dir,ImportPath,GoFiles,Imports,TestImports,XTestImports,Deps", "./...")
	cmd.Dir = ".."
	var complaints bytes.Buffer
	cmd.Stderr = &complaints
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("go list: %v\n%s", err, complaints.String())
	}
	var packages []listed
	for d := json.NewDecoder(bytes.NewReader(out)); ; {
		var p listed
		if err := d.Decode(&p); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			t.Fatal(err)
		}
		packages = append(packages, p)
	}
	if len(packages) < len(allowed)/2 {
		t.Fatalf("go list names only %d packages", len(packages))
	}
	return packages
}

// faults are the imports that a package may not have.
func faults(p listed) []string {
	var found []string
	fault := func(format string, args ...any) { found = append(found, fmt.Sprintf(format, args...)) }
	for _, i := range slices.Concat(p.Imports, p.TestImports, p.XTestImports, p.Deps) {
		if matches(banned, i) {
			fault("%s imports %s, which is banned", p.ImportPath, i)
		}
	}
	name := ours(p.ImportPath)
	row, ok := rowOf(name)
	if !ok {
		if !strings.HasPrefix(name, "tests") { // packages of tests may import what they test
			fault("%s has no row in the table of imports", p.ImportPath)
		}
		return found
	}
	for _, i := range p.Imports {
		switch own := ours(i); {
		case own != "" && !matches(row.ours, own):
			fault("%s may not import %s", p.ImportPath, i)
		case own == "" && outside(i) && !matches(row.theirs, i):
			fault("%s may not import %s", p.ImportPath, i)
		}
	}
	if product(name) && !strings.HasPrefix(name, "internal/") && name != "." || name == "internal/der" {
		for _, d := range p.Deps {
			if matches(caddys, d) {
				fault("%s depends on %s", p.ImportPath, d)
			}
		}
	}
	return found
}

// rowOf is the row of a package, its own or the narrowest above it.
func rowOf(name string) (imports, bool) {
	if r, ok := allowed[name]; ok {
		return r, true
	}
	for pattern, r := range allowed {
		if strings.HasSuffix(pattern, "/...") && matches([]string{pattern}, name) {
			return r, true
		}
	}
	return imports{}, false
}

// ours is a package's path within the module ("." is the root), empty for others.
func ours(path string) string {
	if path == module {
		return "."
	}
	name, ok := strings.CutPrefix(path, module+"/")
	if !ok {
		return ""
	}
	return name
}

// outside reports whether a package is another module's and not the standard library's:
// its first element has a dot, as a host name has.
func outside(path string) bool {
	host, _, _ := strings.Cut(path, "/")
	return strings.Contains(host, ".")
}

func matches(patterns []string, path string) bool {
	for _, p := range patterns {
		below, all := strings.CutSuffix(p, "...")
		if p == path || all && strings.HasPrefix(path+"/", below) {
			return true
		}
	}
	return false
}

func TestLayout_FaultsAreFound(t *testing.T) {
	const cache, core, exchange, config = module + "/cache", module + "/krb5core", module + "/krb5core/exchange", module + "/internal/config"
	for name, c := range map[string]struct {
		p    listed
		want string // part of the fault, or nothing
	}{
		"none":                        {listed{ImportPath: core, Imports: []string{"time", exchange, "golang.org/x/sync/singleflight"}}, ""},
		"root with Caddy":             {listed{ImportPath: module, Imports: []string{core, "github.com/caddyserver/caddy/v2"}, Deps: []string{"github.com/caddyserver/caddy/v2"}}, ""},
		"a test with its peer":        {listed{ImportPath: module + "/tests/integration", Imports: []string{module, "github.com/caddyserver/caddy/v2"}}, ""},
		"back":                        {listed{ImportPath: exchange, Imports: []string{core}}, "exchange may not import"},
		"back to root":                {listed{ImportPath: config, Imports: []string{module}}, "config may not import"},
		"the command line to root":    {listed{ImportPath: module + "/internal/command", Imports: []string{module}}, "command may not import"},
		"config to the pool":          {listed{ImportPath: config, Imports: []string{module + "/internal/identitypool"}}, "config may not import"},
		"sideways":                    {listed{ImportPath: cache, Imports: []string{core}}, "cache may not import"},
		"past the client":             {listed{ImportPath: module + "/negotiate", Imports: []string{core + "/kdc"}}, "negotiate may not import"},
		"the tests' KDC":              {listed{ImportPath: module, Imports: []string{module + "/tests/kdctest"}}, "may not import"},
		"another module":              {listed{ImportPath: cache, Imports: []string{"github.com/google/go-cmp/cmp"}}, "cache may not import"},
		"a name that begins the same": {listed{ImportPath: core + "/enctype", Imports: []string{"golang.org/x/cryptography"}}, "enctype may not import"},
		"Caddy":                       {listed{ImportPath: core, Imports: []string{"go.uber.org/zap"}, Deps: []string{"go.uber.org/zap"}}, "depends on go.uber.org/zap"},
		"Caddy through another":       {listed{ImportPath: cache, Deps: []string{"github.com/caddyserver/certmagic"}}, "depends on github.com/caddyserver/certmagic"},
		"gokrb5":                      {listed{ImportPath: module, Imports: []string{"github.com/jcmturner/gokrb5/v8/client"}}, "banned"},
		"gokrb5 in a test":            {listed{ImportPath: module + "/tests/integration", XTestImports: []string{"github.com/jcmturner/gokrb5/v8/client"}}, "banned"},
		"no row":                      {listed{ImportPath: module + "/utils"}, "no row"},
		"no row, below another":       {listed{ImportPath: core + "/helpers"}, "no row"},
	} {
		got := strings.Join(faults(c.p), "\n")
		if c.want == "" && got != "" || !strings.Contains(got, c.want) {
			t.Errorf("%s: faults %q, want %q", name, got, c.want)
		}
	}
}
