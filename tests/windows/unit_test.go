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
	sockets = "needs Unix sockets, which Wine 8 does not have"
	links   = "needs symbolic links, which Wine 8 does not have"
)

// leftOut are the tests that Wine 8 cannot run, by package and pattern. Others skip themselves, for
// want of MIT's tools or because Windows is not what they test, and say so.
var leftOut = map[string]map[string]string{
	"internal/logging":    {"TestPacketFile_OfOthers": links},
	"internal/rotation":   {"TestChange_SymbolicLink": links},
	"internal/secretfile": {"TestReplace_KeepsModeOwnerAndLink": links},
	"krb5core/ccache":     {"TestKCM_.*": sockets},
	"krb5core/kdc":        {"TestLocalAddressIsSentFrom": "needs a second loopback address, from which Wine 8 does not send"},
	"negotiate":           {"TestKeytab_SymbolicLinkSwapped": links},
}

// The unit tests run as programs for Windows.
func TestUnitTests(t *testing.T) {
	lab.Require(t, lab.Emulator)
	w := lab.SharedWine(t)
	packages := always
	if os.Getenv("CADDY_NEGOTIATE_LONG") != "" {
		packages = allPackages(t)
	}
	total := 0
	for _, pkg := range packages {
		exe := lab.WindowsTest(t, module+"/"+pkg)
		args := []string{"-test.v", "-test.timeout=5m"}
		if names := skipped(leftOut[pkg]); names != "" {
			args = append(args, "-test.skip="+names)
		}
		out, err := w.RunIn(filepath.Join(root(t), pkg), nil, exe, args...)
		if err != nil {
			t.Errorf("%s: %v\n%s", pkg, err, failures(out))
		}
		passed := len(result.FindAllString(out, -1))
		if passed == 0 {
			t.Errorf("%s: no test passed", pkg)
		}
		total += passed
		t.Logf("%s: %d tests passed; not run: %v", pkg, passed, leftOut[pkg])
		for _, x := range skip.FindAllStringSubmatch(out, -1) {
			t.Logf("%s: not run: %s: %s", pkg, x[2], x[1])
		}
	}
	t.Logf("%d packages, %d tests passed", len(packages), total)
}

var (
	result  = regexp.MustCompile(`(?m)^--- PASS: `)
	skip    = regexp.MustCompile(`(?m)^ +\S+\.go:\d+: (?:LEFT OUT: )?(.*)\r?\n--- SKIP: (\S+)`)
	nothing = regexp.MustCompile(`^(?:=== | *--- (?:PASS|SKIP)|{|$)`)
)

// failures is the end of the output of tests without what is no failure: names of tests that passed, and
// Caddy's log.
func failures(out string) string {
	var text strings.Builder
	for line := range strings.Lines(out) {
		if !nothing.MatchString(line) {
			text.WriteString(line)
		}
	}
	return text.String()[max(0, text.Len()-8000):]
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

// The layout of the structs is checked when they are compiled, and by the double on the architecture
// that it runs on: that of 32 bit with CADDY_NEGOTIATE_LONG=1.
func TestDouble_OtherArchitectures(t *testing.T) {
	if runtime.GOOS != "linux" || runtime.GOARCH != "amd64" {
		lab.NotHere(t, "a program of 32 bit")
	}
	type row struct {
		env  []string
		args []string
	}
	rows := []row{{[]string{"GOOS=windows", "GOARCH=386"}, []string{"build", "./internal/sspi"}}}
	if os.Getenv("CADDY_NEGOTIATE_LONG") != "" {
		rows = append(rows,
			row{[]string{"GOOS=windows", "GOARCH=arm64"}, []string{"build", "./internal/sspi", "./internal/secretfile"}},
			row{[]string{"GOARCH=386"}, []string{"test", "-count=1", "./internal/sspi"}})
	}
	for _, row := range rows {
		cmd := exec.Command("go", row.args...)
		cmd.Dir = root(t)
		cmd.Env = append(append(os.Environ(), "CGO_ENABLED=0", "CADDY_NEGOTIATE_LONG="), row.env...)
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Errorf("%v go %v: %v\n%s", row.env, row.args, err, out)
		}
	}
}
