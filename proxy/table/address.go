// SPDX-License-Identifier: Apache-2.0

package table

import (
	"net/netip"
	"sync/atomic"
	"time"

	"github.com/heddle-mesh/heddle/internal/meshconfig"
	"github.com/heddle-mesh/heddle/proxy/observe"
	"github.com/heddle-mesh/heddle/proxy/outlier"
	"github.com/heddle-mesh/heddle/proxy/upstream"
)

// maxDirect bounds the ports of one pod that are kept while nobody uses them.
const maxDirect = 64

// address is what is known of an IP address that the workload dials. Guarded by Store.mu.
type address struct {
	lease
	ip         netip.Addr
	section    *meshconfig.Address // nil: nothing has come, or it is gone
	known      bool                // something has come
	first      chan struct{}       // closed when something has come
	unanswered time.Time           // until when nobody waits again
	direct     map[uint16]*direct
}

// direct is one port of a pod that is dialled by its own address.
type direct struct {
	pins     int
	port     atomic.Pointer[Port] // nil: the address is a pod's no more
	endpoint *upstream.Endpoint
	budget   *outlier.RetryBudget
}

// addressOf returns the entry of an address, which it makes and subscribes to if there is none; nil when too many are in
// use. The lock is held.
func (s *Store) addressOf(ip netip.Addr) *address {
	if a := s.addresses[ip]; a != nil {
		return a
	}
	if len(s.addresses) >= s.options.MaxAddresses {
		if victim, ok := oldest(s.addresses); ok {
			s.dropAddress(s.addresses[victim])
		} else if len(s.addresses) >= 2*s.options.MaxAddresses {
			return nil
		}
	}
	a := &address{ip: ip, first: make(chan struct{}), direct: make(map[uint16]*direct)}
	a.used = time.Now()
	s.addresses[ip] = a
	s.want(true, meshconfig.AddressName(ip))
	return a
}

// dropAddress forgets an address that nobody uses. The lock is held.
func (s *Store) dropAddress(a *address) {
	delete(s.addresses, a.ip)
	s.want(false, meshconfig.AddressName(a.ip))
	for _, d := range a.direct {
		s.setDirect(d, nil, nil)
	}
}

func (s *Store) applyAddress(m *meshconfig.Address) error {
	ip, err := netip.ParseAddr(m.GetAddress())
	if err != nil {
		return err
	}
	if e := m.GetPod().GetEndpoint(); e != nil {
		if _, _, err := parseEndpoint(e); err != nil {
			return err
		}
	}
	s.locked(func() { s.learn(ip, m) })
	return nil
}

func (s *Store) removeAddress(text string) {
	ip, err := netip.ParseAddr(text)
	if err != nil {
		return
	}
	s.locked(func() {
		if s.addresses[ip] != nil {
			s.learn(ip, nil)
		}
	})
}

// learn takes what is known of an address now. The lock is held.
func (s *Store) learn(ip netip.Addr, m *meshconfig.Address) {
	a := s.addressOf(ip)
	if a == nil {
		return
	}
	a.section = m
	if !a.known {
		a.known = true
		close(a.first)
	}
	for number, d := range a.direct {
		s.fillDirect(a, number, d)
	}
}

// directOf returns the entry of a pod's port. The lock is held.
func (s *Store) directOf(a *address, number uint16) *direct {
	d := a.direct[number]
	if d == nil {
		if len(a.direct) >= maxDirect {
			s.dropUnusedDirect(a)
		}
		d = &direct{budget: newBudget()}
		a.direct[number] = d
		s.fillDirect(a, number, d)
	}
	return d
}

// dropUnusedDirect makes room, if it can: what is in use is bounded by the connections that use it.
func (s *Store) dropUnusedDirect(a *address) {
	for number, d := range a.direct {
		if d.pins == 0 {
			s.setDirect(d, nil, nil)
			delete(a.direct, number)
		}
	}
}

// fillDirect builds the table of a pod's port from what is known of the address. The lock is held.
func (s *Store) fillDirect(a *address, number uint16, d *direct) {
	pod := a.section.GetPod()
	if pod == nil {
		s.setDirect(d, nil, nil)
		return
	}
	_, id, err := parseEndpoint(pod.GetEndpoint())
	if err != nil {
		s.setDirect(d, nil, nil) // applyAddress let no such section in
		return
	}
	key := upstream.Key{
		Address: netip.AddrPortFrom(a.ip, number), Identity: id, Pod: pod.GetEndpoint().GetPod(),
		Plaintext: pod.GetPlaintext(), PlaintextUntil: pod.GetPlaintextUntil(),
	}
	port := &Port{Budget: d.budget}
	for _, p := range pod.GetPorts() {
		if p.GetPort() == uint32(number) {
			port.Service, port.Protocol = p.GetService(), p.GetProtocol()
			key.Plaintext, key.PlaintextUntil = p.GetPlaintext(), p.GetPlaintextUntil()
		}
	}
	labels := observe.Labels{Direction: observe.Outbound, Service: port.Service}
	port.Series = newSeriesSet(s.options.Observer, labels)
	endpoint := s.options.Upstreams.Acquire(key)
	port.only = single(endpoint, pod.GetEndpoint().GetWorkload(), port.Series)
	s.setDirect(d, port, endpoint)
}

// setDirect swaps the table and lets go of the old one's endpoint. The lock is held.
func (s *Store) setDirect(d *direct, port *Port, endpoint *upstream.Endpoint) {
	if d.endpoint != nil {
		s.released = append(s.released, d.endpoint)
	}
	d.endpoint = endpoint
	d.port.Store(port)
}
