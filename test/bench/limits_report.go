// SPDX-License-Identifier: Apache-2.0

//go:build linux

package main

import (
	"fmt"
	"io"
	"math"
	"slices"
	"strings"
	"text/tabwriter"

	"github.com/heddle-mesh/heddle/internal/limits"
	"github.com/heddle-mesh/heddle/test/bench/stats"
	"github.com/heddle-mesh/heddle/test/hostile"
)

// harmless is what an attack may do to a neighbour's p99: less than twice what it is without.
const harmless = 2

func (r *report) addAttacked(m attacked) {
	r.Limits = append(r.Limits, m)
	line := fmt.Sprintf("round %d, %s, %s: p99 %v, quiet %v; %d made at %.0f/s", m.Round+1, m.Limit, m.Attack, m.Under, m.Quiet, m.Made, m.Rate)
	for _, wrong := range []string{m.Failure, m.Wrong} {
		if wrong != "" {
			line += "; " + wrong
		}
	}
	if m.Errors > 0 {
		line += fmt.Sprintf("; %d good requests failed", m.Errors)
	}
	fmt.Fprintln(r.run.out, line)
}

// fared is what all rounds of an attack come to.
type fared struct {
	quiet, under, ratios []float64 // of each round; ms
	rate                 float64
	errors               int64
	wrong                string // an outcome that was not what it has to be
}

func (r *report) fared(attack string) fared {
	var f fared
	for _, m := range r.Limits {
		if m.Attack != attack {
			continue
		}
		f.rate = m.Rate
		f.errors += m.Errors
		for _, wrong := range []string{m.Failure, m.Wrong} {
			if f.wrong == "" {
				f.wrong = wrong
			}
		}
		f.quiet, f.under = append(f.quiet, milliseconds(m.Quiet)), append(f.under, milliseconds(m.Under))
		ratio := math.NaN()
		if m.Quiet > 0 && m.Under > 0 {
			ratio = float64(m.Under) / float64(m.Quiet)
		}
		f.ratios = append(f.ratios, ratio)
	}
	return f
}

// verdict says whether the neighbour noticed nothing.
func (f *fared) verdict() string {
	median := stats.Summarize(f.ratios).Median
	switch {
	case f.errors > 0:
		return fmt.Sprintf("%s: %d good requests failed", missed, f.errors)
	case f.wrong != "":
		return missed + ": " + f.wrong
	case math.IsNaN(median):
		return unmeasured
	case median < harmless:
		return met
	}
	return missed
}

// limitsVerdict judges all limits by the one that does its neighbours most harm.
func (r *report) limitsVerdict() verdict {
	v := verdict{"p99 of a good client while a limit is gone over, the worst limit", fmt.Sprintf("below %.2f x its quiet p99", float64(harmless)), unmeasured, unmeasured}
	worst := 0.0
	for _, a := range hostile.All() {
		f := r.fared(a.Name)
		if len(f.ratios) == 0 {
			continue
		}
		judged := f.verdict()
		ratio := stats.Summarize(f.ratios).Median
		if v.Verdict == unmeasured || judged != met && v.Verdict == met || (judged != met) == (v.Verdict != met) && ratio > worst {
			v.Measured, v.Verdict, worst = fmt.Sprintf("%s, %s: %s", a.Limit, a.Name, spread(f.ratios)), judged, ratio
		}
	}
	return v
}

// attackRows are the cells of a row for each attack.
func (r *report) attackRows() [][]string {
	if len(r.Limits) == 0 {
		return nil
	}
	var rows [][]string
	for _, l := range limits.All() {
		of := slices.DeleteFunc(hostile.All(), func(a *hostile.Attack) bool { return a.Limit != l.Name })
		if len(of) == 0 {
			rows = append(rows, []string{string(l.Name), "of the whole proxy, so that its neighbours do notice: 503", "", "", "", "", unmeasured})
		}
		for _, a := range of {
			f := r.fared(a.Name)
			rows = append(rows, []string{
				string(l.Name), a.Name, fmt.Sprintf("%.0f/s", rateOf(a)), number(stats.Summarize(f.quiet).Median),
				number(stats.Summarize(f.under).Median), spread(f.ratios), f.verdict(),
			})
		}
	}
	return rows
}

var attackColumns = []string{"limit", "attack", "rate", "quiet p99, ms", "p99 under it, ms", "ratio of each round, then the median", ""}

func (r *report) printLimits(out io.Writer) error {
	rows := r.attackRows()
	if rows == nil {
		return nil
	}
	tw := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	for _, row := range append([][]string{attackColumns}, rows...) {
		fmt.Fprintln(tw, strings.Join(row, "\t"))
	}
	return tw.Flush()
}

func (r *report) limitsTable(b *strings.Builder) {
	rows := r.attackRows()
	if rows == nil {
		return
	}
	fmt.Fprintf(b, "\n### A good client while limits are gone over, sidecar pair with mTLS\n\n| %s |\n|%s\n", strings.Join(attackColumns, " | "),
		strings.Repeat("---|", len(attackColumns)))
	for _, row := range rows {
		fmt.Fprintf(b, "| %s |\n", strings.Join(row, " | "))
	}
}
