// SPDX-License-Identifier: Apache-2.0

//go:build linux

package main

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/heddle-mesh/heddle/test/bench/peers"
	"github.com/heddle-mesh/heddle/test/bench/traffic"
)

// How the features' costs are measured: in short rounds, since what a machine does besides comes and goes. So many features
// share a measurement without any.
const (
	featureTime   = 500 * time.Millisecond
	featureWarmup = 150 * time.Millisecond
	perNothing    = 4
)

// featured is a feature in one round of one work: processor time for each request, in microseconds, without it and with it.
type featured struct {
	Feature string  `json:"feature"`
	Work    string  `json:"work"`
	Round   int     `json:"round"`
	Without float64 `json:"without"`
	With    float64 `json:"with"`
	Failure string  `json:"failure,omitempty"`
}

var featureWorks = map[peers.Load][]work{
	peers.Many: {
		{Name: "HTTP/1.1", Protocol: traffic.HTTP1, Size: "1k", Connections: 100, Streams: 1},
		{Name: "HTTP/2", Protocol: traffic.HTTP2, Size: "1k", Connections: 8, Streams: 100},
	},
	peers.Few: {
		{Name: "HTTP/1.1", Protocol: traffic.HTTP1, Size: "1k", Connections: 8, Streams: 1},
		{Name: "HTTP/2", Protocol: traffic.HTTP2, Size: "1k", Connections: 2, Streams: 4},
	},
	peers.Content: {
		{Name: "HTTP/1.1", Protocol: traffic.Post, Size: "1k", Connections: 100, Streams: 1},
		{Name: "HTTP/2", Protocol: traffic.Unary, Size: "1k", Connections: 8, Streams: 16},
	},
}

// features measures what each feature costs that is used, beside a pair that uses none.
func (r *run) features(ctx context.Context) error {
	for _, load := range []peers.Load{peers.Many, peers.Few, peers.Content} {
		of := slices.DeleteFunc(slices.Clone(peers.Features), func(f peers.Feature) bool {
			return f.Under != load || !strings.Contains(f.Name, r.work)
		})
		for some := range slices.Chunk(of, perNothing) {
			if err := r.featuresOf(ctx, some, featureWorks[load]); err != nil {
				return err
			}
		}
	}
	return nil
}

// featuresOf measures some features, whose pairs run side by side and take turns.
func (r *run) featuresOf(ctx context.Context, some []peers.Feature, works []work) error {
	var up []running
	defer func() {
		for _, p := range up {
			p.Stop()
		}
	}()
	for _, f := range append([]peers.Feature{peers.Nothing}, some...) {
		p := peers.With(&f, r.heddle, r.proxy)
		i, err := p.Start(r.site, peers.Pair)
		if err != nil {
			return fmt.Errorf("%s: %w", f.Name, err)
		}
		up = append(up, running{p, i})
	}
	r.report.started(up[0])
	for round := range r.rounds {
		for _, w := range works {
			if err := r.featureRound(ctx, up, w, round); err != nil {
				return err
			}
		}
	}
	for _, p := range up {
		for _, refused := range p.Refused() {
			r.report.problem(p.Name(), peers.Pair, refused)
		}
	}
	return nil
}

// featureRound measures each pair once, the first of which uses nothing. Who begins changes from round to round.
func (r *run) featureRound(ctx context.Context, up []running, w work, round int) error {
	costs, failures := make([]float64, len(up)), make([]string, len(up))
	for n := range up {
		n = (n + round) % len(up)
		if err := r.settle(ctx, up); err != nil {
			return err
		}
		l := r.loadOf(w, up[n].Instance, round, 0)
		l.Warmup, l.Duration, l.Query, l.Cookie = featureWarmup, featureTime, peers.FeatureQuery, peers.FeatureCookie
		result, err := r.generate(ctx, l)
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if err == nil {
			err = up[n].Alive()
		}
		m := measurement{Result: result, Failure: text(err)}
		switch {
		case m.sound():
			costs[n] = perRequest(m)
		case err == nil:
			failures[n] = fmt.Sprintf("%d errors of %d requests: %s", result.Errors, result.Requests, result.Error)
		default:
			failures[n] = m.Failure
		}
	}
	for n := range up[1:] {
		n++
		r.report.addFeatured(featured{up[n].Name(), w.Name, round, costs[0], costs[n], failures[0] + failures[n]})
	}
	return nil
}

func (r *report) addFeatured(f featured) {
	r.Features = append(r.Features, f)
	if f.Failure != "" {
		r.failed = true
		fmt.Fprintf(r.run.out, "round %d, %s, %s: %s\n", f.Round+1, f.Feature, f.Work, f.Failure)
	}
}
