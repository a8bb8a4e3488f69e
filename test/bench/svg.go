// SPDX-License-Identifier: Apache-2.0

//go:build linux

package main

import (
	"fmt"
	"html"
	"math"
	"strings"

	"github.com/heddle-mesh/heddle/test/bench/peers"
	"github.com/heddle-mesh/heddle/test/bench/stats"
)

// plot is a picture of the sidecar pairs: a group of bars for each work.
type plot struct {
	file, title string
	group       []string
	open        bool
	figure      func(measurement) float64
	unit        string
}

var plotted = []plot{
	{file: "http1", title: "HTTP/1.1, sidecar pair with mTLS: processor time per request", group: []string{"http1"}, figure: perRequest, unit: "µs"},
	{file: "http2", title: "HTTP/2, sidecar pair with mTLS: processor time per request", group: []string{"http2"}, figure: perRequest, unit: "µs"},
	{file: "grpc", title: "gRPC, sidecar pair with mTLS: processor time per call and per message", group: []string{"grpc"}, figure: perRequest, unit: "µs"},
	{file: "p99", title: "p99 at half of HAProxy's saturation, sidecar pair with mTLS", group: []string{"http1", "http2", "grpc", "tcp"}, open: true, figure: p99, unit: "ms"},
}

// colours of the peers, to be told apart without colours too: the bars are labelled.
var colours = map[string]string{
	"heddle": "#c2410c", "heddle-base": "#fdba74", "haproxy": "#2563eb", "nginx": "#16a34a", "envoy": "#9333ea", "net/http": "#64748b", "linkerd": "#0d9488",
}

// Sizes of a plot, in pixels.
const (
	barHeight, barGap, groupGap = 16, 3, 14
	labelWidth, barWidth        = 90, 560
	titleHeight                 = 34
)

// svg draws a plot. Each group of bars has a scale of its own, since a MiB costs a hundred times what a KiB does: what is
// compared is the peers. Works that weren't measured are left out.
func (r *report) svg(p plot) string {
	var b strings.Builder
	y := titleHeight
	for _, w := range r.measured(peers.Pair, p.open) {
		if !contains(p.group, w.Group) {
			continue
		}
		y = r.bars(&b, p, w, y)
	}
	return fmt.Sprintf("<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"%d\" height=\"%d\" font-family=\"sans-serif\" font-size=\"12\">\n"+
		"<rect width=\"100%%\" height=\"100%%\" fill=\"#ffffff\"/>\n<text x=\"8\" y=\"22\" font-size=\"15\">%s</text>\n%s</svg>\n",
		labelWidth+barWidth+170, y+8, html.EscapeString(p.title), b.String())
}

// bars draws those of one work and returns where the next begin.
func (r *report) bars(b *strings.Builder, p plot, w work, y int) int {
	summaries := map[string]stats.Summary{}
	longest := 0.0
	for _, name := range r.names() {
		s := stats.Summarize(r.values(key{name, peers.Pair, w.Name, p.open}, p.figure))
		if summaries[name] = s; !math.IsNaN(s.High) {
			longest = max(longest, s.High)
		}
	}
	fmt.Fprintf(b, "<text x=\"8\" y=\"%d\" font-weight=\"bold\">%s</text>\n", y+14, html.EscapeString(w.Name))
	y += 20
	scale := func(v float64) float64 { return v / longest * barWidth }
	for _, name := range r.names() {
		s := summaries[name]
		fmt.Fprintf(b, "<text x=\"%d\" y=\"%d\" text-anchor=\"end\">%s</text>\n", labelWidth-6, y+12, html.EscapeString(name))
		if s.N == 0 {
			fmt.Fprintf(b, "<text x=\"%d\" y=\"%d\" fill=\"#777777\">unmeasured</text>\n", labelWidth, y+12)
		} else {
			fmt.Fprintf(b, "<rect x=\"%d\" y=\"%d\" width=\"%.1f\" height=\"%d\" fill=\"%s\"/>\n", labelWidth, y, scale(s.Median), barHeight, colours[name])
			fmt.Fprintf(b, "<path d=\"M%.1f %dH%.1f\" stroke=\"#000000\"/>\n", labelWidth+scale(s.Low), y+barHeight/2, labelWidth+scale(s.High))
			fmt.Fprintf(b, "<text x=\"%.1f\" y=\"%d\">%s %s</text>\n", labelWidth+scale(max(s.Median, s.High))+6, y+12, number(s.Median), p.unit)
		}
		y += barHeight + barGap
	}
	return y + groupGap
}

func contains(list []string, s string) bool {
	for _, other := range list {
		if other == s {
			return true
		}
	}
	return false
}
