// SPDX-License-Identifier: Apache-2.0

//go:build linux

package main

import (
	"fmt"
	"strings"

	"github.com/heddle-mesh/heddle/test/bench/peers"
	"github.com/heddle-mesh/heddle/test/bench/stats"
	"github.com/heddle-mesh/heddle/test/bench/traffic"
)

// markdown is the generated part of docs/performance.md.
func (r *report) markdown() string {
	var b strings.Builder
	fmt.Fprintf(&b, "Measured %s on %s. %d rounds; medians, with the least and the most of the rounds.\n\n", r.Began.Format("2006-01-02 15:04 UTC"), r.Machine, r.Rounds)
	if r.Note != "" {
		fmt.Fprintf(&b, "**%s**\n\n", r.Note)
	}
	if s := stats.Summarize(r.foreign()); s.N > 0 && s.High > 0 {
		fmt.Fprintf(&b, "Others used %.0f %% of the machine's processors meanwhile (median; %.0f %% at most).", 100*s.Median, 100*s.High)
		if s.Median > quiet {
			b.WriteString(" **That is not a quiet machine: take no verdict from these figures.**")
		}
		b.WriteString("\n\n")
	}
	for _, name := range r.names() {
		if version := r.Versions[name]; version != "" {
			fmt.Fprintf(&b, "- %s: %s\n", name, version)
		} else {
			fmt.Fprintf(&b, "- %s: unmeasured\n", name)
		}
	}
	b.WriteString("\n### Targets\n\n| sidecar pair with mTLS, features on | target | measured | |\n|---|---|---|---|\n")
	for _, v := range r.verdicts() {
		fmt.Fprintf(&b, "| %s | %s | %s | %s |\n", v.Target, v.Limit, v.Measured, v.Verdict)
	}
	for _, topology := range []peers.Topology{peers.Pair, peers.Plain} {
		r.costs(&b, topology)
		r.latencies(&b, topology)
		r.loaded(&b, topology)
	}
	r.memoryTable(&b)
	r.limitsTable(&b)
	r.tops(&b)
	r.problems(&b)
	return b.String()
}

// quiet is how much others may use of a machine that is measured on.
const quiet = 0.05

var titles = map[peers.Topology]string{peers.Pair: "sidecar pair with mTLS", peers.Plain: "one proxy in clear"}

// header begins a table with a column for each peer.
func (r *report) header(b *strings.Builder, title, first string) {
	fmt.Fprintf(b, "\n### %s\n\n| %s |", title, first)
	for _, name := range r.names() {
		fmt.Fprintf(b, " %s |", name)
	}
	b.WriteString("\n|---|")
	for range r.names() {
		b.WriteString("---|")
	}
	b.WriteString("\n")
}

// row writes a line, with a cell for each peer.
func (r *report) row(b *strings.Builder, first string, cell func(peer string) string) {
	fmt.Fprintf(b, "| %s |", first)
	for _, name := range r.names() {
		fmt.Fprintf(b, " %s |", cell(name))
	}
	b.WriteString("\n")
}

// spread writes a median with the least and the most, and of how many rounds if it isn't all.
func spread(values []float64) string {
	s := stats.Summarize(values)
	if s.N == 0 {
		return unmeasured
	}
	text := fmt.Sprintf("%s (%s..%s", number(s.Median), number(s.Low), number(s.High))
	if s.N < len(values) {
		text += fmt.Sprintf("; %d of %d rounds", s.N, len(values))
	}
	return text + ")"
}

func (r *report) measured(topology peers.Topology, open bool) []work {
	var out []work
	for _, w := range works {
		for _, name := range r.names() {
			if len(r.by[key{name, topology, w.Name, open}]) > 0 {
				out = append(out, w)
				break
			}
		}
	}
	return out
}

