// Command chart draws the results as SVG: one file for each scenario, a bar for each server with its range.
package main

import (
	"flag"
	"fmt"
	"html"
	"math"
	"os"
	"path/filepath"
	"strings"

	"github.com/wsloop/websocket/benchmarks/internal/plan"
	"github.com/wsloop/websocket/benchmarks/internal/results"
)

const (
	width      = 760
	barsLeft   = 160
	barsWidth  = 440
	headHeight = 58
	rowHeight  = 26
	barHeight  = 16
	footHeight = 12
)

// A card of its own colour, so that it can be read on a light and on a dark page.
const style = `text{font:13px system-ui,sans-serif;fill:#24292f}.t{font-weight:600;font-size:15px}.u{fill:#57606a}
.b{fill:#8c959f}.s{fill:#1f6feb}.r{stroke:#24292f;stroke-width:1.5}`

type bar struct {
	server string
	spread results.Spread
}

func main() {
	in := flag.String("in", "results.json", "what was measured")
	out := flag.String("out", "charts", "directory to write to")
	flag.Parse()
	if err := draw(*in, *out); err != nil {
		fmt.Fprintln(os.Stderr, "chart:", err)
		os.Exit(1)
	}
}

func draw(in, out string) error {
	run, err := results.Load(in)
	if err != nil {
		return err
	}
	if err = os.MkdirAll(out, 0o755); err != nil {
		return err
	}
	for i := range plan.Scenarios {
		s := &plan.Scenarios[i]
		bars, unit := barsOf(run, s)
		if len(bars) < 2 {
			continue
		}
		title := s.Title
		if s.Encrypted() {
			title = "over TLS: " + title
		}
		if err = os.WriteFile(filepath.Join(out, s.Name+".svg"), []byte(svg(title, unit, bars)), 0o644); err != nil {
			return err
		}
	}
	return nil
}

// barsOf returns what is drawn: ratios within rounds if there is a base, else the values.
func barsOf(run *results.Run, s *plan.Scenario) (bars []bar, unit string) {
	base := s.Base()
	for _, server := range run.Servers() {
		spread := run.Values(s.Name, server)
		if base != "" {
			spread = run.Ratios(s.Name, server, s.Name, base)
		}
		if spread.N > 0 {
			bars = append(bars, bar{server, spread})
		}
	}
	unit = s.Metric.Unit()
	if base != "" {
		unit += " ÷ " + base
	}
	if s.Metric == plan.Rate {
		return bars, unit + "; more is better"
	}
	return bars, unit + "; less is better"
}

func svg(title, unit string, bars []bar) string {
	largest, highest := 0.0, 0.0
	for _, b := range bars {
		largest, highest = max(largest, b.spread.Median), max(highest, b.spread.Max)
	}
	scale := barsWidth / max(math.SmallestNonzeroFloat64, min(highest, largest*1.15))
	height := headHeight + rowHeight*len(bars) + footHeight
	var b strings.Builder
	fmt.Fprintf(&b, `<svg xmlns="http://www.w3.org/2000/svg" width="%d" height="%d" viewBox="0 0 %[1]d %[2]d" role="img"><title>%[3]s</title>`,
		width, height, html.EscapeString(title))
	fmt.Fprintf(&b, "<style>%s</style>\n<rect width=\"%d\" height=\"%d\" rx=\"6\" fill=\"#f6f8fa\"/>\n", style, width, height)
	fmt.Fprintf(&b, "<text class=\"t\" x=\"14\" y=\"24\">%s</text>\n<text class=\"u\" x=\"14\" y=\"43\">%s</text>\n",
		html.EscapeString(title), html.EscapeString(unit))
	for i := range bars {
		drawBar(&b, &bars[i], headHeight+rowHeight*i, scale)
	}
	b.WriteString("</svg>\n")
	return b.String()
}

// drawBar draws one row: name, bar up to the median, line over the range, figure.
func drawBar(b *strings.Builder, bar *bar, y int, scale float64) {
	class := "b"
	if bar.server == plan.Subject {
		class = "s"
	}
	at := func(v float64) float64 { return barsLeft + min(barsWidth, v*scale) }
	s := bar.spread
	middle := y + barHeight/2
	fmt.Fprintf(b, `<text x="%d" y="%d" text-anchor="end">%s</text>`, barsLeft-10, y+13, html.EscapeString(bar.server))
	fmt.Fprintf(b, `<rect class="%s" x="%d" y="%d" width="%.1f" height="%d"/>`, class, barsLeft, y, at(s.Median)-barsLeft, barHeight)
	fmt.Fprintf(b, `<line class="r" x1="%.1f" y1="%d" x2="%.1f" y2="%[2]d"/>`, at(s.Min), middle, at(s.Max))
	fmt.Fprintf(b, "<text x=\"%d\" y=\"%d\">%s</text>\n", barsLeft+barsWidth+10, y+13, s)
}
