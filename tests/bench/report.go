package bench

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// report collects the text and the verdicts of the document.
type report struct {
	text     bytes.Buffer
	folder   string // of the plots
	link     string // relative to the document
	verdicts []verdict
}

// verdict is a target with its measured conditions.
type verdict struct {
	target     int
	text       string
	conditions []condition
}

// condition compares a ratio or a number with its bound.
type condition struct {
	name     string
	measured estimate
	bound    float64
	atLeast  bool // bound is a lower bound
	leftOut  string
}

func atMost(name string, measured estimate, bound float64) condition {
	return condition{name: name, measured: measured, bound: bound}
}

func atLeast(name string, measured estimate, bound float64) condition {
	return condition{name: name, measured: measured, bound: bound, atLeast: true}
}

// leftOut returns a condition whose peer is missing.
func leftOut(name, why string) condition { return condition{name: name, leftOut: why} }

// number returns a count, which has no interval.
func number(x float64) estimate { return estimate{median: x, low: x, high: x, n: 1} }

func (c condition) met() bool {
	if c.atLeast {
		return c.measured.median >= c.bound
	}
	return c.measured.median <= c.bound
}

func (r *report) printf(format string, args ...any) { fmt.Fprintf(&r.text, format, args...) }

// section begins a section with a paragraph that describes the measurement.
func (r *report) section(title, text string) { r.printf("\n## %s\n\n%s\n\n", title, text) }

// table writes a table.
func (r *report) table(head []string, rows [][]string) {
	r.printf("| %s |\n|%s\n", strings.Join(head, " | "), strings.Repeat("---|", len(head)))
	for _, row := range rows {
		r.printf("| %s |\n", strings.Join(row, " | "))
	}
	r.printf("\n")
}

// plot writes an SVG file and links to it.
func (r *report) plot(name, title string, svg []byte) error {
	if err := os.MkdirAll(r.folder, 0o755); err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(r.folder, name+".svg"), svg, 0o644); err != nil {
		return err
	}
	r.printf("![%s](%s/%s.svg)\n\n", title, r.link, name)
	return nil
}

// judge adds a target's conditions.
func (r *report) judge(target int, text string, conditions ...condition) {
	r.verdicts = append(r.verdicts, verdict{target, text, conditions})
}

// summary returns the table of the targets.
func (r *report) summary() string {
	var b strings.Builder
	b.WriteString("| | target | measured | |\n|---|---|---|---|\n")
	for _, v := range r.verdicts {
		for i, c := range v.conditions {
			number, text := "", ""
			if i == 0 {
				number, text = fmt.Sprint(v.target), v.text+": "
			}
			sign := "<="
			if c.atLeast {
				sign = ">="
			}
			bound := strings.TrimSuffix(fmt.Sprintf("%.2f", c.bound), ".00")
			if c.leftOut != "" {
				fmt.Fprintf(&b, "| %s | %s%s | left out: %s | - |\n", number, text, c.name, c.leftOut)
				continue
			}
			verdict := "met"
			if !c.met() {
				verdict = "**missed**"
			}
			measured := c.measured.String()
			if c.measured.n == 1 {
				measured = strings.TrimSuffix(fmt.Sprintf("%.2f", c.measured.median), ".00")
			}
			fmt.Fprintf(&b, "| %s | %s%s %s %s | %s | %s |\n", number, text, c.name, sign, bound, measured, verdict)
		}
	}
	return b.String()
}
