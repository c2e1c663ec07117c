package lab

import (
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"sync"
	"testing"
)

// Host returns the loopback address of this test process, so that concurrent test
// processes do not share ports. 127.64.0.0/10 has an address for every pid.
var Host = sync.OnceValue(func() string {
	pid := os.Getpid()
	ip := net.IPv4(127, byte(64|pid>>16&63), byte(pid>>8), byte(pid))
	l, err := net.Listen("tcp4", net.JoinHostPort(ip.String(), "0"))
	if err != nil { // only Linux has all of 127.0.0.0/8
		return "127.0.0.1"
	}
	l.Close()
	return ip.String()
})

var ports struct {
	sync.Mutex
	used map[int]bool
}

// FreePort returns a port of [Host] that is free for UDP and TCP. It returns each port
// once.
func FreePort(t testing.TB) int {
	t.Helper()
	port, err := freePort()
	if err != nil {
		t.Fatal(err)
	}
	return port
}

func freePort() (int, error) {
	ports.Lock()
	defer ports.Unlock()
	for range 100 {
		l, err := net.Listen("tcp4", net.JoinHostPort(Host(), "0"))
		if err != nil {
			return 0, err
		}
		port := l.Addr().(*net.TCPAddr).Port
		u, err := net.ListenPacket("udp4", net.JoinHostPort(Host(), strconv.Itoa(port)))
		l.Close()
		if err != nil {
			continue
		}
		u.Close()
		if ports.used[port] {
			continue
		}
		if ports.used == nil {
			ports.used = make(map[int]bool)
		}
		ports.used[port] = true
		return port, nil
	}
	return 0, fmt.Errorf("no free port on %s", Host())
}

// remover is a shell that waits for the end of this process, even if it is killed, and
// then removes the directories written to its input.
var remover = sync.OnceValues(func() (io.Writer, error) {
	cmd := exec.Command("/bin/sh", "-c", `
		set --
		while read -r dir; do set -- "$@" "$dir"; done
		tries=50 # a daemon may still be writing its last line
		until rm -rf -- "$@" 2>/dev/null || [ "$tries" = 0 ]; do tries=$((tries - 1)); sleep 0.1; done`)
	cmd.SysProcAttr = newSession()
	cmd.Dir = "/"
	w, err := cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	return w, cmd.Start()
})

// newDir makes a temporary directory that other users may enter, because Apache's
// workers are not root. (They may not enter the parent of t.TempDir.)
func newDir(name string) (string, error) {
	dir, err := os.MkdirTemp("", "lab-"+name+"-")
	if err != nil {
		return "", err
	}
	if w, err := remover(); err == nil {
		fmt.Fprintln(w, dir)
	}
	if dir, err = filepath.EvalSymlinks(dir); err != nil {
		return "", err
	}
	return dir, os.Chmod(dir, 0o755)
}

// testDir is newDir, removed when the test ends.
func testDir(t testing.TB, name string) string {
	t.Helper()
	dir, err := newDir(name)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			t.Errorf("cleaning up: %v", err)
		}
	})
	return dir
}

func writeFile(path, text string, mode os.FileMode) error {
	if err := os.WriteFile(path, []byte(text), mode); err != nil {
		return err
	}
	return os.Chmod(path, mode) // whatever the umask is
}
