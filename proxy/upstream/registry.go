// SPDX-License-Identifier: Apache-2.0

package upstream

import (
	"context"
	"io"
	"net/netip"
	"sync"

	"github.com/heddle-mesh/heddle/proxy/socket"
)

// Registry owns every endpoint that some table holds, and those that are still busy though none does.
type Registry struct {
	options Options
	// ctx ends with the registry, and dials with it.
	ctx   context.Context //nolint:containedctx // dials belong to nobody's request
	end   context.CancelFunc
	dials sync.WaitGroup
	watch socket.Watch

	mu        sync.Mutex
	endpoints map[Key]*Endpoint
	held      map[netip.AddrPort]int // endpoints with holders, by address
}

// NewRegistry makes an empty Registry.
func NewRegistry(options Options) *Registry {
	r := &Registry{
		options:   options.withDefaults(),
		watch:     socket.Watch{After: options.VanishTimeout},
		endpoints: make(map[Key]*Endpoint),
		held:      make(map[netip.AddrPort]int),
	}
	r.ctx, r.end = context.WithCancel(context.Background())
	return r
}

// Acquire returns the endpoint of this key, which it makes if there is none. Every call needs one Release.
func (r *Registry) Acquire(key Key) *Endpoint {
	r.mu.Lock()
	defer r.mu.Unlock()
	e := r.endpoints[key]
	if e == nil {
		e = newEndpoint(r, key)
		r.endpoints[key] = e
	}
	e.holders++
	if e.holders == 1 {
		r.held[key.Address]++
		e.revive()
	}
	return e
}

// Release lets go of an endpoint. Its last holder retires it: idle connections close now, busy ones when they are done
// or the drain's time is over. If another endpoint of the same address is held then only the way to dial has changed, and
// what is busy may go on without a deadline. Release the old after acquiring the new, so that this is seen.
func (e *Endpoint) Release() {
	for _, c := range e.letGo() {
		c.Close()
	}
}

// letGo is Release but for closing the idle connections, which it returns.
func (e *Endpoint) letGo() []io.Closer {
	r := e.registry
	r.mu.Lock()
	defer r.mu.Unlock()
	e.holders--
	if e.holders > 0 {
		return nil
	}
	r.held[e.Address]--
	replaced := r.held[e.Address] > 0
	if !replaced {
		delete(r.held, e.Address)
	}
	idle, empty := e.retire(replaced)
	if empty {
		delete(r.endpoints, e.Key)
	}
	return idle
}

// forget drops an endpoint that nobody holds and that has no connection left.
func (r *Registry) forget(e *Endpoint) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if e.holders == 0 && e.Connections() == 0 && r.endpoints[e.Key] == e {
		e.stopDrain()
		delete(r.endpoints, e.Key)
	}
}

// Len is how many endpoints the registry has, retired ones that are still busy among them.
func (r *Registry) Len() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.endpoints)
}

// Close cuts every connection, and waits for those that are being made to be given up.
func (r *Registry) Close() {
	r.end()
	r.mu.Lock()
	all := make([]*Endpoint, 0, len(r.endpoints))
	for _, e := range r.endpoints {
		e.stopDrain()
		all = append(all, e)
	}
	r.mu.Unlock()
	for _, e := range all {
		e.cut()
	}
	r.dials.Wait()
}
