//go:build unix

package faults

import (
	"errors"
	"net/http"
	"os"
	"syscall"
	"testing"

	"github.com/caddy-negotiate/caddy-negotiate/tests/caddytest"
)

func init() {
	localFaults = append(localFaults, fault{
		"file descriptors exhausted", "held: 200. not held: 503, Retry-After; then 200", noDescriptors,
	})
}

func noDescriptors(t *testing.T) {
	e := newWarmEnv(t, "timeout 400ms")
	client := e.Client() // its connections are there before
	get := func(site int, path string) caddytest.Answer {
		t.Helper()
		a, err := caddytest.Ask(client, caddytest.Request(t, http.MethodGet, "http://"+e.sites[site]+path))
		if err != nil {
			t.Fatal(err)
		}
		return a
	}
	get(0, "/")
	get(1, "/ping")

	restore := exhaust(t)
	held, cold := get(0, "/"), get(1, "/")
	restore()
	if !isServed(held) {
		t.Errorf("held: %v", held)
	}
	wantOutage(t, cold)
	e.awaitSecond()
}

// exhaust opens files until there is no descriptor left for this process.
func exhaust(t *testing.T) (restore func()) {
	t.Helper()
	probe, err := os.Open(os.DevNull)
	if err != nil {
		t.Fatal(err)
	}
	var limit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
		t.Fatal(err)
	}
	lowered := limit
	lowered.Cur = uint64(probe.Fd()) + 20
	if err := syscall.Setrlimit(syscall.RLIMIT_NOFILE, &lowered); err != nil {
		t.Fatal(err)
	}
	files := []*os.File{probe}
	restore = func() {
		for _, f := range files {
			f.Close()
		}
		files = nil
		if err := syscall.Setrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
			t.Error(err)
		}
	}
	t.Cleanup(restore)
	for {
		f, err := os.Open(os.DevNull)
		if errors.Is(err, syscall.EMFILE) {
			return restore
		}
		if err != nil {
			t.Fatal(err)
		}
		files = append(files, f)
	}
}
