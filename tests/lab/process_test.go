package lab

import (
	"bufio"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"
)

// A killed test process leaves neither its peers nor their files.
func TestPeersEndWithProcess(t *testing.T) {
	if os.Getenv("LAB_TEST_DIE") != "" {
		startAndDie(t)
	}
	Require(t, KDC)
	if runtime.GOOS != "linux" {
		t.Skip("only Linux ends children with their parent")
	}
	child := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^"+t.Name()+"$")
	child.Env = append(os.Environ(), "LAB_TEST_DIE=1")
	out, err := child.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	child.Stderr = os.Stderr
	if err := child.Start(); err != nil {
		t.Fatal(err)
	}
	var addr, dir string
	for lines := bufio.NewScanner(out); dir == "" && lines.Scan(); {
		if where, ok := strings.CutPrefix(lines.Text(), "started "); ok {
			addr, dir, _ = strings.Cut(where, " ")
		}
	}
	if dir == "" {
		t.Fatal("the child started nothing")
	}
	if c, err := net.Dial("tcp", addr); err != nil {
		t.Errorf("the child's KDC: %v", err)
	} else {
		c.Close()
	}
	child.Process.Kill()
	child.Wait()

	err = poll(20*time.Second, "the child's KDC and files to go", func() (bool, error) {
		c, err := net.Dial("tcp", addr)
		if err == nil {
			c.Close()
			return false, nil
		}
		_, err = os.Stat(dir)
		return os.IsNotExist(err), nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

// startAndDie is the child: it waits to be killed.
func startAndDie(t *testing.T) {
	m := StartMIT(t, MITOptions{})
	os.Stdout.WriteString("started " + m.KDC() + " " + filepath.Dir(m.Krb5Conf()) + "\n")
	select {}
}
