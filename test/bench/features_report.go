// SPDX-License-Identifier: Apache-2.0

//go:build linux

package main

import (
	"fmt"
	"io"
	"slices"
	"strings"
	"text/tabwriter"

	"github.com/heddle-mesh/heddle/test/bench/peers"
	"github.com/heddle-mesh/heddle/test/bench/stats"
)

// ratios are a feature's costs over what there is without it, in order of the rounds, and those in microseconds.
func (r *report) ratios(feature, work string) (ratios, micros []float64) {
	for _, f := range r.Features {
		if f.Feature == feature && f.Work == work && f.Failure == "" {
			ratios, micros = append(ratios, f.With/f.Without), append(micros, f.With-f.Without)
		}
	}
	return ratios, micros
}

// featureNames are those that were measured, in order of the list.
func (r *report) featureNames() []string {
	var out []string
	for _, f := range peers.Features {
		if slices.ContainsFunc(r.Features, func(m featured) bool { return m.Feature == f.Name }) {
			out = append(out, f.Name)
		}
	}
	return out
}

func (r *report) printFeatures(out io.Writer) error {
	if len(r.Features) == 0 {
		return nil
	}
	tw := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprint(tw, "\nfeature, of the pair")
	for _, w := range featureWorks[peers.Many] {
		fmt.Fprintf(tw, "\t%s: with/without\tmiddle half\trounds\tµs", w.Name)
	}
	fmt.Fprintln(tw)
	for _, name := range r.featureNames() {
		fmt.Fprint(tw, name)
		for _, w := range featureWorks[peers.Many] {
			ratios, micros := r.ratios(name, w.Name)
			s := stats.Summarize(ratios)
			fmt.Fprintf(tw, "\t%s\t%s\t%d\t%s", number(s.Median), middle(s), s.N, signed(stats.Summarize(micros).Median))
		}
		fmt.Fprintln(tw)
	}
	return tw.Flush()
}

// featuresTable is a part of docs/performance.md of its own.
func (r *report) featuresTable() string {
	var b strings.Builder
	fmt.Fprintf(&b, "Measured %s on %s, heddle %s.\n\n", r.Began.Format("2006-01-02 15:04 UTC"), r.Machine, r.Versions[ours])
	if r.Note != "" {
		fmt.Fprintf(&b, "%s\n\n", r.Note)
	}
	b.WriteString("| what is used | HTTP/1.1: with / without | µs more | HTTP/2: with / without | µs more | rounds |\n|---|---|---|---|---|---|\n")
	for _, name := range r.featureNames() {
		fmt.Fprintf(&b, "| %s |", name)
		n := 0
		for _, w := range featureWorks[peers.Many] {
			ratios, micros := r.ratios(name, w.Name)
			s := stats.Summarize(ratios)
			n = s.N
			if n == 0 {
				fmt.Fprintf(&b, " %s | |", unmeasured)
				continue
			}
			fmt.Fprintf(&b, " %s (%s) | %s |", number(s.Median), middle(s), signed(stats.Summarize(micros).Median))
		}
		fmt.Fprintf(&b, " %d |\n", n)
	}
	return b.String()
}

// middle is the range of the middle half: rounds are short, so the least and the most of them tell of the machine.
func middle(s stats.Summary) string { return number(s.Q25) + ".." + number(s.Q75) }

func signed(v float64) string { return fmt.Sprintf("%+.2f", v) }
