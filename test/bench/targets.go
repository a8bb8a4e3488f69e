// SPDX-License-Identifier: Apache-2.0

//go:build linux

package main

import (
	"fmt"
	"math"

	"github.com/heddle-mesh/heddle/test/bench/peers"
	"github.com/heddle-mesh/heddle/test/bench/stats"
	"github.com/heddle-mesh/heddle/test/bench/traffic"
)

// verdict is one line of the table of targets.
type verdict struct {
	Target, Limit, Measured, Verdict string
}

// Verdicts. What has no figure is neither of the first two, and what has too few rounds is told so.
const (
	met        = "met"
	missed     = "**missed**"
	unmeasured = "unmeasured"
	tooFew     = ", in too few rounds"
)

// enoughRounds is what issue 3 asks of a ratio.
const enoughRounds = 9

// ours is whom the targets are for.
const ours = "heddle"

// comparison is a target for all works of some groups: a figure, divided round by round by the best of some peers'.
type comparison struct {
	what    string
	applies func(work) bool
	figure  func(measurement) float64
	open    bool
	peers   []string
	limit   float64
	below   bool // below the limit, where equal isn't enough
	inverse bool // the figure is a cost, the target asks for what it buys: at least the limit
}

var (
	isHTTP1    = func(w work) bool { return w.Group == "http1" }
	isHTTP2    = func(w work) bool { return w.Group == "http2" || w.Protocol == traffic.Unary }
	isOpen     = func(w work) bool { return w.Open }
	isDownload = func(w work) bool { return w.Protocol == traffic.Download }
)

var comparisons = []comparison{
	{what: "processor time per request", applies: isHTTP1, figure: perRequest, peers: []string{"nginx", "haproxy"}, limit: 1},
	{what: "processor time per request", applies: isHTTP1, figure: perRequest, peers: []string{"envoy"}, limit: 0.5},
	{what: "processor time per request", applies: isHTTP2, figure: perRequest, peers: []string{"haproxy"}, limit: 1},
	{what: "processor time per request", applies: isHTTP2, figure: perRequest, peers: []string{"envoy"}, limit: 0.3},
	{what: "processor time per request", applies: isHTTP2, figure: perRequest, peers: []string{"net/http"}, limit: 0.15},
	{what: "p99 at half of HAProxy's saturation", applies: isOpen, figure: p99, open: true, peers: []string{"haproxy"}, limit: 1.2},
	{what: "p99 at half of HAProxy's saturation", applies: isOpen, figure: p99, open: true, peers: []string{"envoy"}, limit: 1, below: true},
	{what: "bytes per processor second", applies: isDownload, figure: perRequest, peers: []string{"haproxy"}, limit: 0.9, inverse: true},
}

// verdicts judges every target of issue 3.
func (r *report) verdicts() []verdict {
	var out []verdict
	for _, c := range comparisons {
		for _, w := range works {
			if c.applies(w) {
				out = append(out, r.compare(c, w))
			}
		}
	}
	out = append(append(out, r.memoryVerdicts()...), r.limitsVerdict())
	out = append(out, verdict{"allocations of ours per warm request, in clear", "0 on HTTP/1.1, 4 on HTTP/2", "not by the bench: tests of proxy/http1, http2 and forward assert it", unmeasured})
	size := float64(r.Binaries[ours])
	return append(out, bound("proxy binary, stripped", size, 13<<20))
}

// compare judges one work.
func (r *report) compare(c comparison, w work) verdict {
	var theirs [][]float64
	for _, peer := range c.peers {
		theirs = append(theirs, r.values(key{peer, peers.Pair, w.Name, c.open}, c.figure))
	}
	mine := r.values(key{ours, peers.Pair, w.Name, c.open}, c.figure)
	ratios := stats.Ratios(mine, stats.Best(theirs...))
	limit := fmt.Sprintf("at most %.2f x %s", c.limit, best(c.peers))
	if c.below {
		limit = "below " + best(c.peers)
	}
	if c.inverse {
		ratios = stats.Ratios(stats.Best(theirs...), mine)
		limit = fmt.Sprintf("at least %.2f x %s", c.limit, best(c.peers))
	}
	s := stats.Summarize(ratios)
	v := verdict{w.Name + ": " + c.what, limit, spread(ratios), missed}
	switch {
	case math.IsNaN(s.Median):
		v.Verdict = unmeasured
	case c.inverse && s.Median >= c.limit, c.below && s.Median < c.limit, !c.inverse && !c.below && s.Median <= c.limit:
		v.Verdict = met
	}
	if s.N > 0 && s.N < enoughRounds {
		v.Verdict += tooFew
	}
	return v
}

func best(names []string) string {
	if len(names) == 1 {
		return names[0]
	}
	return fmt.Sprintf("the better of %s and %s", names[0], names[1])
}

func (r *report) memoryVerdicts() []verdict {
	m := memory{}
	for _, other := range r.Memory {
		if other.Peer == ours {
			m = other
		}
	}
	connection := func(names ...string) float64 {
		most := 0.0
		for _, name := range names {
			each, ok := m.Connections[name]
			if !ok {
				return 0
			}
			most = max(most, each)
		}
		return most
	}
	idle := max(m.Client, m.Server)
	if m.Client == 0 || m.Server == 0 {
		idle = 0
	}
	return []verdict{
		bound("resident memory, idle, the larger side", float64(idle), 16<<20),
		bound("per idle connection, plain", connection(idleKinds[0].name), 6<<10),
		bound("per idle connection, mTLS server side", connection(idleKinds[1].name), 24<<10),
		bound("per idle connection, mTLS client side", connection(idleKinds[3].name), 16<<10),
		bound("per idle connection, mTLS after 1 MiB of response, the larger side", connection(idleKinds[2].name, idleKinds[4].name), 36<<10),
	}
}

// bound judges a size against the most that it may be. 0 is unmeasured.
func bound(what string, size, limit float64) verdict {
	v := verdict{what, "at most " + bytesText(limit), bytesText(size), missed}
	switch {
	case size == 0:
		v.Measured, v.Verdict = unmeasured, unmeasured
	case size <= limit:
		v.Verdict = met
	}
	return v
}
