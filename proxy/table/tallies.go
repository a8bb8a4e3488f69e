// SPDX-License-Identifier: Apache-2.0

package table

import (
	"cmp"
	"maps"
	"slices"

	"github.com/heddle-mesh/heddle/proxy/health"
	"github.com/heddle-mesh/heddle/proxy/observe"
	"github.com/heddle-mesh/heddle/proxy/outlier"
	"github.com/heddle-mesh/heddle/proxy/upstream"
)

// counts are how often what has happened. Those of clusters and checkers that are gone are kept, since counts must not
// fall.
type counts map[counted]uint64

type counted struct {
	of   observe.Defence
	kind string
}

func (n counts) add(of observe.Defence, kind string, times uint64) {
	if times > 0 {
		n[counted{of, kind}] += times
	}
}

// ofCluster adds what a cluster has counted. Store.mu is held.
func (n counts) ofCluster(c *Cluster) {
	got := c.outliers.Counts()
	for cause, times := range got.Ejections {
		n.add(observe.Ejections, outlier.Cause(cause).String(), times)
	}
	n.add(observe.CappedEjections, "", got.Capped)
	n.add(observe.Trials, "passed", got.Passed)
	n.add(observe.Trials, "failed", got.Failed)
	for bound := outlier.Connections; bound <= outlier.EndpointConcurrency; bound++ {
		n.add(observe.BreakerRefusals, bound.String(), c.breaker.Refused(bound))
	}
	for what, times := range c.past {
		n[what] += times
	}
	n.ofChecker(c.checker.Load())
}

func (n counts) ofChecker(checker *health.Checker) {
	if checker == nil {
		return
	}
	got := checker.Counts()
	n.add(observe.Checks, "passed", got.Made-got.Failed)
	n.add(observe.Checks, "failed", got.Failed)
	n.add(observe.Checks, "skipped", got.Skipped)
}

// Tallies returns how often defences have acted for each service that is in use, and who is out; by service. What is 0 is
// left out, but for those who are out.
func (s *Store) Tallies() []observe.Tally {
	s.mu.Lock()
	defer s.mu.Unlock()
	var list []observe.Tally
	for _, b := range s.backends {
		n := maps.Clone(b.past)
		for _, c := range b.clusters {
			n.ofCluster(c)
		}
		for what, times := range n {
			list = append(list, observe.Tally{Of: what.of, Service: b.name, Kind: what.kind, N: times})
		}
		if len(b.clusters) > 0 {
			ejected, down := b.away()
			list = append(
				list,
				observe.Tally{Of: observe.EndpointsOut, Service: b.name, Kind: "ejected", N: ejected},
				observe.Tally{Of: observe.EndpointsOut, Service: b.name, Kind: "down", N: down},
			)
		}
	}
	exhausted := func(service string, budget *outlier.RetryBudget) {
		if n := budget.Refused(); n > 0 {
			list = append(list, observe.Tally{Of: observe.ExhaustedBudget, Service: service, N: n})
		}
	}
	for _, svc := range s.services {
		exhausted(svc.name, svc.budget)
	}
	exhausted("", s.abroad)
	slices.SortStableFunc(list, func(a, b observe.Tally) int { return cmp.Compare(a.Service, b.Service) })
	return list
}

// away is how many ready endpoints get no requests, each counted once though several clusters may have it. Store.mu is held.
func (b *backend) away() (ejected, down uint64) {
	out, failing := make(map[*upstream.Endpoint]bool), make(map[*upstream.Endpoint]bool)
	for _, c := range b.clusters {
		set := c.Endpoints()
		if set.Healthy() >= set.Ready() {
			continue
		}
		for _, m := range set.Members()[:set.Ready()] {
			if m.State.Ejected() {
				out[m.Endpoint] = true
			}
			if m.State.Down() {
				failing[m.Endpoint] = true
			}
		}
	}
	return uint64(len(out)), uint64(len(failing))
}
