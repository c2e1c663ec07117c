package lab

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// library are the places of Go's own library that Wine 8 stumbles over, and what tests are compiled
// with instead. Caddy itself is compiled as users have it.
var library = []struct{ file, old, instead string }{
	// Wine does not know how to leave out errors of unreachable networks: no datagrams at all.
	{"net/fd_windows.go", "windows.SIO_UDP_NETRESET", "syscall.SIO_UDP_CONNRESET"},
	// Files are deleted as on an older Windows, if it says that it cannot do better: Wine says that
	// with STATUS_NOT_IMPLEMENTED.
	{"internal/syscall/windows/at_windows.go", "case STATUS_INVALID_INFO_CLASS,", "case NTStatus(0xC0000002), STATUS_INVALID_INFO_CLASS,"},
}

// overlay writes the changed library into a folder, and returns the file that names it for
// go test -overlay.
func overlay(t testing.TB, dir string) string {
	t.Helper()
	goroot, err := exec.Command("go", "env", "GOROOT").Output()
	if err != nil {
		t.Fatal(err)
	}
	replace := make(map[string]string)
	for i, x := range library {
		path := filepath.Join(strings.TrimSpace(string(goroot)), "src", x.file)
		source, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if strings.Count(string(source), x.old) != 1 {
			t.Fatalf("%s has changed: there is not one %q", path, x.old)
		}
		replace[path] = filepath.Join(dir, fmt.Sprintf("library%d.go", i))
		if err := writeFile(replace[path], strings.Replace(string(source), x.old, x.instead, 1), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	list, err := json.Marshal(map[string]any{"Replace": replace})
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(dir, "overlay.json")
	if err := writeFile(file, string(list), 0o644); err != nil {
		t.Fatal(err)
	}
	return file
}
