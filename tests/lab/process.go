package lab

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"time"
)

// process is a daemon in the foreground, in its own session.
type process struct {
	cmd  *exec.Cmd
	log  string
	done chan struct{} // closed when it has ended
	err  error         // its exit error, once done is closed
}

// spawner is a thread that lives as long as the process does: the kernel ties
// a child's death signal to the thread that forked it.
var spawner = sync.OnceValue(func() chan<- func() {
	work := make(chan func())
	go func() {
		runtime.LockOSThread()
		for f := range work {
			f()
		}
	}()
	return work
})

// start runs a daemon whose output is appended to the file log.
func start(log string, env []string, name string, args ...string) (*process, error) {
	path, ok := find(name)
	if !ok {
		return nil, fmt.Errorf("%s is not installed", name)
	}
	out, err := os.OpenFile(log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return nil, err
	}
	defer out.Close()
	p := &process{cmd: exec.Command(path, args...), log: log, done: make(chan struct{})}
	p.cmd.Env, p.cmd.Dir = env, filepath.Dir(log)
	p.cmd.Stdout, p.cmd.Stderr = out, out
	p.cmd.SysProcAttr = ownSession()
	started := make(chan error, 1)
	spawner() <- func() { started <- p.cmd.Start() }
	if err := <-started; err != nil {
		return nil, err
	}
	go func() {
		p.err = p.cmd.Wait()
		close(p.done)
	}()
	return p, nil
}

// stop terminates the process group and kills it after five seconds.
func (p *process) stop() {
	if p == nil {
		return
	}
	select {
	case <-p.done:
		return
	default:
	}
	resume(p.cmd.Process) // a paused process does not handle SIGTERM
	terminate(p.cmd.Process)
	deadline := time.NewTimer(5 * time.Second)
	defer deadline.Stop()
	select {
	case <-p.done:
	case <-deadline.C:
		kill(p.cmd.Process)
		<-p.done
	}
}

// ready waits until cond holds and fails if the process ends.
func (p *process) ready(limit time.Duration, what string, cond func() bool) error {
	return poll(limit, what, func() (bool, error) {
		select {
		case <-p.done:
			return false, fmt.Errorf("%s: %s ended: %w\n%s", what, filepath.Base(p.cmd.Path), p.err, tail(p.log))
		default:
			return cond(), nil
		}
	}, p.log)
}

// poll calls cond until it holds or fails, at most for limit. A timeout's error has the
// ends of the logs.
func poll(limit time.Duration, what string, cond func() (bool, error), logs ...string) error {
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	every := time.NewTicker(20 * time.Millisecond)
	defer every.Stop()
	for {
		if ok, err := cond(); ok || err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			var ends strings.Builder
			for _, log := range logs {
				ends.WriteString("\n" + tail(log))
			}
			return fmt.Errorf("timed out after %v waiting for %s%s", limit, what, ends.String())
		case <-every.C:
		}
	}
}

// tail returns the end of a log, for an error's text.
func tail(log string) string {
	text, err := os.ReadFile(log)
	if err != nil {
		return err.Error()
	}
	const most = 4096
	if len(text) > most {
		text = append([]byte("..."), text[len(text)-most:]...)
	}
	return log + ":\n" + string(text)
}

// run runs a program for at most five minutes (a busy machine needs one to provision
// a domain) and returns its combined output.
func run(env []string, dir, stdin, name string, args ...string) (string, error) {
	path, ok := find(name)
	if !ok {
		return "", fmt.Errorf("%s is not installed", name)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, path, args...)
	var out bytes.Buffer
	cmd.Env, cmd.Dir = env, dir
	cmd.Stdin, cmd.Stdout, cmd.Stderr = strings.NewReader(stdin), &out, &out
	err := cmd.Run()
	if ctx.Err() != nil {
		err = errors.Join(err, ctx.Err())
	}
	if err != nil {
		err = fmt.Errorf("%s %s: %w\n%s", name, strings.Join(args, " "), err, out.String())
	}
	return out.String(), err
}

// environment returns the whole environment of a child, without the user's Kerberos
// settings.
func environment(dir string, more ...string) []string {
	return append([]string{"PATH=" + searchPath, "LC_ALL=C", "TZ=UTC", "HOME=" + dir, "TMPDIR=" + dir}, more...)
}

// faketime returns the environment that shifts a process's clock by skew.
func faketime(skew time.Duration) ([]string, error) {
	if skew == 0 {
		return nil, nil
	}
	lib, ok := find(faketimeGlob)
	if !ok {
		return nil, errors.New("a skewed clock needs libfaketime, Debian: libfaketime")
	}
	return []string{"LD_PRELOAD=" + lib, fmt.Sprintf("FAKETIME=%+d", int64(skew/time.Second))}, nil
}
