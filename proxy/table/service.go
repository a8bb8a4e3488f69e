// SPDX-License-Identifier: Apache-2.0

package table

import (
	"fmt"
	"sync/atomic"
	"time"

	"github.com/heddle-mesh/heddle/internal/meshconfig"
	"github.com/heddle-mesh/heddle/proxy/outlier"
)

// service is one service that the workload calls. Its pins are the connections to it. All but the table is guarded by
// Store.mu.
type service struct {
	lease
	name  string
	table atomic.Pointer[routes]

	budget    *outlier.RetryBudget
	refused   uint64    // by the budget, when somebody last looked
	refusedAt time.Time // when that had changed
	pending   *routes   // waits for endpoints
	timer     *time.Timer
	first     chan struct{} // closed when there is a table
}

// routes is the table of a service. It never changes.
type routes struct {
	ports map[uint16]*Port
	uses  []clusterName
}

// clusterName names a cluster that a table holds.
type clusterName struct {
	service string
	port    uint16
	subset  string // empty: all endpoints
}

// serviceOf returns the entry of a service, which it makes and subscribes to if there is none; nil when too many are in
// use. The lock is held.
func (s *Store) serviceOf(name string) *service {
	if svc := s.services[name]; svc != nil {
		return svc
	}
	if len(s.services) >= s.options.MaxServices {
		if victim, ok := oldest(s.services); ok {
			s.dropService(s.services[victim])
		} else if len(s.services) >= 2*s.options.MaxServices {
			return nil
		}
	}
	svc := &service{name: name, budget: newBudget(), first: make(chan struct{})}
	svc.used = time.Now()
	s.services[name] = svc
	s.want(true, meshconfig.RoutesName(name))
	s.backendOf(name) // most services are their own backend: ask at once
	return svc
}

// newBudget makes a budget of the default size.
func newBudget() *outlier.RetryBudget {
	config, _ := outlier.NewBudgetConfig(nil) // has no error: there is nothing to refuse
	return outlier.NewRetryBudget(config)
}

// dropService forgets a service that nobody uses. The lock is held.
func (s *Store) dropService(svc *service) {
	delete(s.services, svc.name)
	s.want(false, meshconfig.RoutesName(svc.name))
	svc.stopWaiting()
	s.dropTable(svc.pending)
	s.dropTable(svc.table.Load())
}

func (s *Store) dropTable(t *routes) {
	if t == nil {
		return
	}
	for _, u := range t.uses {
		s.dropCluster(u)
	}
}

func (svc *service) stopWaiting() {
	if svc.timer != nil {
		svc.timer.Stop()
		svc.timer = nil
	}
}

func (s *Store) applyRoutes(name meshconfig.Name, m *meshconfig.Routes) error {
	if name != meshconfig.RoutesName(m.GetService()) {
		return fmt.Errorf("section %s: want %s", name, meshconfig.RoutesName(m.GetService()))
	}
	builders := make([]portBuilder, len(m.GetPorts()))
	for i, p := range m.GetPorts() {
		var err error
		if builders[i], err = newPortBuilder(m.GetService(), p); err != nil {
			return fmt.Errorf("ports[%d]: %w", i, err)
		}
	}
	clusters, err := settingsOf(m, builders)
	if err != nil {
		return err
	}
	budget, err := outlier.NewBudgetConfig(m.GetRetryBudget())
	if err != nil {
		return err
	}
	s.locked(func() {
		svc := s.serviceOf(m.GetService())
		if svc == nil {
			s.options.Log.Info("Routes are not kept, because twice as many services as may be are in use", "service", m.GetService())
			return
		}
		svc.budget.Configure(budget)
		for service, n := range clusters {
			s.configure(s.backendOf(service), n)
		}
		t := &routes{ports: make(map[uint16]*Port, len(builders))}
		for _, b := range builders {
			t.ports[b.number] = s.buildPort(b, svc, t)
		}
		svc.stopWaiting()
		s.dropTable(svc.pending)
		svc.pending = t
		if s.complete(t) {
			s.swap(svc)
			return
		}
		svc.timer = time.AfterFunc(s.options.MakeBeforeBreak, func() {
			s.locked(func() {
				if svc.pending == t {
					s.options.Log.Info("A table is in force though endpoints that it names have not come", "service", svc.name)
					s.swap(svc)
				}
			})
		})
	})
	return nil
}

// removeRoutes leaves a table without ports: the service is no more.
func (s *Store) removeRoutes(name string) {
	s.locked(func() {
		svc := s.services[name]
		if svc == nil {
			return
		}
		svc.stopWaiting()
		s.dropTable(svc.pending)
		svc.pending = &routes{}
		s.swap(svc)
	})
}

// complete says whether the endpoints of all that a table names are here. The lock is held.
func (s *Store) complete(t *routes) bool {
	for _, u := range t.uses {
		if b := s.backends[u.service]; !b.known || !b.clusters[u].filled {
			return false
		}
	}
	return true
}

// swap puts the waiting table in force. The lock is held.
func (s *Store) swap(svc *service) {
	old := svc.table.Swap(svc.pending)
	svc.pending = nil
	svc.stopWaiting()
	if old == nil {
		close(svc.first)
	}
	s.dropTable(old)
}

// endpointsCame puts tables in force that have waited for the last of their endpoints. The lock is held.
func (s *Store) endpointsCame() {
	for _, svc := range s.services {
		if svc.pending != nil && s.complete(svc.pending) {
			s.swap(svc)
		}
	}
}
