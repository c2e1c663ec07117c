package bench

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// child is a measured process.
type child struct {
	cmd *exec.Cmd
	log bytes.Buffer
	out *bufio.Reader
}

// build builds the program of a package.
func build(ctx context.Context, folder, name, pkg string) (string, error) {
	program := filepath.Join(folder, name)
	out, err := exec.CommandContext(ctx, "go", "build", "-o", program, pkg).CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("go build %s: %w\n%s", pkg, err, out)
	}
	return program, nil
}

// spawn starts a program. Its standard error is kept in log.
func spawn(ctx context.Context, folder, program string, args ...string) (*child, error) {
	c := &child{cmd: exec.CommandContext(ctx, program, args...)}
	c.cmd.Env = append(os.Environ(), "XDG_DATA_HOME="+folder, "XDG_CONFIG_HOME="+folder, "HOME="+folder)
	c.cmd.Stderr = &c.log
	out, err := c.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	c.out = bufio.NewReader(out)
	return c, c.cmd.Start()
}

// stop ends the process.
func (c *child) stop() {
	_ = c.cmd.Process.Kill()
	_ = c.cmd.Wait()
}

// cpu returns the processor time of the process with a resolution of a nanosecond: the
// ticks of /proc/PID/stat are too coarse for a turn.
func (c *child) cpu() (time.Duration, error) {
	// The CPU clock of another process, as returned by clock_getcpuclockid(3): the
	// complement of its pid, shifted, and CPUCLOCK_SCHED.
	clock := int32(^c.cmd.Process.Pid<<3 | 2)
	var t unix.Timespec
	if err := unix.ClockGettime(clock, &t); err != nil {
		return 0, fmt.Errorf("processor time of process %d: %w", c.cmd.Process.Pid, err)
	}
	return time.Duration(t.Nano()), nil
}

// upstreamAt starts the server, a plain one if it gets no arguments.
func upstreamAt(ctx context.Context, folder string, args ...string) (c *child, addr string, err error) {
	program, err := build(ctx, folder, "upstream", "./cmd/upstream")
	if err != nil {
		return nil, "", err
	}
	if c, err = spawn(ctx, folder, program, args...); err != nil {
		return nil, "", err
	}
	addr, err = c.out.ReadString('\n')
	if err != nil {
		c.stop()
		return nil, "", fmt.Errorf("starting the upstream: %w %s", err, c.log.String())
	}
	return c, strings.TrimSpace(addr), nil
}

// caddy is a Caddy with one site.
type caddy struct {
	*child
	addr, admin string
}

// startCaddy starts a Caddy. block is the content of the site's block.
func startCaddy(ctx context.Context, folder, program, name, block string) (*caddy, error) {
	c := &caddy{addr: freePort(), admin: freePort()}
	home := filepath.Join(folder, name)
	if err := os.MkdirAll(home, 0o700); err != nil {
		return nil, err
	}
	host, port, err := net.SplitHostPort(c.addr)
	if err != nil {
		return nil, err
	}
	file := filepath.Join(home, "Caddyfile")
	text := fmt.Sprintf("{\n\tadmin %s\n\tpersist_config off\n\tlog {\n\t\tlevel WARN\n\t}\n}\nhttp://:%s {\n\tbind %s\n%s\n}\n", c.admin, port, host, block)
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		return nil, err
	}
	if c.child, err = spawn(ctx, home, program, "run", "--adapter", "caddyfile", "--config", file); err != nil {
		return nil, err
	}
	ask, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+c.addr+"/", nil)
	if err != nil {
		return nil, err
	}
	ask.Header.Set(userHeader, userName(0)) // for those that impersonate
	for range 200 {
		response, err := http.DefaultClient.Do(ask)
		if err == nil {
			_, _ = io.Copy(io.Discard, response.Body)
			_ = response.Body.Close()
			if response.StatusCode == http.StatusOK {
				return c, nil
			}
		}
		time.Sleep(50 * time.Millisecond)
	}
	c.stop()
	return nil, fmt.Errorf("Caddy %q does not respond: %s", name, tail(c.log.String(), 2000))
}

func tail(s string, n int) string { return s[max(0, len(s)-n):] }

// profile fetches a profile of the next seconds: "profile" for processor time,
// "allocs" for allocations.
func (c *caddy) profile(kind, path string, seconds int) error {
	response, err := http.Get(fmt.Sprintf("http://%s/debug/pprof/%s?seconds=%d", c.admin, kind, seconds))
	if err != nil {
		return err
	}
	defer response.Body.Close()
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	if _, err := io.Copy(f, response.Body); err != nil {
		_ = f.Close()
		return err
	}
	return f.Close()
}
