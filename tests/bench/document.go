package bench

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"runtime/debug"
	"strings"
	"time"
)

// document returns the whole document.
func (b *bench) document(ctx context.Context, took time.Duration) ([]byte, error) {
	var doc bytes.Buffer
	doc.WriteString(preface)
	if b.Quick {
		doc.WriteString(quickNote)
	}
	if len(b.Only) > 0 {
		fmt.Fprintf(&doc, "\nOnly these sections were run: %s.\n", strings.Join(b.Only, ", "))
	}
	doc.WriteString("\n## Targets\n\n")
	doc.WriteString(b.summary())
	doc.WriteString("\n## Machine\n\n")
	for _, line := range b.machine(ctx) {
		fmt.Fprintf(&doc, "- %s\n", line)
	}
	fmt.Fprintf(&doc, "- the run took %s\n", took.Round(time.Second))
	doc.Write(b.text.Bytes())
	if b.Notes != "" {
		notes, err := os.ReadFile(b.Notes)
		if err != nil {
			return nil, err
		}
		doc.WriteString("\n")
		doc.Write(notes)
	}
	return doc.Bytes(), nil
}

// machine describes the machine and the versions of the software.
func (b *bench) machine(ctx context.Context) []string {
	lines := []string{
		fmt.Sprintf("%s, %d cores, %s/%s", processor(), runtime.NumCPU(), runtime.GOOS, runtime.GOARCH),
		"load before the run's end: " + firstLine("/proc/loadavg"),
		"kernel " + firstLine("/proc/sys/kernel/osrelease"),
		runtime.Version(),
	}
	if info, ok := debug.ReadBuildInfo(); ok {
		for _, m := range info.Deps {
			if m.Path == "github.com/jcmturner/gokrb5/v8" {
				lines = append(lines, "gokrb5 "+m.Version)
			}
		}
	}
	if out, err := exec.CommandContext(ctx, "go", "list", "-m", "-f", "Caddy {{.Version}}", "github.com/caddyserver/caddy/v2").Output(); err == nil {
		lines = append(lines, strings.TrimSpace(string(out)))
	}
	if b.noMIT != "" {
		return append(lines, "MIT krb5: left out, "+b.noMIT)
	}
	if out, err := exec.CommandContext(ctx, "krb5-config", "--version").Output(); err == nil {
		lines = append(lines, "MIT krb5: "+strings.TrimSpace(string(out)))
	}
	return lines
}

func processor() string {
	content, _ := os.ReadFile("/proc/cpuinfo")
	for line := range strings.Lines(string(content)) {
		if name, value, ok := strings.Cut(line, ":"); ok && strings.TrimSpace(name) == "model name" {
			return strings.TrimSpace(value)
		}
	}
	return "processor unknown"
}

func firstLine(path string) string {
	content, err := os.ReadFile(path)
	if err != nil {
		return "unknown"
	}
	line, _, _ := strings.Cut(string(content), "\n")
	return line
}
