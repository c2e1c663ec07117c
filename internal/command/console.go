package command

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"text/tabwriter"
	"time"
	"unicode/utf8"

	"github.com/dustin/go-humanize"
	"github.com/spf13/cobra"
	"golang.org/x/term"
)

// addGroup makes parent a command that only leads to the given subcommands. Alone it prints its
// help; an unknown subcommand is an error, where cobra would print the help and report success.
func addGroup(parent *cobra.Command, commands ...*cobra.Command) {
	for _, cmd := range commands {
		cmd.SilenceUsage = true
	}
	parent.AddCommand(commands...)
	parent.SilenceUsage = true
	parent.SuggestionsMinimumDistance = 2
	parent.Args = cobra.ArbitraryArgs
	parent.RunE = func(cmd *cobra.Command, args []string) error {
		if len(args) == 0 {
			return cmd.Help()
		}
		text := fmt.Sprintf("unknown command %q for %q", args[0], cmd.CommandPath())
		if similar := cmd.SuggestionsFor(args[0]); len(similar) > 0 {
			text += fmt.Sprintf("; did you mean %q?", similar[0])
		}
		return errors.New(text)
	}
}

// errReported ends a command that has already printed what failed. It sets the exit status only.
var errReported = errors.New("failed, as reported")

// console is where a command writes its result.
type console struct {
	out     io.Writer
	notes   io.Writer // progress; nil without a terminal
	colours bool
	width   int // the terminal's columns; zero for no bound
}

func consoleOf(cmd *cobra.Command) *console {
	c := &console{out: cmd.OutOrStdout()}
	if !isTerminal(c.out) {
		return c
	}
	c.width = 80 // unless the terminal reports it
	if width, _, err := term.GetSize(int(c.out.(*os.File).Fd())); err == nil && width > 0 {
		c.width = width
	}
	c.colours = os.Getenv("NO_COLOR") == "" && os.Getenv("TERM") != "dumb"
	if c.colours && isTerminal(cmd.ErrOrStderr()) {
		c.notes = cmd.ErrOrStderr()
	}
	return c
}

func isTerminal(stream any) bool {
	file, ok := stream.(*os.File)
	return ok && term.IsTerminal(int(file.Fd()))
}

// progress writes what the command waits for on one line, which the next call replaces.
func (c *console) progress(text string) {
	if c.notes != nil {
		fmt.Fprint(c.notes, "\r\x1b[K", text)
	}
}

// The colours of a terminal, as parameters of SGR (ECMA-48).
const (
	green  = "32"
	yellow = "33"
	red    = "31;1"
	bold   = "1"
)

func (c *console) paint(colour, text string) string {
	if !c.colours {
		return text
	}
	return "\x1b[" + colour + "m" + text + "\x1b[0m"
}

// writeJSON writes a value for programs.
func (c *console) writeJSON(v any) error {
	enc := json.NewEncoder(c.out)
	enc.SetIndent("", "  ")
	enc.SetEscapeHTML(false)
	return enc.Encode(v)
}

// writeTable writes rows in columns under their heads. On a terminal the widest columns are
// shortened until the table fits; a pipe or a file gets every cell whole.
func (c *console) writeTable(heads []string, rows [][]string) error {
	rows = append([][]string{heads}, rows...)
	widths := columnWidths(rows, c.width)
	w := tabwriter.NewWriter(c.out, 0, 0, columnGap, ' ', 0)
	for _, row := range rows {
		cells := make([]string, len(row))
		for i, cell := range row {
			cells[i] = shorten(cell, widths[i])
		}
		fmt.Fprintln(w, strings.Join(cells, "\t"))
	}
	return w.Flush()
}

// columnGap is the number of spaces between columns.
const columnGap = 2

// columnWidths returns the width of each column, taken from the widest ones until a row fits
// into the given width; zero is no bound. The first column, which has the names, is taken from only if
// the others are narrow.
func columnWidths(rows [][]string, bound int) []int {
	widths := wholeWidths(rows)
	for total := sum(widths); bound > 0 && total > bound; total-- {
		widest := 1 + slices.Index(widths[1:], slices.Max(widths[1:]))
		if widths[widest] <= narrowColumn {
			widest = slices.Index(widths, slices.Max(widths))
		}
		widths[widest]--
	}
	return widths
}

// narrowColumn is the width, in characters, below which a text says little.
const narrowColumn = 8

// tableWidth returns how wide rows are if no cell is shortened.
func tableWidth(rows [][]string) int { return sum(wholeWidths(rows)) }

func wholeWidths(rows [][]string) []int {
	widths := make([]int, len(rows[0]))
	for _, row := range rows {
		for i, cell := range row {
			widths[i] = max(widths[i], utf8.RuneCountInString(cell))
		}
	}
	return widths
}

// sum adds the widths of columns and the gaps between them.
func sum(widths []int) int {
	total := columnGap * (len(widths) - 1)
	for _, w := range widths {
		total += w
	}
	return total
}

// shorten removes the middle of a text that is too wide: names differ at their ends.
func shorten(text string, width int) string {
	runes := []rune(text)
	if len(runes) <= width || width < 3 {
		return string(runes[:max(0, min(len(runes), width))])
	}
	head := (width - 1) / 2
	return string(runes[:head]) + "…" + string(runes[len(runes)-(width-1-head):])
}

// relativeTime describes a time by its distance: "in 9 hours", "3 minutes ago".
func relativeTime(t time.Time) string {
	if t.IsZero() {
		return "-"
	}
	if now := time.Now(); t.After(now) {
		return "in " + strings.TrimSpace(humanize.RelTime(now, t, "", ""))
	}
	return humanize.RelTime(t, time.Now(), "ago", "")
}
