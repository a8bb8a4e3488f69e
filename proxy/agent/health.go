// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"cmp"
	"net/netip"
	"slices"

	"google.golang.org/protobuf/proto"

	"github.com/heddle-mesh/heddle/internal/controlapi"
)

// Bounds of what is told of services, as the operator has them.
const (
	maxHealthServices = 100
	maxHealthEjected  = 8 // of a service
)

// ServiceHealth is what the proxy sees of a service of which something is amiss.
type ServiceHealth struct {
	Service string // "name.namespace"
	// Ejected are the endpoints that get no requests, because they answered badly or failed checks.
	Ejected []netip.AddrPort
	// BudgetExhausted says that a retry was refused for want of budget, in the last ten seconds.
	BudgetExhausted bool
}

// tellHealth tells the operator what the proxy sees, if it changed since it was told on this stream.
func (a *Agent) tellHealth() {
	if a.opts.Health != nil {
		a.outbox.health(healthMessage(a.opts.Health()))
	}
}

// healthMessage says the same of equal lists in whatever order.
func healthMessage(list []ServiceHealth) *controlapi.Health {
	out := &controlapi.Health{}
	for _, h := range list {
		if len(h.Ejected) == 0 && !h.BudgetExhausted {
			continue
		}
		ejected := slices.SortedFunc(slices.Values(h.Ejected), netip.AddrPort.Compare)
		s := &controlapi.ServiceHealth{Service: h.Service, BudgetExhausted: h.BudgetExhausted}
		for _, address := range ejected[:min(len(ejected), maxHealthEjected)] {
			s.Ejected = append(s.Ejected, address.String())
		}
		s.MoreEjected = uint32(len(ejected) - len(s.GetEjected()))
		out.Services = append(out.Services, s)
	}
	slices.SortFunc(out.Services, func(a, b *controlapi.ServiceHealth) int { return cmp.Compare(a.GetService(), b.GetService()) })
	out.Services = out.GetServices()[:min(len(out.GetServices()), maxHealthServices)]
	return out
}

// health puts what is seen among what to say, unless it was said. A stream begins with nothing amiss.
func (o *outbox) health(m *controlapi.Health) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if !o.live || proto.Equal(m, o.seen) {
		return
	}
	o.seen, o.untold = m, true
	select {
	case o.wake <- struct{}{}:
	default:
	}
}