// costs are processor time, its ratio to ours, and the rate at saturation.
func (r *report) costs(b *strings.Builder, topology peers.Topology) {
	measured := r.measured(topology, false)
	if len(measured) == 0 {
		return
	}
	r.header(b, "Processor time, "+titles[topology], "µs of all proxies together")
	for _, w := range measured {
		r.row(b, w.Name+", per "+w.Unit, func(peer string) string { return spread(r.values(key{peer, topology, w.Name, false}, perRequest)) })
	}
	if topology == peers.Pair {
		for _, group := range plotted {
			fmt.Fprintf(b, "\n![%s](performance/%s.svg)\n", group.title, group.file)
		}
	}
	r.header(b, "Heddle's processor time over the peer's, "+titles[topology], "ratio of each round, then the median")
	for _, w := range measured {
		mine := r.values(key{ours, topology, w.Name, false}, perRequest)
		r.row(b, w.Name, func(peer string) string {
			return spread(stats.Ratios(mine, r.values(key{peer, topology, w.Name, false}, perRequest)))
		})
	}
	r.header(b, "Rate at saturation of one processor, "+titles[topology], "a second")
	for _, w := range measured {
		r.row(b, w.Name, func(peer string) string {
			k := key{peer, topology, w.Name, false}
			s := stats.Summarize(r.values(k, rate))
			if s.N == 0 {
				return unmeasured
			}
			if busyness := stats.Summarize(r.values(k, busy)).Median; busyness < saturated {
				return fmt.Sprintf("over %s (proxies %.0f %% busy)", number(s.Median), 100*busyness)
			}
			return number(s.Median)
		})
	}
	for _, w := range measured {
		if w.Protocol == traffic.Download {
			r.row(b, w.Name+", MiB per processor second", func(peer string) string {
				return spread(r.values(key{peer, topology, w.Name, false}, func(m measurement) float64 { return 1e6 / perRequest(m) }))
			})
		}
		if w.Protocol == traffic.Handshakes {
			r.row(b, w.Name+", per processor second", func(peer string) string {
				return spread(r.values(key{peer, topology, w.Name, false}, func(m measurement) float64 { return 1e6 / perRequest(m) }))
			})
		}
	}
}

// saturated is how busy proxies must be for a rate to be theirs and not the generator's.
const saturated = 0.9

func (r *report) latencies(b *strings.Builder, topology peers.Topology) {
	measured := r.measured(topology, true)
	if len(measured) == 0 {
		return
	}
	r.header(b, "Latency at half of HAProxy's saturation, "+titles[topology], "ms from when it was meant to be sent")
	for _, w := range measured {
		at := 0.0
		for _, name := range r.names() {
			for _, m := range r.by[key{name, topology, w.Name, true}] {
				at = m.Rate
			}
		}
		for _, q := range []struct {
			name   string
			figure func(measurement) float64
		}{{"p50", p50}, {"p99", p99}, {"p99.9", p999}} {
			r.row(b, fmt.Sprintf("%s, %.0f/s, %s", w.Name, at, q.name), func(peer string) string {
				return spread(r.values(key{peer, topology, w.Name, true}, q.figure))
			})
		}
	}
}

// loaded is the resident memory at saturation.
func (r *report) loaded(b *strings.Builder, topology peers.Topology) {
	measured := r.measured(topology, false)
	if len(measured) == 0 {
		return
	}
	r.header(b, "Resident memory under load, "+titles[topology], "MiB, all processes")
	for _, w := range measured {
		r.row(b, w.Name, func(peer string) string {
			return spread(r.values(key{peer, topology, w.Name, false}, func(m measurement) float64 { return float64(m.Result.Resident) / (1 << 20) }))
		})
	}
}

func (r *report) memoryTable(b *strings.Builder) {
	if len(r.Memory) > 0 {
		r.header(b, "Resident memory, idle for 60 s", "")
		of := map[string]memory{}
		for _, m := range r.Memory {
			of[m.Peer] = m
		}
		size := func(n float64) string {
			if n == 0 {
				return unmeasured
			}
			return bytesText(n)
		}
		r.row(b, "one proxy in clear", func(peer string) string { return size(float64(of[peer].Plain)) })
		r.row(b, "pair, client side", func(peer string) string { return size(float64(of[peer].Client)) })
		r.row(b, "pair, server side", func(peer string) string { return size(float64(of[peer].Server)) })
		for _, kind := range idleKinds {
			r.row(b, "each idle connection: "+kind.name, func(peer string) string { return size(of[peer].Connections[kind.name]) })
		}
	}
	r.header(b, "Binary", "")
	r.row(b, "size", func(peer string) string {
		if n := r.Binaries[peer]; n > 0 {
			return bytesText(float64(n))
		}
		return unmeasured
	})
}

// tops are where the time goes.
func (r *report) tops(b *strings.Builder) {
	for _, p := range r.Profiles {
		fmt.Fprintf(b, "\n### Where Heddle's time goes: %s\n\n```\n%s\n```\n", p.Work, strings.TrimSpace(p.Top))
	}
}

func (r *report) problems(b *strings.Builder) {
	if len(r.Problems) == 0 {
		return // all was well
	}
	b.WriteString("\n### What was not as it should be\n\n")
	for _, problem := range r.Problems {
		fmt.Fprintf(b, "- %s\n", problem)
	}
}
