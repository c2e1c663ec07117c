package bench

import (
	"bytes"
	"fmt"
	"html"
	"math"
)

// bar is one bar of a plot.
type bar struct {
	label string
	value float64
	text  string // beside the bar
	ours  bool
}

// The plots' colours are legible on white and on black.
const (
	colourOurs  = "#2a9d8f"
	colourPeer  = "#8d99ae"
	colourInk   = "#6c757d"
	plotWidth   = 720
	labelWidth  = 250
	valueWidth  = 120
	barHeight   = 22
	barDistance = 30
)

// bars draws horizontal bars. With logarithmic, the scale begins below the smallest
// value.
func bars(title string, logarithmic bool, list []bar) []byte {
	low, high := math.Inf(1), 0.0
	for _, b := range list {
		low, high = min(low, b.value), max(high, b.value)
	}
	length := func(v float64) float64 {
		width := float64(plotWidth - labelWidth - valueWidth)
		if !logarithmic {
			return width * v / high
		}
		floor := math.Log10(low) - 0.5
		return width * (math.Log10(v) - floor) / (math.Log10(high) - floor)
	}
	var svg bytes.Buffer
	open(&svg, title, 40+barDistance*len(list))
	for i, b := range list {
		y := 36 + i*barDistance
		colour := colourPeer
		if b.ours {
			colour = colourOurs
		}
		fmt.Fprintf(&svg, `<text x="%d" y="%d" text-anchor="end">%s</text>`, labelWidth-8, y+15, html.EscapeString(b.label))
		fmt.Fprintf(&svg, `<rect x="%d" y="%d" width="%.1f" height="%d" fill="%s"/>`, labelWidth, y, length(b.value), barHeight, colour)
		fmt.Fprintf(&svg, `<text x="%.1f" y="%d">%s</text>`+"\n", labelWidth+length(b.value)+6, y+15, html.EscapeString(b.text))
	}
	svg.WriteString("</svg>\n")
	return svg.Bytes()
}

// curve is a line of a line plot.
type curve struct {
	name   string
	x, y   []float64
	text   func(y float64) string
	colour string
}

// curves draws lines over two logarithmic axes.
func curves(title, xLabel string, list []curve) []byte {
	const height, left, right, top, bottom = 340, 40, 170, 40, 44
	minX, maxX, minY, maxY := math.Inf(1), 0.0, math.Inf(1), 0.0
	for _, c := range list {
		for i := range c.x {
			minX, maxX = min(minX, c.x[i]), max(maxX, c.x[i])
			minY, maxY = min(minY, c.y[i]), max(maxY, c.y[i])
		}
	}
	scale := func(v, low, high, from, to float64) float64 {
		if low == high {
			return (from + to) / 2
		}
		return from + (to-from)*math.Log(v/low)/math.Log(high/low)
	}
	px := func(x float64) float64 { return scale(x, minX, maxX, left, plotWidth-right) }
	py := func(y float64) float64 { return scale(y, minY, maxY, height-bottom, top) }
	var svg bytes.Buffer
	open(&svg, title, height)
	fmt.Fprintf(&svg, `<path d="M%d %d H%d" stroke="%s" fill="none"/>`, left, height-bottom+10, plotWidth-right, colourInk)
	fmt.Fprintf(&svg, `<text x="%d" y="%d" text-anchor="middle">%s</text>`+"\n", (left+plotWidth-right)/2, height-4, html.EscapeString(xLabel))
	ticks := map[float64]bool{}
	for _, c := range list {
		for _, x := range c.x {
			if !ticks[x] {
				fmt.Fprintf(&svg, `<text x="%.1f" y="%d" text-anchor="middle">%.0f</text>`, px(x), height-bottom+26, x)
			}
			ticks[x] = true
		}
	}
	for _, c := range list {
		fmt.Fprintf(&svg, `<path fill="none" stroke-width="2" stroke="%s" d="`, c.colour)
		for i := range c.x {
			fmt.Fprintf(&svg, "%c%.1f %.1f ", "ML"[min(i, 1)], px(c.x[i]), py(c.y[i]))
		}
		svg.WriteString("\"/>\n")
		for i := range c.x {
			fmt.Fprintf(&svg, `<circle cx="%.1f" cy="%.1f" r="3" fill="%s"/>`, px(c.x[i]), py(c.y[i]), c.colour)
		}
		last := len(c.x) - 1
		fmt.Fprintf(&svg, `<text x="%.1f" y="%.1f" style="fill:%s">%s: %s</text>`+"\n",
			px(c.x[last])+8, py(c.y[last])+4, c.colour, html.EscapeString(c.name), html.EscapeString(c.text(c.y[last])))
	}
	svg.WriteString("</svg>\n")
	return svg.Bytes()
}

func open(svg *bytes.Buffer, title string, height int) {
	fmt.Fprintf(svg, `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %d %d" width="%d" height="%d">`+"\n", plotWidth, height, plotWidth, height)
	fmt.Fprintf(svg, `<style>text{font:13px sans-serif;fill:%s}</style><text x="8" y="20" style="font-weight:bold">%s</text>`+"\n", colourInk, html.EscapeString(title))
}
