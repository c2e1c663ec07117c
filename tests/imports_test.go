// Package tests holds what concerns the module as a whole.
package tests

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"strings"
	"testing"
)

const module = "github.com/caddy-negotiate/caddy-negotiate"

// A room is what a package may import beside the standard library.
type room struct {
	ours   []string // packages of ours; "x/..." is all below x
	theirs []string // the same of other modules; "..." is anything
}

var (
	crypto   = []string{"golang.org/x/crypto/..."}
	pdus     = []string{"krb5core/messages", "krb5core/enctype", "internal/der"}
	anything = []string{"..."}
)

// house says who may import whom: left may use right, never back.
var house = map[string]room{
	"internal/der":      {theirs: crypto},
	"krb5core/enctype":  {theirs: crypto},
	"krb5core/krb5conf": {},
	"krb5core/messages": {ours: []string{"krb5core/enctype", "internal/der"}, theirs: crypto},
	"krb5core/kdc":      {ours: []string{"internal/der"}, theirs: []string{"golang.org/x/..."}},
	"krb5core/spake":    {ours: pdus, theirs: []string{"filippo.io/..."}},
	"krb5core/exchange": {ours: append([]string{"krb5core/spake"}, pdus...), theirs: crypto},
	"krb5core/gss":      {ours: pdus, theirs: crypto},
	"krb5core/keytab":   {ours: pdus, theirs: crypto},
	"krb5core/ccache":   {ours: pdus, theirs: crypto},
	"krb5core":          {ours: []string{"krb5core/..."}, theirs: []string{"golang.org/x/..."}},
	"cache":             {theirs: []string{"golang.org/x/..."}},
	"negotiate/spnego":  {ours: []string{"internal/der"}, theirs: crypto},
	"negotiate": {
		// messages, enctype and exchange for the types in krb5core's own API: KDCs and krb5.conf are its business
		ours: []string{
			"negotiate/spnego", "krb5core", "krb5core/gss", "krb5core/keytab", "krb5core/ccache",
			"krb5core/messages", "krb5core/enctype", "krb5core/exchange", "cache",
		},
		theirs: []string{"golang.org/x/..."},
	},
	".":             {ours: []string{"negotiate/...", "krb5core/...", "cache"}, theirs: anything},
	"cmd/...":       {ours: []string{"."}, theirs: anything},
	"examples/...":  {ours: []string{".", "examples/...", "tests/kdctest"}, theirs: anything},
	"tests/kdctest": {ours: []string{"krb5core/...", "negotiate/spnego", "internal/der"}, theirs: []string{"golang.org/x/..."}},
	"tests/lab":     {},
}

// caddys come into the house by its root only, be it by detours.
var caddys = []string{
	"github.com/caddyserver/...", "go.uber.org/zap/...", "github.com/prometheus/...",
}

// banned modules are nobody's, not even a test's: tests/bench is a module of
// its own to measure against them.
var banned = []string{"github.com/jcmturner/...", "github.com/go-krb5/..."}

// listed is what go list says of a package.
type listed struct {
	ImportPath                         string
	Imports, TestImports, XTestImports []string
	Deps                               []string
}

func TestImportDirections(t *testing.T) {
	packages, err := list("./...")
	if err != nil {
		t.Fatal(err)
	}
	if len(packages) < len(house)/2 {
		t.Fatalf("go list names %d packages only", len(packages))
	}
	for _, p := range packages {
		for _, fault := range faults(p) {
			t.Error(fault)
		}
	}
}

func list(pattern string) ([]listed, error) {
	cmd := exec.Command("go", "list", "-json=ImportPath,Imports,TestImports,XTestImports,Deps", pattern)
	cmd.Dir = ".."
	var complaints bytes.Buffer
	cmd.Stderr = &complaints
	out, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("go list: %w\n%s", err, complaints.String())
	}
	var packages []listed
	for d := json.NewDecoder(bytes.NewReader(out)); ; {
		var p listed
		if err := d.Decode(&p); errors.Is(err, io.EOF) {
			return packages, nil
		} else if err != nil {
			return nil, err
		}
		packages = append(packages, p)
	}
}

