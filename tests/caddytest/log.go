package caddytest

import (
	"context"
	"fmt"
	"io"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
)

// Log holds what Caddy logs during a test. `output capture NAME` in a Caddyfile leads
// to it.
type Log struct {
	name string

	mu    sync.Mutex
	text  strings.Builder
	grown chan struct{} // closed by the next write
}

var (
	logs    sync.Map // by name
	logsNow atomic.Int64
)

// newLog makes a log. If the test fails, its lines about Kerberos and its errors are
// printed.
func newLog(t *testing.T) *Log {
	// Caddy may keep a writer for as long as it runs: no two logs share a name.
	l := &Log{name: fmt.Sprintf("log-%d", logsNow.Add(1)), grown: make(chan struct{})}
	logs.Store(l.name, l)
	t.Cleanup(func() {
		logs.Delete(l.name)
		if t.Failed() {
			t.Logf("Caddy's log, the plugin's lines and errors:\n%s", l.relevant(8000))
		}
	})
	return l
}

func (l *Log) relevant(most int) string {
	var b strings.Builder
	for line := range strings.Lines(l.String()) {
		if strings.Contains(line, "kerberos") || strings.Contains(line, "negotiate") || strings.Contains(line, `"error"`) {
			b.WriteString(line)
		}
	}
	return b.String()[max(0, b.Len()-most):]
}

// Name is the name for `output capture NAME`.
func (l *Log) Name() string { return l.name }

func (l *Log) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

// Contains reports whether the log holds a text.
func (l *Log) Contains(text string) bool { return l.Count(text) > 0 }

// Count is how often the log holds a text.
func (l *Log) Count(text string) int { return strings.Count(l.String(), text) }

// Await waits until the log holds the text n times.
func (l *Log) Await(t *testing.T, text string, n int) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	for {
		l.mu.Lock()
		found, grown := strings.Count(l.text.String(), text), l.grown
		l.mu.Unlock()
		if found >= n {
			return
		}
		select {
		case <-grown:
		case <-ctx.Done():
			t.Fatalf("after %v logged %d times, not %d: %s", patience, found, n, text)
		}
	}
}

// Write implements [io.Writer].
func (l *Log) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	close(l.grown)
	l.grown = make(chan struct{})
	return l.text.Write(p)
}

// Close implements [io.Closer]. The log remains readable.
func (l *Log) Close() error { return nil }

func init() { caddy.RegisterModule(captureWriter{}) }

// captureWriter is the module `output capture`.
type captureWriter struct {
	Name string `json:"name,omitempty"`
}

func (captureWriter) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{ID: "caddy.logging.writers.capture", New: func() caddy.Module { return new(captureWriter) }}
}

func (w *captureWriter) UnmarshalCaddyfile(d *caddyfile.Dispenser) error {
	d.Next()
	if !d.AllArgs(&w.Name) {
		return d.ArgErr()
	}
	return nil
}

func (w captureWriter) String() string    { return "capture" }
func (w captureWriter) WriterKey() string { return "capture:" + w.Name }

func (w captureWriter) OpenWriter() (io.WriteCloser, error) {
	l, ok := logs.Load(w.Name)
	if !ok {
		return nil, fmt.Errorf("no test has the log %s", w.Name)
	}
	return l.(*Log), nil
}
