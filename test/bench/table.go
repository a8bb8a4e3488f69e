// SPDX-License-Identifier: Apache-2.0

//go:build linux

package main

import (
	"fmt"
	"io"
	"math"
	"text/tabwriter"

	"github.com/heddle-mesh/heddle/test/bench/peers"
	"github.com/heddle-mesh/heddle/test/bench/stats"
)

// print writes a table for the terminal: for every work a line for each peer, with its ratio to the first one's rounds.
func (r *report) print(out io.Writer) error {
	for _, topology := range []peers.Topology{peers.Pair, peers.Plain} {
		for _, w := range works {
			if err := r.printWork(out, topology, w); err != nil {
				return err
			}
		}
	}
	return nil
}

func (r *report) printWork(out io.Writer, topology peers.Topology, w work) error {
	first := ""
	tw := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	for _, name := range r.names() {
		k := key{name, topology, w.Name, false}
		if len(r.by[k]) == 0 {
			continue
		}
		cost := r.values(k, perRequest)
		if first == "" {
			first = name
			fmt.Fprintf(tw, "\n%s, %s\tµs per %s\tmin..max\t%s/it\tmin..max\tper second\tp50 ms\tp99\tp99.9\t%s/it, p99\n", topology, w.Name, w.Unit, first, first)
		}
		base := key{first, topology, w.Name, false}
		open, baseOpen := key{name, topology, w.Name, true}, key{first, topology, w.Name, true}
		ratio := stats.Summarize(stats.Ratios(r.values(base, perRequest), cost))
		c := stats.Summarize(cost)
		tail := stats.Summarize(stats.Ratios(r.values(baseOpen, p99), r.values(open, p99)))
		fmt.Fprintf(tw, "%s\t%s\t%s..%s\t%s\t%s..%s\t%s\t%s\t%s\t%s\t%s\n", name, number(c.Median), number(c.Low), number(c.High),
			number(ratio.Median), number(ratio.Low), number(ratio.High), number(stats.Summarize(r.values(k, rate)).Median),
			number(stats.Summarize(r.values(open, p50)).Median), number(stats.Summarize(r.values(open, p99)).Median),
			number(stats.Summarize(r.values(open, p999)).Median), number(tail.Median))
	}
	return tw.Flush()
}

// names are the peers, in the order of the tables.
func (r *report) names() []string {
	var out []string
	for _, p := range r.run.chosen() {
		out = append(out, p.Name())
	}
	return out
}

// number writes three digits that count, and "unmeasured" for what isn't a number.
func number(v float64) string {
	switch {
	case math.IsNaN(v):
		return "unmeasured"
	case v >= 1000:
		return fmt.Sprintf("%.0f", v)
	case v >= 100:
		return fmt.Sprintf("%.1f", v)
	case v >= 10:
		return fmt.Sprintf("%.2f", v)
	default:
		return fmt.Sprintf("%.3f", v)
	}
}