// faults are the imports that a package may not have.
func faults(p listed) []string {
	var found []string
	fault := func(format string, args ...any) { found = append(found, fmt.Sprintf(format, args...)) }
	for _, i := range concat(p.Imports, p.TestImports, p.XTestImports, p.Deps) {
		if matches(banned, i) {
			fault("%s imports %s, which is nobody's", p.ImportPath, i)
		}
	}
	name := ours(p.ImportPath)
	r, ok := roomOf(name)
	if !ok {
		if !strings.HasPrefix(name, "tests") { // what only tests may import what they test
			fault("%s has no place in the table of rooms", p.ImportPath)
		}
		return found
	}
	for _, i := range p.Imports {
		switch own := ours(i); {
		case own != "" && !matches(r.ours, own):
			fault("%s may not import %s", p.ImportPath, i)
		case own == "" && outside(i) && !matches(r.theirs, i):
			fault("%s may not import %s", p.ImportPath, i)
		}
	}
	if !matches(r.theirs, caddys[0]) {
		for _, d := range p.Deps {
			if matches(caddys, d) {
				fault("%s depends on %s", p.ImportPath, d)
			}
		}
	}
	return found
}

func concat(lists ...[]string) (all []string) {
	for _, l := range lists {
		all = append(all, l...)
	}
	return all
}

// roomOf is the row of a package, its own or the narrowest above it.
func roomOf(name string) (room, bool) {
	if r, ok := house[name]; ok {
		return r, true
	}
	for pattern, r := range house {
		if strings.HasSuffix(pattern, "/...") && matches([]string{pattern}, name) {
			return r, true
		}
	}
	return room{}, false
}

// ours is a package's path within the module ("." is root), or nothing.
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

// outside tells other modules' packages from the standard library's: their
// first element has a dot, as a host name has.
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

func TestImportFaultsAreSeen(t *testing.T) {
	const cache, core, exchange = module + "/cache", module + "/krb5core", module + "/krb5core/exchange"
	for name, c := range map[string]struct {
		p    listed
		want string // part of the fault, or nothing
	}{
		"as it should be":       {listed{ImportPath: core, Imports: []string{"time", exchange, "golang.org/x/sync/singleflight"}}, ""},
		"root with Caddy":       {listed{ImportPath: module, Imports: []string{core, "github.com/caddyserver/caddy/v2"}, Deps: []string{"github.com/caddyserver/caddy/v2"}}, ""},
		"a test with its peer":  {listed{ImportPath: module + "/tests/integration", Imports: []string{module, "github.com/caddyserver/caddy/v2"}}, ""},
		"back":                  {listed{ImportPath: exchange, Imports: []string{core}}, "exchange may not import"},
		"back to root":          {listed{ImportPath: core, Imports: []string{module}}, "krb5core may not import"},
		"sideways":              {listed{ImportPath: cache, Imports: []string{core}}, "cache may not import"},
		"past the client":       {listed{ImportPath: module + "/negotiate", Imports: []string{core + "/kdc"}}, "negotiate may not import"},
		"the tests' KDC":        {listed{ImportPath: module, Imports: []string{module + "/tests/kdctest"}}, "may not import"},
		"a foreign module":      {listed{ImportPath: cache, Imports: []string{"github.com/google/go-cmp/cmp"}}, "cache may not import"},
		"a neighbour's name":    {listed{ImportPath: core + "/enctype", Imports: []string{"golang.org/x/cryptography"}}, "enctype may not import"},
		"Caddy":                 {listed{ImportPath: core, Imports: []string{"go.uber.org/zap"}, Deps: []string{"go.uber.org/zap"}}, "depends on go.uber.org/zap"},
		"Caddy by a detour":     {listed{ImportPath: cache, Deps: []string{"github.com/caddyserver/certmagic"}}, "depends on github.com/caddyserver/certmagic"},
		"gokrb5":                {listed{ImportPath: module, Imports: []string{"github.com/jcmturner/gokrb5/v8/client"}}, "nobody's"},
		"gokrb5 in a test":      {listed{ImportPath: module + "/tests/integration", XTestImports: []string{"github.com/jcmturner/gokrb5/v8/client"}}, "nobody's"},
		"a room without a row":  {listed{ImportPath: module + "/utils"}, "no place"},
		"a room below a room's": {listed{ImportPath: core + "/helpers"}, "no place"},
	} {
		got := strings.Join(faults(c.p), "\n")
		if c.want == "" && got != "" || !strings.Contains(got, c.want) {
			t.Errorf("%s: faults %q, want %q", name, got, c.want)
		}
	}
}
