// SPDX-License-Identifier: Apache-2.0

package distribute

import (
	"maps"
	"net/netip"
	"reflect"
	"slices"

	"connectrpc.com/connect"

	"github.com/heddle-mesh/heddle/internal/controlapi"
	"github.com/heddle-mesh/heddle/internal/meshconfig"
)

// Bounds of what a proxy tells, and how often what all told is looked at: status shows it, and is not to change faster.
const (
	maxHealthServices = 100
	maxHealthEjected  = 8 // of a service
	healthEvery       = 5 // seconds
)

// Health is what proxies see of a service.
type Health struct {
	// Ejected are endpoints, "address:port", that get no requests from one proxy at least, ascending. A proxy names eight
	// at most.
	Ejected []string
	// MoreEjected is how many more there are at least; of several backends, if none is behind two of them.
	MoreEjected int
	// Exhausted is how many proxies were short of retry budget lately.
	Exhausted int
}

// health takes what a proxy sees of services. It is heard about those that it uses alone, so that it cannot fill the
// status of others.
func (st *stream) health(m *controlapi.Health) error {
	if st.caller.replica {
		return refuse(RefusedForbidden, connect.CodePermissionDenied, "only proxies tell what they see")
	}
	seen := make(map[string]*controlapi.ServiceHealth)
	for _, s := range m.GetServices()[:min(len(m.GetServices()), maxHealthServices)] {
		name := s.GetService()
		if !st.watcher.subscribed(meshconfig.RoutesName(name)) && !st.watcher.subscribed(meshconfig.AllEndpoints(name)) {
			continue
		}
		if clean := cleanHealth(s); clean != nil {
			seen[name] = clean
		}
	}
	st.server.node.tracker.setHealth(st.owner, st.uid, seen)
	return nil
}

// cleanHealth returns what is to be kept of what a proxy says of a service; nil if nothing is amiss.
func cleanHealth(s *controlapi.ServiceHealth) *controlapi.ServiceHealth {
	out := &controlapi.ServiceHealth{
		Service: s.GetService(), MoreEjected: min(s.GetMoreEjected(), 1_000_000), BudgetExhausted: s.GetBudgetExhausted(),
	}
	for _, text := range s.GetEjected()[:min(len(s.GetEjected()), maxHealthEjected)] {
		if address, err := netip.ParseAddrPort(text); err == nil && address.Addr().Zone() == "" {
			out.Ejected = append(out.Ejected, address.String())
		}
	}
	if len(out.GetEjected()) == 0 && !out.GetBudgetExhausted() {
		return nil
	}
	return out
}

// setHealth keeps what a local pod sees, unless another stream has taken over.
func (t *tracker) setHealth(owner uint64, uid string, seen map[string]*controlapi.ServiceHealth) {
	t.mu.Lock()
	defer t.mu.Unlock()
	pod := t.pods[uid]
	if pod == nil || pod.owner != owner {
		return
	}
	pod.health = seen
	if t.reporting {
		t.pendingOf(uid, pod.session).health = true
	}
}

// reportHealth is the part of a report that says what a pod sees.
func (pod *tracked) reportHealth(uid string) *controlapi.PodReport {
	health := &controlapi.Health{}
	for _, name := range slices.Sorted(maps.Keys(pod.health)) {
		health.Services = append(health.Services, pod.health[name])
	}
	return &controlapi.PodReport{PodUid: uid, Session: pod.session, Health: health}
}

// applyHealth takes it.
func (pod *tracked) applyHealth(m *controlapi.Health) {
	pod.health = make(map[string]*controlapi.ServiceHealth, len(m.GetServices()))
	for _, s := range m.GetServices() {
		pod.health[s.GetService()] = s
	}
}

// sumHealth puts together what all pods see, and says whether that is other than the last time.
func (t *tracker) sumHealth() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	sum := make(map[string]Health)
	more := make(map[string]int) // the most that one pod saw in all
	for _, pod := range t.pods {
		for name, s := range pod.health {
			h := sum[name]
			h.Ejected = append(h.Ejected, s.GetEjected()...)
			if s.GetBudgetExhausted() {
				h.Exhausted++
			}
			sum[name] = h
			more[name] = max(more[name], len(s.GetEjected())+int(s.GetMoreEjected()))
		}
	}
	for name, h := range sum {
		slices.Sort(h.Ejected)
		h.Ejected = slices.Compact(h.Ejected)
		h.MoreEjected = max(0, more[name]-len(h.Ejected))
		sum[name] = h
	}
	changed := !reflect.DeepEqual(sum, t.health)
	t.health = sum
	return changed
}

// Health returns what proxies see of a service "name.namespace", some seconds old, with what is ejected of backends that it
// is divided among. It is complete on the leader only.
func (n *Node) Health(service string, backends ...string) Health {
	n.tracker.mu.Lock()
	defer n.tracker.mu.Unlock()
	out := n.tracker.health[service]
	most, more := len(out.Ejected)+out.MoreEjected, 0
	for _, name := range backends {
		h := n.tracker.health[name]
		out.Ejected = slices.Concat(out.Ejected, h.Ejected)
		more += h.MoreEjected
	}
	// Backends mostly have pods of their own, so that what is not listed of them adds up. The Service may have those of all.
	out.Ejected = slices.Compact(slices.Sorted(slices.Values(out.Ejected)))
	out.MoreEjected = max(more, most-len(out.Ejected))
	return out
}
