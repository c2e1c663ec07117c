package lab

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// Emulator is Wine, which runs 64 bit programs for Windows, and the compiler of the one library
// that it lacks.
var Emulator = Peer{name: "Wine", packages: "wine64 gcc-mingw-w64-x86-64", needs: []string{wineGlob, wineServerGlob, mingw}}

const (
	wineGlob       = "/usr/lib/wine/wine64"
	wineServerGlob = "/usr/lib/wine/wineserver64"
	mingw          = "x86_64-w64-mingw32-gcc"
)

// Wine is a Windows: a folder with drive C:, in which programs for Windows run.
type Wine struct {
	dir string
	env []string
}

var sharedWine = sync.OnceValues(newWine)

// SharedWine returns the Windows of this test process. The first call makes it in about five
// seconds. It ends with its last program.
func SharedWine(t testing.TB) *Wine {
	t.Helper()
	Require(t, Emulator)
	w, err := sharedWine()
	if err != nil {
		t.Fatal(err)
	}
	return w
}

// primitives is the library that Go programs take random numbers from, which Wine 8 does not
// have.
const primitives = `#include <windows.h>
BOOLEAN NTAPI SystemFunction036(PVOID, ULONG);
__declspec(dllexport) BOOL WINAPI ProcessPrng(PBYTE b, SIZE_T n) { return SystemFunction036(b, (ULONG)n); }
BOOL WINAPI DllMain(HINSTANCE h, DWORD r, LPVOID p) { return TRUE; }
`

func newWine() (*Wine, error) {
	dir, err := newDir("wine")
	if err != nil {
		return nil, err
	}
	w := &Wine{dir: dir}
	w.env = environment(dir, "WINEPREFIX="+filepath.Join(dir, "prefix"), "WINEDEBUG=-all", "WINEDLLOVERRIDES=mscoree,mshtml=")
	if _, err := run(w.env, dir, "", "sh", command("wineboot", []string{"-i"})...); err != nil {
		return nil, err
	}
	source := filepath.Join(dir, "bcryptprimitives.c")
	if err := writeFile(source, primitives, 0o644); err != nil {
		return nil, err
	}
	library := filepath.Join(w.DriveC(), "windows", "system32", "bcryptprimitives.dll")
	if _, err := run(environment(dir), dir, "", mingw, "-shared", "-O2", "-o", library, source, "-ladvapi32"); err != nil {
		return nil, err
	}
	return w, nil
}

// DriveC is the folder of drive C:.
func (w *Wine) DriveC() string { return filepath.Join(w.dir, "prefix", "drive_c") }

// Path is how programs for Windows name a file: on drive C: if it is there, else on Z:, which is
// the whole file system.
func (w *Wine) Path(file string) string {
	drive := "Z:"
	if below, ok := strings.CutPrefix(file, w.DriveC()+"/"); ok {
		drive, file = "C:", "/"+below
	}
	return drive + strings.ReplaceAll(file, "/", `\`)
}

// command is a shell's, that runs a program for Windows. Its files are for its user alone, as they
// are in a user's folder on Windows.
func command(program string, args []string) []string {
	return append([]string{"-c", `umask 077 && exec "$0" "$@"`, wineGlob, program}, args...)
}

// Run runs a program, which is a file or a program of Windows itself (sc, icacls), and returns
// what it prints.
func (w *Wine) Run(env []string, program string, args ...string) (string, error) {
	return w.RunIn(w.dir, env, program, args...)
}

// RunIn is Run in a folder.
func (w *Wine) RunIn(dir string, env []string, program string, args ...string) (string, error) {
	return run(slices.Concat(w.env, env), dir, "", "sh", command(program, args)...)
}

// WineProcess is a running program for Windows.
type WineProcess struct {
	proc *process
	log  string
}

// Start starts a program whose output goes to the file log. It ends with the test.
func (w *Wine) Start(t testing.TB, log string, env []string, program string, args ...string) *WineProcess {
	t.Helper()
	proc, err := start(log, slices.Concat(w.env, env), "sh", command(program, args)...)
	if err != nil {
		t.Fatal(err)
	}
	p := &WineProcess{proc, log}
	t.Cleanup(p.Stop)
	return p
}

// Ready waits until the program has printed a text.
func (p *WineProcess) Ready(t testing.TB, text string) {
	t.Helper()
	err := p.proc.ready(2*time.Minute, text, func() bool { return strings.Contains(p.Output(t), text) })
	if err != nil {
		t.Fatal(err)
	}
}

// Output is what the program has printed.
func (p *WineProcess) Output(t testing.TB) string {
	t.Helper()
	text, err := os.ReadFile(p.log)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// Usage is how much memory the program takes, in bytes, and how many files it has open.
func (p *WineProcess) Usage(t testing.TB) (memory int64, files int) {
	t.Helper()
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", p.proc.cmd.Process.Pid))
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(status)) {
		if size, ok := strings.CutPrefix(line, "VmRSS:"); ok {
			if _, err := fmt.Sscanf(size, "%d kB", &memory); err != nil {
				t.Fatal(err)
			}
		}
	}
	open, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", p.proc.cmd.Process.Pid))
	if err != nil {
		t.Fatal(err)
	}
	return memory << 10, len(open)
}

// Stop ends the program.
func (p *WineProcess) Stop() { p.proc.stop() }

// WindowsTest builds the tests of a package for Windows.
func WindowsTest(t testing.TB, pkg string) string {
	t.Helper()
	dir := testDir(t, "exe")
	path := filepath.Join(dir, filepath.Base(pkg)+".test.exe")
	BuildWindows(t, path, "test", "-c", "-overlay="+overlay(t, dir), pkg)
	return path
}

// BuildWindows runs a command of go that makes an executable for Windows: build, or test -c.
func BuildWindows(t testing.TB, path, command string, args ...string) {
	t.Helper()
	cmd := exec.Command("go", append([]string{command, "-o", path}, args...)...)
	cmd.Env = append(os.Environ(), "GOOS=windows", "GOARCH=amd64", "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("go %s %v: %v\n%s", command, args, err, out)
	}
}

// String names the Windows, for messages.
func (w *Wine) String() string { return fmt.Sprintf("Wine in %s", w.dir) }
