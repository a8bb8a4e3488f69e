// SPDX-License-Identifier: Apache-2.0

package table

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/heddle-mesh/heddle/internal/meshconfig"
	"github.com/heddle-mesh/heddle/proxy/observe"
	"github.com/heddle-mesh/heddle/proxy/outlier"
)

// tally returns what is counted of a service.
func (m *mesh) tally(of observe.Defence, service, kind string) uint64 {
	m.Helper()
	for _, t := range m.Tallies() {
		if t.Of == of && t.Service == service && t.Kind == kind {
			return t.N
		}
	}
	return 0
}

func TestWhatDefencesDidIsTold(t *testing.T) {
	inBubble(t, Options{}, func(m *mesh) {
		d := m.three()
		want := func(n uint64, of observe.Defence, kind string) {
			m.Helper()
			if got := m.tally(of, cart, kind); got != n {
				m.Errorf("defence %d %q: %d, want %d", of, kind, got, n)
			}
		}
		want(0, observe.EndpointsOut, "ejected")
		m.clustered(&meshconfig.Cluster{
			Service: cart, Breaker: &meshconfig.Breaker{MaxRequests: 1},
			HealthCheck: &meshconfig.HealthCheck{Type: meshconfig.HealthCheck_TYPE_TCP, Interval: 1000, UnhealthyThreshold: 1},
		})
		c := cluster(d)
		c.fail(one, 5)
		c.fail(two, 5)
		c.Breaker().Acquire(outlier.Requests)
		c.Breaker().Acquire(outlier.Requests)
		for d.Port().Budget.Take(time.Now().UnixNano()) {
		}
		m.network.set(three, true)
		for range 10 {
			c.Use()
			c.Use()
			c.Use()
			time.Sleep(time.Second)
		}
		synctest.Wait() // the last check has been told
		want(1, observe.Ejections, "consecutive_failures")
		want(1, observe.CappedEjections, "")
		want(1, observe.EndpointsOut, "ejected")
		want(1, observe.EndpointsOut, "down")
		want(1, observe.BreakerRefusals, "maxRequests")
		want(1, observe.ExhaustedBudget, "")
		passed, failed := m.tally(observe.Checks, cart, "passed"), m.tally(observe.Checks, cart, "failed")
		if passed == 0 || failed == 0 {
			m.Errorf("%d checks passed and %d failed, want some of both", passed, failed)
		}

		// Counts are kept when checks end, and when another cluster takes over.
		m.clustered(&meshconfig.Cluster{Service: cart})
		if p, f := m.tally(observe.Checks, cart, "passed"), m.tally(observe.Checks, cart, "failed"); p < passed || f < failed {
			m.Errorf("%d checks passed and %d failed when there are none any more, before it were %d and %d", p, f, passed, failed)
		}
		m.endpoints(green, 0, 1, "10.1.0.9")
		m.routes(cart, green)
		want(1, observe.Ejections, "consecutive_failures")
		want(1, observe.BreakerRefusals, "maxRequests")
		want(0, observe.EndpointsOut, "ejected")
		d.Release()
	})
}
