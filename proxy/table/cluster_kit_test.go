// SPDX-License-Identifier: Apache-2.0

package table

import (
	"time"

	"github.com/heddle-mesh/heddle/internal/evaluate"
	"github.com/heddle-mesh/heddle/internal/meshconfig"
	"github.com/heddle-mesh/heddle/proxy/balance"
	"github.com/heddle-mesh/heddle/proxy/outlier"
)

// clustered applies a table of port 80 of cart, whose only backend is cart, with how services are called.
func (m *mesh) clustered(clusters ...*meshconfig.Cluster) {
	m.Helper()
	section := routesOf(cart, cart)
	section.Clusters = clusters
	m.apply(meshconfig.RoutesName(cart), section)
}

// bound applies a binding of a zone.
func (m *mesh) bound(zone string) {
	m.Helper()
	m.apply(meshconfig.BindingName("u-1"), &meshconfig.Binding{
		PodUid: "u-1", Pod: "shop/web-0", Identity: "spiffe://cluster.local/ns/shop/sa/web", Inbound: string(meshconfig.InboundName("d1")),
		Workload: "web", Zone: zone,
	})
}

// cluster returns the only one of a destination.
func cluster(d *Destination) *Cluster {
	choice := d.Port().Connection()
	b, _ := choice.Backend(&evaluate.Request{}, 0)
	return b.Cluster
}

// picks counts by address where requests of different keys go.
func (c *Cluster) picks(n int) map[string]int {
	count := map[string]int{}
	for i := range n {
		random := uint64(i) * 0x9e3779b97f4a7c15
		if pick, ok := c.Endpoints().Pick(balance.Ask{Now: time.Now().UnixNano(), Random: random, Hash: random, Hashed: true}); ok {
			count[pick.Endpoint.Address.String()]++
			pick.Done(balance.Neutral, 0, time.Now().UnixNano())
		}
	}
	return count
}

// member returns the one of an address.
func (c *Cluster) member(address string) *balance.Member {
	for _, m := range c.Endpoints().Members() {
		if m.Endpoint.Address.String() == address {
			return &m
		}
	}
	return nil
}

// fail has the endpoint of an address fail so often.
func (c *Cluster) fail(address string, times int) {
	record, _ := c.member(address).State.Attach.(*outlier.Member)
	for range times {
		c.Outliers().Report(record, outlier.Result{Now: time.Now().UnixNano(), Outcome: outlier.Failure})
	}
}
