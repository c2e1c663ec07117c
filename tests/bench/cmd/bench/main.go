// Command bench compares the plugin with its peers and writes the results to a document.
// Run it in the folder tests/bench:
//
//	go run ./cmd/bench -out ../../docs/performance.md
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"strings"

	"github.com/caddy-negotiate/caddy-negotiate/tests/bench"
)

func main() {
	cfg := bench.Config{Log: os.Stderr}
	flag.StringVar(&cfg.Out, "out", "performance.md", "`file` to write; its plots go to a folder with the same name")
	flag.BoolVar(&cfg.Quick, "quick", false, "shorten every measurement, to test that everything runs")
	flag.StringVar(&cfg.Notes, "notes", "notes.md", "`file` whose text ends the document; empty for none")
	flag.StringVar(&cfg.Profiles, "profiles", "", "`folder` for CPU and allocation profiles of Caddy; none if empty")
	only := flag.String("only", "", "comma-separated `sections` to run: "+strings.Join(bench.Sections(), ", "))
	flag.Parse()
	if *only != "" {
		cfg.Only = strings.Split(*only, ",")
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := bench.Run(ctx, cfg); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}
