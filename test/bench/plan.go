// SPDX-License-Identifier: Apache-2.0

//go:build linux

package main

import (
	"context"
	"slices"
	"time"

	"github.com/heddle-mesh/heddle/test/bench/peers"
)

// step is one work in one round: all peers, one after the other.
type step struct {
	work  work
	round int
	open  bool
}

// plan puts a topology's steps in order: closed loops, then open ones, whose rate comes from the closed ones. Within a
// budget the works of the targets come first and all else is left for the end.
func plan(works []work, rounds int, budgeted bool) (closed, open, rest []step) {
	for round := range rounds {
		for _, w := range works {
			if budgeted && !w.Target {
				rest = append(rest, step{w, round, false})
				continue
			}
			closed = append(closed, step{w, round, false})
			if w.Open {
				open = append(open, step{w, round, true})
			}
		}
	}
	return closed, open, rest
}

// closedShare is how much of a budget the closed loops may take.
const closedShare = 0.55

// measure takes all steps of a topology, or as many as a budget has time for.
func (r *run) measure(ctx context.Context, topology peers.Topology, up []running, works []work) error {
	closed, open, rest := plan(works, r.rounds, r.budget > 0)
	begin := time.Now()
	until := func(share float64) time.Time {
		if r.budget == 0 {
			return begin.AddDate(1, 0, 0)
		}
		return begin.Add(time.Duration(share * float64(r.budget)))
	}
	if err := r.steps(ctx, topology, up, closed, until(closedShare)); err != nil {
		return err
	}
	latency := up
	if r.budget > 0 { // those whom a target names
		latency = slices.DeleteFunc(slices.Clone(up), func(p running) bool { return !slices.Contains([]string{ours, "haproxy", "envoy"}, p.Name()) })
	}
	if err := r.steps(ctx, topology, latency, open, until(1)); err != nil {
		return err
	}
	return r.steps(ctx, topology, up, rest, until(1))
}

// steps takes steps until a time.
func (r *run) steps(ctx context.Context, topology peers.Topology, up []running, steps []step, until time.Time) error {
	rates := map[string]float64{}
	for _, s := range steps {
		if time.Now().After(until) {
			return nil
		}
		rate := 0.0
		if s.open {
			if _, known := rates[s.work.Name]; !known {
				rates[s.work.Name] = r.report.halfOf("haproxy", topology, s.work)
				if rates[s.work.Name] == 0 {
					r.report.problem("all", topology, s.work.Name+": no saturation of HAProxy's, so no rate to measure latency at")
				}
			}
			if rate = rates[s.work.Name]; rate == 0 {
				continue
			}
		}
		if err := r.round(ctx, topology, up, s.work, s.round, rate); err != nil {
			return err
		}
	}
	return nil
}
