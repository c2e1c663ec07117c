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

// Config says what is run.
type Config struct {
	// Out is the document to write; the plots go to the folder of its name without
	// the ending.
	Out string
	// Quick makes everything short: for whether it runs, not for figures.
	Quick bool
	// Only are the sections to run, all if empty. The document says so.
	Only []string
	// Notes is a file whose text ends the document; none if empty.
	Notes string
	// Profiles is a folder for profiles of the Caddys, of processor time and
	// allocations; none if empty.
	Profiles string
	// Log is told of the progress.
	Log io.Writer
}

// bench is one run.
type bench struct {
	Config
	report
	folder string // for files that do not stay
	mit    string // the driver, empty if it could not be built
	noMIT  string // why
}

// sections of the document, in its order. proxy comes last but one for it takes
// longest.
var sections = []struct {
	name string
	run  func(*bench, context.Context) error
}{
	{"minting", (*bench).minting},
	{"cores", (*bench).cores},
	{"tickets", (*bench).tickets},
	{"cold", (*bench).cold},
	{"herd", (*bench).herd},
	{"proxy", (*bench).proxy},
	{"renewal", (*bench).renewal},
}

// Sections are the names that Config.Only takes.
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

// size is that of a ticket, in octets.
type size struct {
	name   string
	octets int // zero: as small as it gets
}

// siteFor starts a site whose service tickets have a size, about.
func (b *bench) siteFor(z size) (*site, error) {
	folder, err := os.MkdirTemp(b.folder, "site-")
	if err != nil {
		return nil, err
	}
	s, err := newSite(folder)
	if err != nil || z.octets == 0 {
		return s, err
	}
	cred, err := s.ticket(context.Background())
	if err != nil {
		s.stop()
		return nil, err
	}
	const overhead = 24 // of the authorization data that carries the filler
	s.proxy.Set(kdctest.AuthDataSize(z.octets - len(cred.Ticket) - overhead))
	s.kdc.ResetCounts()
	return s, nil
}

// The words of the document that do not depend on what was measured.
const (
	preface = `# Performance

Written by ` + "`cd tests/bench && go run ./cmd/bench -out ../../docs/performance.md`" + `, which runs everything below on the
machine at hand. What counts are the ratios: both sides of each were measured in turns, round after round, in this one
run. Absolute figures are those of this machine on this day, and drift by a third from run to run. Numbers in brackets
are the interval in which the median lies with 95 % confidence.
`
	quickNote = "\n**This was a quick run**, to see that everything runs. Its figures are worth nothing.\n"
)
