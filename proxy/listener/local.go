// SPDX-License-Identifier: Apache-2.0

package listener

import (
	"net"
	"net/netip"
	"slices"
	"sync"
	"time"
)

// Locals knows the pod's own addresses. An address that it doesn't know is looked for on the interfaces, once a second
// at most, because networks attach some after the start.
type Locals struct {
	clock func() time.Time
	list  func() ([]net.Addr, error)

	mu    sync.RWMutex
	known []netip.Addr
	asked time.Time
}

// NewLocals takes the addresses that the kubelet tells, and the proxy's clock.
func NewLocals(podIPs []netip.Addr, clock func() time.Time) *Locals {
	return &Locals{clock: clock, list: net.InterfaceAddrs, known: slices.Clone(podIPs)}
}

// Contains says whether the address is the pod's; a zone doesn't matter. It is safe for concurrent use.
func (l *Locals) Contains(ip netip.Addr) bool {
	ip = ip.Unmap().WithZone("")
	l.mu.RLock()
	known := slices.Contains(l.known, ip)
	l.mu.RUnlock()
	if known {
		return true
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.refresh()
	return slices.Contains(l.known, ip)
}

// refresh adds what is on the interfaces. Caller must hold l.mu.
func (l *Locals) refresh() {
	now := l.clock()
	if !l.asked.IsZero() && now.Sub(l.asked) < time.Second {
		return
	}
	l.asked = now
	addrs, err := l.list()
	if err != nil {
		return // asked again in a second
	}
	for _, a := range addrs {
		prefix, err := netip.ParsePrefix(a.String())
		if err != nil {
			continue
		}
		if ip := prefix.Addr().Unmap().WithZone(""); !slices.Contains(l.known, ip) {
			l.known = append(l.known, ip)
		}
	}
}
