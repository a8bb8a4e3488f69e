// SPDX-License-Identifier: Apache-2.0

package table

import (
	"math/rand/v2"
	"sync/atomic"
	"time"

	"github.com/heddle-mesh/heddle/internal/evaluate"
	"github.com/heddle-mesh/heddle/proxy/balance"
	"github.com/heddle-mesh/heddle/proxy/health"
	"github.com/heddle-mesh/heddle/proxy/outlier"
	"github.com/heddle-mesh/heddle/proxy/upstream"
)

// Cluster is the endpoints of one port of a service, or of a subset of them, and what is known of how they answer. The data
// path reads it; it outlives the tables that name it. The Attach of its members' States is an *outlier.Member.
type Cluster struct {
	set      atomic.Pointer[balance.Set]
	outliers *outlier.Cluster
	breaker  *outlier.Breaker
	checker  atomic.Pointer[health.Checker] // nil: no active checks
	settings atomic.Pointer[settings]

	users int                  // tables that name it; guarded by Store.mu
	held  []*upstream.Endpoint // what set holds; likewise
}

// settings are how a cluster is called, as a section says it.
type settings struct {
	keys    *evaluate.Keys
	connect time.Duration
}

func newCluster() *Cluster {
	c := &Cluster{
		outliers: outlier.NewCluster(outlier.Defaults(), rand.Uint64),
		breaker:  outlier.NewBreaker(outlier.Limits{}),
	}
	c.set.Store(&balance.Set{})
	c.settings.Store(&settings{})
	return c
}

// Endpoints returns the endpoints at this time.
func (c *Cluster) Endpoints() *balance.Set { return c.set.Load() }

// Outliers takes how every pick of Endpoints has ended.
func (c *Cluster) Outliers() *outlier.Cluster { return c.outliers }

// Breaker bounds what is under way.
func (c *Cluster) Breaker() *outlier.Breaker { return c.breaker }

// Keys are what picks go by; nil: by no key.
func (c *Cluster) Keys() *evaluate.Keys { return c.settings.Load().keys }

// ConnectTimeout bounds the making of a connection; 0: by the default.
func (c *Cluster) ConnectTimeout() time.Duration { return c.settings.Load().connect }

// Use says that a request is sent, without which endpoints are not checked.
func (c *Cluster) Use() { c.checker.Load().Use() }

// attach makes the record of an endpoint.
func (c *Cluster) attach(s *balance.State) any { return c.outliers.Add(s) }

// single is a backend of one endpoint.
func single(e *upstream.Endpoint, workload string, series *SeriesSet) *Backend {
	c := newCluster()
	members := []balance.Member{{Endpoint: e, Workload: workload}}
	c.set.Store(c.Endpoints().Next(balance.Options{Attach: c.attach}, members, nil, 0))
	return &Backend{Cluster: c, series: map[string]*SeriesSet{"": series}}
}
