// Command bench measures the plugin against its peers and writes the document of
// it. It is run from the folder tests/bench:
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
	flag.StringVar(&cfg.Out, "out", "performance.md", "`file` to write; its plots go to a folder beside it")
	flag.BoolVar(&cfg.Quick, "quick", false, "make everything short: shows that it runs, gives no figures")
	flag.StringVar(&cfg.Notes, "notes", "notes.md", "`file` whose text ends the document; empty for none")
	flag.StringVar(&cfg.Profiles, "profiles", "", "`folder` for profiles of the Caddys; none if empty")
	only := flag.String("only", "", "`sections` to run, with commas between them: "+strings.Join(bench.Sections(), ", "))
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
