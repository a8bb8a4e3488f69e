// SPDX-License-Identifier: Apache-2.0

package table

import (
	"cmp"
	"net/netip"
	"slices"
	"time"
)

// Ailing is a service of which something is amiss, as this proxy sees it.
type Ailing struct {
	Service string // name.namespace
	// Out are the endpoints that get no requests though they are ready, because they answered badly or checks failed.
	Out []netip.AddrPort
	// Exhausted says that lately a request was not sent again for want of budget.
	Exhausted bool
}

// lately is how long a refused repetition is told of.
const lately = 10 * time.Second

// Ailing returns the services of which something is amiss, by name. It is to be called about once a second.
func (s *Store) Ailing(now time.Time) []Ailing {
	s.mu.Lock()
	defer s.mu.Unlock()
	found := make(map[string]Ailing)
	for _, b := range s.backends {
		if out := b.out(); len(out) > 0 {
			found[b.name] = Ailing{Service: b.name, Out: out}
		}
	}
	for _, svc := range s.services {
		if refused := svc.budget.Refused(); refused != svc.refused {
			svc.refused, svc.refusedAt = refused, now
		}
		if svc.refused > 0 && now.Sub(svc.refusedAt) < lately {
			found[svc.name] = Ailing{svc.name, found[svc.name].Out, true}
		}
	}
	list := make([]Ailing, 0, len(found))
	for _, a := range found {
		list = append(list, a)
	}
	slices.SortFunc(list, func(a, b Ailing) int { return cmp.Compare(a.Service, b.Service) })
	return list
}

// out returns the ready endpoints that are ejected or down, each once, by address. Store.mu is held.
func (b *backend) out() []netip.AddrPort {
	var out []netip.AddrPort
	for _, c := range b.clusters {
		set := c.Endpoints()
		if set.Healthy() >= set.Ready() {
			continue
		}
		for _, m := range set.Members()[:set.Ready()] {
			if m.State.Ejected() || m.State.Down() {
				out = append(out, m.Endpoint.Address)
			}
		}
	}
	slices.SortFunc(out, netip.AddrPort.Compare)
	return slices.Compact(out)
}
