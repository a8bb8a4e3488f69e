// SPDX-License-Identifier: Apache-2.0

//go:build !race

package simulation

import (
	"fmt"
	"html"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// The figures are written into a page between two lines, and the plots beside it.
const (
	page  = "../../docs/resilience.md"
	plots = "../../docs/resilience"
	first = "<!-- simulation: written by go test ./test/simulation -update -->"
	last  = "<!-- end of simulation -->"
)

// outcome is what came of a scenario with a setup.
type outcome struct {
	setup setup
	figures
}

// write puts the figures of all scenarios into the page.
func write(t *testing.T, results map[string][]outcome) {
	t.Helper()
	var b strings.Builder
	fmt.Fprintf(&b, "%s\n\n", first)
	for _, s := range scenarios {
		fmt.Fprintf(&b, "### %s\n\n![%s](resilience/%s.svg)\n\n", s.title, s.title, s.name)
		b.WriteString("| | failed | p50 | p99 | p99.9 | bad endpoints' load | in the caller's zone |\n|---|---:|---:|---:|---:|---:|---:|\n")
		for _, o := range results[s.name] {
			fmt.Fprintf(&b, "| %s | %.2f %% | %d ms | %d ms | %d ms | %.0f %% | %s |\n", o.setup, o.failed*100,
				o.p50.Milliseconds(), o.p99.Milliseconds(), o.p999.Milliseconds(), o.bad*100, o.zone(s))
		}
		b.WriteByte('\n')
		save(t, filepath.Join(plots, s.name+".svg"), svg(s.title, results[s.name]))
	}
	b.WriteString(last)
	text, err := os.ReadFile(page)
	if err != nil {
		t.Fatal(err)
	}
	before, rest, ok := strings.Cut(string(text), first)
	_, after, closed := strings.Cut(rest, last)
	if !ok || !closed {
		t.Fatalf("%s has no lines to write between", page)
	}
	save(t, page, before+b.String()+after)
}

// zone is the share of the requests that stayed in the caller's, where there are zones.
func (o outcome) zone(s scenario) string {
	if !s.zones {
		return ""
	}
	return fmt.Sprintf("%.0f %%", o.near*100)
}

func save(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

// Sizes of a plot, in pixels, as test/bench has them.
const (
	barHeight, barGap   = 16, 3
	labelWidth, panel   = 180, 250
	titleHeight, footer = 34, 8
	numberWidth         = 90
)

// svg draws two bars for each setup: the share that failed, and the 99th percentile.
func svg(title string, list []outcome) string {
	var b strings.Builder
	highest := nearlyNone
	for _, o := range list {
		highest = max(highest, o.failed)
	}
	y := titleHeight
	fmt.Fprintf(&b, "<text x=\"%d\" y=\"%d\" font-weight=\"bold\">failed</text>\n", labelWidth, y+12)
	right := labelWidth + panel + numberWidth
	fmt.Fprintf(&b, "<text x=\"%d\" y=\"%d\" font-weight=\"bold\">p99</text>\n", right, y+12)
	for _, o := range list {
		y += barHeight + barGap
		fmt.Fprintf(&b, "<text x=\"%d\" y=\"%d\" text-anchor=\"end\">%s</text>\n", labelWidth-6, y+12, html.EscapeString(o.setup.String()))
		bar(&b, labelWidth, y, o.failed/highest, o.setup.colour(), fmt.Sprintf("%.2f %%", o.failed*100))
		bar(&b, right, y, float64(o.p99)/float64(patience), o.setup.colour(), fmt.Sprintf("%d ms", o.p99/time.Millisecond))
	}
	return fmt.Sprintf("<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"%d\" height=\"%d\" font-family=\"sans-serif\" font-size=\"12\">\n"+
		"<rect width=\"100%%\" height=\"100%%\" fill=\"#ffffff\"/>\n<text x=\"8\" y=\"22\" font-size=\"15\">%s</text>\n%s</svg>\n",
		right+panel+numberWidth, y+barHeight+footer, html.EscapeString(title), b.String())
}

func bar(b *strings.Builder, x, y int, share float64, colour, label string) {
	fmt.Fprintf(b, "<rect x=\"%d\" y=\"%d\" width=\"%.1f\" height=\"%d\" fill=\"%s\"/>\n", x, y, share*panel, barHeight, colour)
	fmt.Fprintf(b, "<text x=\"%.1f\" y=\"%d\">%s</text>\n", float64(x)+share*panel+6, y+12, label)
}

func (s setup) colour() string {
	switch {
	case s == plain:
		return "#64748b"
	case s.defended:
		return "#c2410c"
	}
	return "#fdba74"
}
