package faults

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	caddycmd "github.com/caddyserver/caddy/v2/cmd"

	"github.com/caddy-negotiate/caddy-negotiate/tests/caddytest"
	"github.com/caddy-negotiate/caddy-negotiate/tests/lab"
)

// actAsCaddy is the environment variable by which the test's executable is Caddy:
// with this plugin, and with a storage over Redis.
const actAsCaddy = "CADDY_NEGOTIATE_FAULTS_CADDY"

func runCaddy() {
	go func() { // not to outlive the test
		_, _ = io.Copy(io.Discard, os.Stdin)
		os.Exit(1)
	}()
	caddycmd.Main()
	os.Exit(0)
}

// process is a Caddy of its own.
type process struct {
	t       *testing.T
	cmd     *exec.Cmd
	stdin   io.Closer
	ended   chan struct{}
	address string
	log     string // its path
}

// startCaddy runs a Caddyfile in a process of its own, as the test's executable or,
// with built, as the binary that users get. It does not wait for it.
func startCaddy(t *testing.T, name, address, config string, built bool) *process {
	t.Helper()
	folder := t.TempDir()
	path := caddytest.WriteFile(t, filepath.Join(folder, "Caddyfile"), []byte(config))
	executable, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	if built && os.Getenv(lab.BinEnv) != "" {
		executable = lab.CaddyBinary(t)
	}
	log, err := os.Create(filepath.Join(folder, name+".log"))
	if err != nil {
		t.Fatal(err)
	}
	p := &process{t: t, address: address, log: log.Name(), ended: make(chan struct{})}
	p.cmd = exec.Command(executable, "run", "--config", path, "--adapter", "caddyfile")
	p.cmd.Env = append(os.Environ(), actAsCaddy+"=1", "HOME="+folder, "XDG_DATA_HOME="+folder, "XDG_CONFIG_HOME="+folder)
	p.cmd.Stdout, p.cmd.Stderr = log, log
	if p.stdin, err = p.cmd.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		_ = p.cmd.Wait()
		log.Close()
		close(p.ended)
	}()
	t.Cleanup(func() {
		p.kill()
		if t.Failed() {
			text, _ := os.ReadFile(log.Name())
			t.Logf("%s:\n%s", name, text[max(0, len(text)-4000):])
		}
	})
	return p
}

// kill ends it as the kernel's memory killer would.
func (p *process) kill() {
	_ = p.cmd.Process.Kill()
	<-p.ended
}

// ready waits until all its apps have started: the store is in force by then, which
// it is not as soon as Caddy listens.
func (p *process) ready() *process {
	p.t.Helper()
	caddytest.WaitFor(p.t, p.String()+" serves", func() bool {
		select {
		case <-p.ended:
			p.t.Fatalf("Caddy ended: %v", p.cmd.ProcessState)
		default:
		}
		text, err := os.ReadFile(p.log)
		return err == nil && bytes.Contains(text, []byte("serving initial configuration"))
	})
	return p
}

// ask requests a host of it.
func (p *process) ask(ctx context.Context, c *http.Client, host string) (caddytest.Answer, error) {
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+p.address+"/", nil)
	if err != nil {
		return caddytest.Answer{}, err
	}
	r.Host = host
	return caddytest.Ask(c, r)
}

// requireRedis is lab.Require for Redis.
func requireRedis(t *testing.T) string {
	t.Helper()
	path, err := exec.LookPath("redis-server")
	if err == nil {
		return path
	}
	text := "LEFT OUT: Redis (redis-server is not there, Debian: redis-server)"
	if os.Getenv(lab.RequirePeersEnv) == "1" {
		t.Fatal(text)
	}
	t.Skip(text)
	return ""
}

// startRedis starts a server on loopback, which keeps nothing.
func startRedis(t *testing.T) (address string, stop func()) {
	t.Helper()
	path := requireRedis(t)
	address = caddytest.FreeAddress(t)
	host, port, _ := net.SplitHostPort(address)
	cmd := exec.Command(path, "--port", port, "--bind", host, "--save", "", "--appendonly", "no", "--dir", t.TempDir())
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan struct{})
	go func() {
		_ = cmd.Wait()
		close(ended)
	}()
	stop = func() {
		_ = cmd.Process.Kill()
		<-ended
	}
	t.Cleanup(stop)
	s := &redisStorage{Address: address}
	t.Cleanup(s.close)
	caddytest.WaitFor(t, "Redis answers", func() bool {
		_, err := s.do(t.Context(), "PING")
		return err == nil
	})
	return address, stop
}

func (p *process) String() string { return fmt.Sprintf("caddy at %s", p.address) }
