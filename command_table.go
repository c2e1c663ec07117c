package caddynegotiate

import (
	"fmt"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/dustin/go-humanize"
)

// terminalWidth is what every terminal has.
const terminalWidth = 80

// table is rows of cells.
type table struct {
	heads []string
	rows  [][]string
}

func (t *table) row(cells ...string) { t.rows = append(t.rows, cells) }

// writeTable lays a table out in columns, two spaces between them, none behind. The
// widest column gives way where a row would not fit; what a program or a file gets
// is whole.
func (c *console) writeTable(t *table) error {
	widths := make([]int, len(t.heads))
	for _, row := range append([][]string{t.heads}, t.rows...) {
		for i, cell := range row {
			widths[i] = max(widths[i], utf8.RuneCountInString(cell))
		}
	}
	if c.width > 0 {
		shrink(widths, c.width)
	}
	for _, row := range append([][]string{t.heads}, t.rows...) {
		var b strings.Builder
		for i, cell := range row {
			cell = shorten(cell, widths[i])
			b.WriteString(cell)
			b.WriteString(strings.Repeat(" ", widths[i]-utf8.RuneCountInString(cell)+2))
		}
		if _, err := fmt.Fprintln(c.out, strings.TrimRight(b.String(), " ")); err != nil {
			return err
		}
	}
	return nil
}

// shrink takes from the widest column, again and again, until the table fits.
func shrink(widths []int, room int) {
	total := 2 * (len(widths) - 1)
	for _, w := range widths {
		total += w
	}
	for ; total > room; total-- {
		widest := 0
		for i, w := range widths {
			if w > widths[widest] {
				widest = i
			}
		}
		widths[widest]--
	}
}

// shorten takes out of the middle: names begin and end with what tells them apart.
func shorten(text string, width int) string {
	runes := []rune(text)
	if len(runes) <= width || width < 3 {
		return string(runes[:min(len(runes), width)])
	}
	head := (width - 1) / 2
	return string(runes[:head]) + "…" + string(runes[len(runes)-(width-1-head):])
}

// away says how far off a time is, in short: "in 9 hours", "3 minutes ago".
func away(t, now time.Time) string {
	if t.IsZero() {
		return "-"
	}
	if t.After(now) {
		return "in " + strings.TrimSpace(humanize.RelTime(now, t, "", ""))
	}
	return humanize.RelTime(t, now, "ago", "")
}

func size(bytes int64) string { return humanize.IBytes(uint64(max(0, bytes))) }
