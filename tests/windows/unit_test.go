package windows

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/caddy-negotiate/caddy-negotiate/tests/lab"
	"github.com/caddy-negotiate/caddy-negotiate/tests/must"
)

const module = "github.com/caddy-negotiate/caddy-negotiate"

// always are the packages whose tests run as Windows programs in every run: those that touch files,
// permissions and Windows itself. All others do with CADDY_NEGOTIATE_LONG=1.
var always = []string{"internal/secretfile", "internal/sspi", "krb5core/keytab", "krb5core/ccache"}

// The reasons for which tests are left out.
const (
	datagrams = "needs datagrams, which Wine 8 does not have for Go"
	sockets   = "needs Unix sockets, which Wine 8 does not have"
	unixPaths = "names files as on Unix"
	unixUsers = "needs the number of a user"
)

// leftOut are packages, and tests of packages, that do not run as Windows programs under Wine. "" is
// the whole package.
var leftOut = map[string]map[string]string{
	".":                     {"": datagrams},
	"internal/adminapi":     {"": datagrams},
	"internal/command":      {"": datagrams},
	"internal/connections":  {"": datagrams},
	"internal/identitypool": {"": datagrams},
	"internal/logging":      {"": datagrams},
	"internal/session":      {"": datagrams},
	"internal/signin":       {"": datagrams},
	"internal/ticketstore":  {"": datagrams},
	"krb5core":              {"": datagrams},
	"krb5core/kdc":          {"": datagrams},
	"negotiate":             {"": datagrams},
	"negotiate/accept":      {"": datagrams},
	"internal/sspi":         {"TestPlatform_.*": datagrams},
	"krb5core/ccache": {
		"TestKCM_.*": sockets, "TestKeyring_Read": unixUsers, "TestOpen_Names": unixPaths, "TestDir": unixPaths,
		"TestMarshal_MITReads": "needs MIT's klist", "TestDefaultName": unixPaths,
	},
	"krb5core/keytab":     {"Test.*MIT.*|TestParse_Ktutil": "needs MIT's tools"},
	"internal/secretfile": {"TestReplace_KeepsModeOwnerAndLink": "needs symbolic links"},
}

// The unit tests run as programs for Windows.
func TestUnitTests(t *testing.T) {
	lab.Require(t, lab.Emulator)
	w := lab.SharedWine(t)
	packages := always
	if os.Getenv("CADDY_NEGOTIATE_LONG") != "" {
		packages = allPackages(t)
	}
	ran, passed := 0, 0
	for _, pkg := range packages {
		if reason, ok := leftOut[pkg][""]; ok {
			t.Logf("%s: not run: %s", pkg, reason)
			continue
		}
		exe := lab.WindowsTest(t, module+"/"+pkg)
		if exe == "" {
			continue
		}
		args := []string{"-test.v", "-test.timeout=5m"}
		if names := skipped(leftOut[pkg]); names != "" {
			args = append(args, "-test.skip="+names)
		}
		out, err := w.RunIn(filepath.Join(root(t), pkg), nil, exe, args...)
		n, failed := results(out)
		ran, passed = ran+1, passed+n
		t.Logf("%s: %d tests passed; not run: %v", pkg, n, leftOut[pkg])
		for name, text := range failed {
			t.Errorf("%s: %s failed\n%s", pkg, name, text)
		}
		if n == 0 || strings.Contains(out, "panic:") {
			t.Errorf("%s: %v\n%s", pkg, err, out[max(0, len(out)-2000):])
		}
	}
	t.Logf("%d packages, %d tests passed", ran, passed)
}

var (
	started = regexp.MustCompile(`^=== (?:RUN|NAME|CONT) +(\S+)`)
	ended   = regexp.MustCompile(`^ *--- (PASS|FAIL): (\S+)`)
	logged  = regexp.MustCompile(`^ +\S+\.go:\d+: `)
)

// cleanup is what fails after every test with a temporary folder: Wine 8 does not know the call by
// which Go deletes files there.
const cleanup = "TempDir RemoveAll cleanup:"

// results reads the output of tests: how many passed, not counting parts, and what the others printed.
func results(out string) (passed int, failed map[string]string) {
	text, bad, current := make(map[string]string), make(map[string]bool), ""
	failed = make(map[string]string)
	for line := range strings.Lines(out) {
		if m := started.FindStringSubmatch(line); m != nil {
			current = m[1]
		} else if m := ended.FindStringSubmatch(line); m != nil {
			top := !strings.Contains(m[2], "/")
			switch {
			case m[1] == "FAIL" && bad[m[2]]:
				failed[m[2]] = text[m[2]]
			case top:
				passed++
			}
		} else if logged.MatchString(line) && !strings.Contains(line, cleanup) {
			text[current] += line
			bad[current] = true
		}
	}
	return passed, failed
}

// skipped is a pattern of the tests that are left out.
func skipped(tests map[string]string) string {
	var names []string
	for name := range tests {
		names = append(names, "^"+name+"$")
	}
	slices.Sort(names)
	return strings.Join(names, "|")
}

func root(t *testing.T) string {
	t.Helper()
	return must.OK(filepath.Abs("../.."))(t)
}

// allPackages are those with tests of their own, without the tests of the whole.
func allPackages(t *testing.T) []string {
	t.Helper()
	cmd := exec.Command("go", "list", "-f", "{{if or .TestGoFiles .XTestGoFiles}}{{.ImportPath}}{{end}}", "./...")
	cmd.Dir = root(t)
	var all []string
	for line := range strings.Lines(string(must.OK(cmd.Output())(t))) {
		name := strings.TrimPrefix(strings.TrimSpace(line), module)
		if name = strings.TrimPrefix(name, "/"); name == "" {
			name = "."
		}
		if !strings.HasPrefix(name, "tests") && !strings.HasPrefix(name, "examples") {
			all = append(all, name)
		}
	}
	return all
}

// The double checks the layout of the architecture that it runs on. That of arm64 is checked when
// it is compiled.
func TestDouble_OtherArchitectures(t *testing.T) {
	if runtime.GOOS != "linux" || runtime.GOARCH != "amd64" {
		lab.NotHere(t, "a program of 32 bit")
	}
	for _, row := range []struct {
		env  []string
		args []string
	}{
		{[]string{"GOARCH=386"}, []string{"test", "-count=1", "./internal/sspi"}},
		{[]string{"GOOS=windows", "GOARCH=386"}, []string{"build", "./internal/sspi", "./internal/secretfile"}},
		{[]string{"GOOS=windows", "GOARCH=arm64"}, []string{"build", "./internal/sspi", "./internal/secretfile"}},
	} {
		cmd := exec.Command("go", row.args...)
		cmd.Dir = root(t)
		cmd.Env = append(append(os.Environ(), "CGO_ENABLED=0", "CADDY_NEGOTIATE_LONG="), row.env...)
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Errorf("%v go %v: %v\n%s", row.env, row.args, err, out)
		}
	}
}
