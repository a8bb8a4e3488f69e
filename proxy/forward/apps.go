// SPDX-License-Identifier: Apache-2.0

package forward

import (
	"net/netip"
	"sync"

	"github.com/heddle-mesh/heddle/proxy/upstream"
)

// maxApps bounds the ports of the application to which connections are kept while nobody calls.
const maxApps = 64

// apps holds the application's own ports as endpoints, so that connections to it are used again.
type apps struct {
	registry *upstream.Registry
	mu       sync.Mutex
	ports    map[netip.AddrPort]*app
}

// app is one port of the application.
type app struct {
	endpoint *upstream.Endpoint
	users    int
}

// acquire returns a port; release lets go of it.
func (a *apps) acquire(address netip.AddrPort) *app {
	a.mu.Lock()
	defer a.mu.Unlock()
	p := a.ports[address]
	if p == nil {
		p = &app{endpoint: a.registry.Acquire(upstream.Key{Address: address})}
		if a.ports == nil {
			a.ports = make(map[netip.AddrPort]*app)
		}
		a.ports[address] = p
	}
	p.users++
	return p
}

// release keeps the port while it has connections and there are few of them.
func (a *apps) release(p *app) {
	a.mu.Lock()
	p.users--
	drop := p.users == 0 && (p.endpoint.Connections() == 0 || len(a.ports) > maxApps)
	if drop {
		delete(a.ports, p.endpoint.Address)
	}
	a.mu.Unlock()
	if drop {
		p.endpoint.Release()
	}
}

// close lets go of all.
func (a *apps) close() {
	a.mu.Lock()
	defer a.mu.Unlock()
	for address, p := range a.ports {
		delete(a.ports, address)
		p.endpoint.Release()
	}
}
