package windows

import (
	"fmt"
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
// permissions, time and Windows itself. All others do with CADDY_NEGOTIATE_LONG=1.
var always = []string{"internal/secretfile", "internal/sspi", "krb5core/keytab", "krb5core/ccache"}

// leftOut are packages, and tests of packages, that do not run as Windows programs under Wine, with
// the reason. "" is the whole package.
var leftOut = map[string]map[string]string{}

var counted = regexp.MustCompile(`(?m)^\s*--- (PASS|FAIL|SKIP)`)

// The unit tests run as programs for Windows.
func TestUnitTests(t *testing.T) {
	lab.Require(t, lab.Emulator)
	w := lab.SharedWine(t)
	packages := always
	if os.Getenv("CADDY_NEGOTIATE_LONG") != "" {
		packages = allPackages(t)
	}
	sum := make(map[string]int)
	ran := 0
	for _, pkg := range packages {
		if reason, ok := leftOut[pkg][""]; ok {
			t.Logf("not run: %s (%s)", pkg, reason)
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
		out, err := w.RunIn(filepath.Join(root(t), pkg), []string{"TMP=C:\\windows\\temp"}, exe, args...)
		counts := make(map[string]int)
		for _, m := range counted.FindAllStringSubmatch(out, -1) {
			counts[m[1]]++
			sum[m[1]]++
		}
		ran++
		t.Logf("%s: %d passed, %d failed, %d skipped, left out: %d", pkg, counts["PASS"], counts["FAIL"], counts["SKIP"], len(leftOut[pkg]))
		if err != nil || counts["PASS"] == 0 {
			t.Errorf("%s: %v\n%s", pkg, err, failures(out))
		}
	}
	t.Logf("%d packages, %d tests passed, %d failed, %d skipped", ran, sum["PASS"], sum["FAIL"], sum["SKIP"])
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

// failures is what failed tests printed.
func failures(out string) string {
	var b strings.Builder
	for block := range strings.SplitSeq(out, "=== RUN") {
		if strings.Contains(block, "--- FAIL") || strings.Contains(block, "panic:") {
			fmt.Fprintln(&b, block[:min(len(block), 3000)])
		}
	}
	return b.String()
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
