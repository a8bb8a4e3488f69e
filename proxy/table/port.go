// SPDX-License-Identifier: Apache-2.0

package table

import (
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/heddle-mesh/heddle/internal/evaluate"
	"github.com/heddle-mesh/heddle/internal/meshconfig"
	"github.com/heddle-mesh/heddle/proxy/observe"
	"github.com/heddle-mesh/heddle/proxy/outlier"
)

// Port is the table of one port of a destination. It never changes, but for the endpoints in it.
type Port struct {
	Service  string // name.namespace; empty: of none that is known
	Protocol meshconfig.Protocol
	// Foreign says that the address is none of ours: it gets the caller's bytes as they are, in plaintext.
	Foreign bool
	// Series takes what never gets as far as a backend.
	Series *SeriesSet
	// ServerFirst remembers, until the table is replaced, that a server spoke first though nobody declared the protocol.
	ServerFirst atomic.Bool
	// Budget bounds what is sent again. It is the service's, and outlives the table.
	Budget *outlier.RetryBudget

	router   *evaluate.Router // nil: everything goes to the only backend
	backends map[*meshconfig.WeightedBackend]*Backend
	only     *Backend
}

// Backend is who gets a share of a port's requests.
type Backend struct {
	Name    string // in the split; empty for an address that was dialled itself
	Cluster *Cluster
	series  []*SeriesSet // by the routes' Index
}

// Series returns the series of a route of this backend.
func (b *Backend) Series(route *evaluate.Route) *SeriesSet { return b.series[route.Index] }

// Choice is what becomes of a request or connection. Its Split is nil where there is one backend alone.
type Choice struct {
	evaluate.Choice
	port *Port
}

// Route decides on an HTTP request. It does not allocate.
func (p *Port) Route(r *evaluate.Request) Choice {
	if p.router == nil {
		return Choice{evaluate.Choice{Route: evaluate.Unrouted()}, p}
	}
	return Choice{p.router.Route(r), p}
}

// Connection decides on a connection that is not HTTP.
func (p *Port) Connection() Choice {
	if p.router == nil {
		return Choice{evaluate.Choice{Route: evaluate.Unrouted()}, p}
	}
	return Choice{p.router.Connection(), p}
}

// HasFaults says whether Fault is worth asking.
func (p *Port) HasFaults() bool { return p.router != nil && p.router.HasFaults() }

// Fault returns the fault that is injected into a try, or nil.
func (p *Port) Fault(r *evaluate.Request, now time.Time, random func() uint64) *evaluate.Fault {
	if p.router == nil {
		return nil
	}
	return p.router.Fault(r, now, random)
}

// Backend picks a backend for a request, of a connection Caller and Source alone, given 64 random bits; nil if every weight
// is 0. SetCookie says that the answer should bring Stickiness.SetCookie of the same bits.
func (c *Choice) Backend(r *evaluate.Request, random uint64) (b *Backend, setCookie bool) {
	if c.Split == nil {
		return c.port.only, false
	}
	i, setCookie := c.Pick(r, random)
	if i < 0 {
		return nil, false
	}
	return c.port.backends[c.Split.Backends()[i]], setCookie
}

// MirrorTo returns who gets a copy of those requests that Route.Filters.Mirror draws; nil: nobody.
func (c *Choice) MirrorTo() *Backend {
	if f := c.Route.Filters; f != nil && f.Mirror != nil {
		return c.port.backends[f.Mirror.Backend]
	}
	return nil
}

// portBuilder is what can be built of a port, and go wrong, before the lock is taken.
type portBuilder struct {
	number   uint16
	service  string
	section  *meshconfig.ServicePort
	router   *evaluate.Router
	backends []*meshconfig.WeightedBackend // all that are named
}

func newPortBuilder(service string, p *meshconfig.ServicePort) (portBuilder, error) {
	router, err := evaluate.NewRouter(p)
	backends := slices.Clone(p.GetBackends())
	for _, r := range p.GetRules() {
		backends = append(backends, r.GetBackends()...)
	}
	for _, r := range p.GetRoutes() {
		if m := r.GetFilters().GetMirror(); m != nil {
			backends = append(backends, m.GetBackend())
		}
	}
	return portBuilder{uint16(p.GetPort()), service, p, router, backends}, err
}

// buildPort builds the table of a port, which holds its clusters in the name of table t. The lock is held.
func (s *Store) buildPort(b portBuilder, svc *service, t *routes) *Port {
	p := &Port{
		Service: b.service, Protocol: b.section.GetProtocol(), Budget: svc.budget, router: b.router,
		Series:   newSeriesSet(s.options.Observer, observe.Labels{Direction: observe.Outbound, Service: b.service}),
		backends: make(map[*meshconfig.WeightedBackend]*Backend),
	}
	names := []string{""}
	for _, r := range b.section.GetRoutes() {
		names = append(names, r.GetName())
	}
	type key struct {
		name    string
		cluster *Cluster
	}
	same := make(map[key]*Backend) // backends of several rules share their series
	for _, w := range b.backends {
		name := clusterName{w.GetService(), uint16(w.GetPort()), w.GetSubset()}
		k := key{w.GetName(), s.holdCluster(name)}
		t.uses = append(t.uses, name)
		if same[k] == nil {
			same[k] = &Backend{k.name, k.cluster, s.routeSeries(b.service, k.name, names)}
		}
		p.backends[w] = same[k]
	}
	return p
}

func (s *Store) routeSeries(service, backend string, routes []string) []*SeriesSet {
	series := make([]*SeriesSet, len(routes))
	for i, route := range routes {
		series[i] = newSeriesSet(s.options.Observer, observe.Labels{
			Direction: observe.Outbound, Service: service, Route: route, Backend: backend,
		})
	}
	return series
}

// maxWorkloads bounds the workloads of one backend that get series of their own; the others share that of the empty name.
const maxWorkloads = 64

// SeriesSet is series that differ in their workload alone.
type SeriesSet struct {
	Labels   observe.Labels // but for the workload
	observer observe.Observer

	known atomic.Pointer[map[string]*observe.Bound]
	mu    sync.Mutex // held by who adds one
}

func newSeriesSet(observer observe.Observer, labels observe.Labels) *SeriesSet {
	s := &SeriesSet{Labels: labels, observer: observer}
	s.known.Store(&map[string]*observe.Bound{"": observe.Bind(observer, labels)})
	return s
}

// Of returns the series of a workload.
func (s *SeriesSet) Of(workload string) *observe.Bound {
	if series, ok := (*s.known.Load())[workload]; ok {
		return series
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	known := *s.known.Load()
	if series, ok := known[workload]; ok {
		return series
	}
	if len(known) > maxWorkloads {
		return known[""]
	}
	labels := s.Labels
	labels.Workload = workload
	more := make(map[string]*observe.Bound, len(known)+1)
	for k, v := range known {
		more[k] = v
	}
	more[workload] = observe.Bind(s.observer, labels)
	s.known.Store(&more)
	return more[workload]
}
