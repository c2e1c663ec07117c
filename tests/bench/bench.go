package bench

import (
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/caddy-negotiate/caddy-negotiate/tests/kdctest"
)

// Config configures a run.
type Config struct {
	// Out is the document to write; the plots go to the folder with its name without
	// the extension.
	Out string
	// Quick shortens every measurement, to test that everything runs. Its figures are
	// worthless.
	Quick bool
	// Only lists the sections to run, all if empty. The document names them.
	Only []string
	// Notes is a file whose text ends the document; none if empty.
	Notes string
	// Profiles is a folder for CPU and allocation profiles of the Caddy processes;
	// none if empty.
	Profiles string
	// Log receives the progress.
	Log io.Writer
}

// bench is one run.
type bench struct {
	Config
	report
	folder string // for temporary files
	mit    string // the driver, empty if it was not built
	noMIT  string // the reason
}

// sections are those of the document, in its order.
var sections = []struct {
	name string
	run  func(*bench, context.Context) error
}{
	{"minting", (*bench).minting},
	{"accepting", (*bench).accepting},
	{"cores", (*bench).cores},
	{"tickets", (*bench).tickets},
	{"cold", (*bench).cold},
	{"herd", (*bench).herd},
	{"proxy", (*bench).proxy},
	{"users", (*bench).users},
	{"renewal", (*bench).renewal},
}

// Sections returns the names for Config.Only.
func Sections() []string {
	var names []string
	for _, s := range sections {
		names = append(names, s.name)
	}
	return names
}

// Run runs the benchmarks and writes the document.
func Run(ctx context.Context, cfg Config) error {
	b := &bench{Config: cfg}
	b.report.folder = strings.TrimSuffix(cfg.Out, filepath.Ext(cfg.Out))
	b.link = filepath.Base(b.report.folder)
	var err error
	if b.folder, err = os.MkdirTemp("", "caddy-negotiate-bench-"); err != nil {
		return err
	}
	defer os.RemoveAll(b.folder)
	if b.mit, err = buildMIT(ctx, b.folder); err != nil {
		b.noMIT = err.Error()
		b.logf("left out: MIT (%v)", err)
	}
	begin := time.Now()
	for _, s := range sections {
		if !b.wanted(s.name) {
			continue
		}
		b.logf("%s", s.name)
		if err := s.run(b, ctx); err != nil {
			return fmt.Errorf("%s: %w", s.name, err)
		}
	}
	if err := os.MkdirAll(filepath.Dir(cfg.Out), 0o755); err != nil {
		return err
	}
	document, err := b.document(ctx, time.Since(begin))
	if err != nil {
		return err
	}
	return os.WriteFile(cfg.Out, document, 0o644)
}

func (b *bench) logf(format string, args ...any) { fmt.Fprintf(b.Log, format+"\n", args...) }

func (b *bench) wanted(section string) bool {
	for _, name := range b.Only {
		if name == section {
			return true
		}
	}
	return len(b.Only) == 0
}

// pick chooses between the full figure and the one for a quick run.
func pick[T any](b *bench, full, quick T) T {
	if b.Quick {
		return quick
	}
	return full
}

// size is the size of a ticket, in bytes.
type size struct {
	name  string
	bytes int // zero: without filler
}

// siteFor starts a site whose service tickets have about the given size.
func (b *bench) siteFor(z size) (*site, error) {
	folder, err := os.MkdirTemp(b.folder, "site-")
	if err != nil {
		return nil, err
	}
	s, err := newSite(folder)
	if err != nil || z.bytes == 0 {
		return s, err
	}
	cred, err := s.ticket(context.Background())
	if err != nil {
		s.stop()
		return nil, err
	}
	const overhead = 24 // of the authorization data that carries the filler
	s.proxy.Set(kdctest.AuthDataSize(z.bytes - len(cred.Ticket) - overhead))
	s.kdc.ResetCounts()
	return s, nil
}

// The constant texts of the document.
const (
	preface = `# Performance

Written by ` + "`cd tests/bench && go run ./cmd/bench -out ../../docs/performance.md`" + `, which runs every
measurement below on one machine. The ratios count: both sides of each are measured in turns, round after round, in one
run. Absolute figures depend on the machine and drift by a third from run to run. Numbers in brackets are the 95 %
confidence interval of the median.
`
	quickNote = "\n**This was a quick run**, which only tests that everything runs. Its figures are worthless.\n"
)
