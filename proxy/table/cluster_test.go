// SPDX-License-Identifier: Apache-2.0

package table

import (
	"maps"
	"math"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/heddle-mesh/heddle/internal/evaluate"
	"github.com/heddle-mesh/heddle/internal/meshconfig"
	"github.com/heddle-mesh/heddle/proxy/outlier"
)

const (
	one, two, three = "10.1.0.1:8080", "10.1.0.2:8080", "10.1.0.3:8080"
	hashing         = meshconfig.BalancingPolicy_BALANCING_POLICY_CONSISTENT_HASH
)

// three is a destination of three endpoints.
func (m *mesh) three() *Destination {
	m.Helper()
	m.address(cartIP, cart)
	m.clustered()
	m.endpoints(cart, 0, 1, "10.1.0.1", "10.1.0.2", "10.1.0.3")
	return m.lookup(cartIP, 80)
}

func TestWhatIsKnownOfAnEndpointOutlivesItsSet(t *testing.T) {
	cases := map[string]struct {
		change func(*mesh)
		kept   bool
	}{
		"when others come": {func(m *mesh) { m.endpoints(cart, 0, 1, "10.1.0.1", "10.1.0.2", "10.1.0.3", "10.1.0.4") }, true},
		"when others go":   {func(m *mesh) { m.endpoints(cart, 0, 1, "10.1.0.1", "10.1.0.2") }, true},
		"when the policy changes": {func(m *mesh) {
			m.clustered(&meshconfig.Cluster{Service: cart, Balancing: &meshconfig.Balancing{Policy: hashing}})
		}, true},
		"when it is bound to a zone": {func(m *mesh) { m.bound("a") }, true},
		"when another table names it": {func(m *mesh) {
			m.endpoints(green, 0, 1)
			m.routes(cart, cart, green)
		}, true},
		"unless it goes itself": {func(m *mesh) {
			m.endpoints(cart, 0, 1, "10.1.0.2", "10.1.0.3")
			m.endpoints(cart, 0, 1, "10.1.0.1", "10.1.0.2", "10.1.0.3")
		}, false},
		"unless ejection is turned off": {func(m *mesh) {
			m.clustered(&meshconfig.Cluster{Service: cart, Outlier: &meshconfig.Outlier{Disabled: true}})
		}, false},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			inBubble(t, Options{}, func(m *mesh) {
				d := m.three()
				before := cluster(d)
				before.fail(one, 5)
				if !before.member(one).State.Ejected() {
					m.Fatal("it is not ejected")
				}
				c.change(m)
				after := cluster(d)
				if got := after.member(one).State.Ejected(); after != before || got != c.kept {
					m.Errorf("the same cluster: %v, it is ejected: %v, want %v", after == before, got, c.kept)
				}
				if got := after.picks(50)[one]; (got == 0) != c.kept {
					m.Errorf("%d of 50 go to it", got)
				}
				d.Release()
			})
		})
	}
}

func TestSettingsOfTheNewestSectionWin(t *testing.T) {
	inBubble(t, Options{}, func(m *mesh) {
		d := m.three()
		c := cluster(d)
		if c.Keys() != nil || c.ConnectTimeout() != 0 || c.Timed() {
			m.Error("there are settings though nobody has said anything")
		}
		mine := &meshconfig.Cluster{
			Service: cart, ConnectTimeout: 250, Breaker: &meshconfig.Breaker{MaxRequests: 1},
			Balancing: &meshconfig.Balancing{Policy: hashing, Hash: []*meshconfig.HashKey{{By: meshconfig.HashKey_BY_HEADER, Name: "x-user"}}},
			Outlier:   &meshconfig.Outlier{ConsecutiveFailures: 2, MaxEjectedPercent: 50, LatencyFactor: 300},
		}
		m.clustered(mine)
		request := &evaluate.Request{Headers: evaluate.HeaderList{{Name: "x-user", Value: "a"}}}
		if _, ok := c.Keys().Hash(request); !ok || c.ConnectTimeout() != 250*time.Millisecond || !c.Timed() {
			m.Error("the settings are not in force")
		}
		if c.Breaker().Acquire(outlier.Requests) != outlier.NoBound || c.Breaker().Acquire(outlier.Requests) != outlier.Requests {
			m.Error("the breaker does not bound requests to 1")
		}
		c.fail(two, 2)
		if got := c.picks(100); got[two] != 0 || !m.sameForAKey(c) {
			m.Errorf("picks %v", got)
		}

		// Another service's section that names cart as a backend.
		other := routesOf(green, cart)
		other.Clusters = []*meshconfig.Cluster{{Service: cart, ConnectTimeout: 500}, {Service: "nobody.shop", ConnectTimeout: 1}}
		m.apply(meshconfig.RoutesName(green), other)
		if c.Keys() != nil || c.ConnectTimeout() != 500*time.Millisecond || c.Timed() || c.Breaker().Acquire(outlier.Requests) != outlier.NoBound {
			m.Error("the newer section is not in force")
		}
		m.routes(green, cart)
		if c.ConnectTimeout() != 0 {
			m.Error("the newest section, which says nothing, is not in force")
		}
		d.Release()
	})
}

// sameForAKey says whether equal keys go to the same endpoint.
func (m *mesh) sameForAKey(c *Cluster) bool { return maps.Equal(c.picks(100), c.picks(100)) }

func TestSubsetsHaveClustersOfTheirOwn(t *testing.T) {
	inBubble(t, Options{}, func(m *mesh) {
		section := routesOf(cart, cart)
		backend := section.Ports[0].Backends[0]
		section.Ports[0].Backends = nil
		for _, subset := range []string{"", "blue", "red"} {
			section.Ports[0].Backends = append(section.Ports[0].Backends, &meshconfig.WeightedBackend{
				Name: "b" + subset, Service: backend.Service, Port: 80, Weight: 1, Subset: subset,
			})
		}
		m.address(cartIP, cart)
		m.apply(meshconfig.RoutesName(cart), section)
		in := func(first, second []string) {
			e := &meshconfig.Endpoints{Service: cart, Shards: 1}
			for i, subsets := range [][]string{first, second, nil} {
				e.Endpoints = append(e.Endpoints, &meshconfig.Endpoint{
					Address: "10.1.0." + strconv.Itoa(i+1), Ports: []*meshconfig.EndpointPort{{ServicePort: 80, Port: 8080}}, Subsets: subsets,
				})
			}
			m.apply(meshconfig.EndpointsName(cart, 0), e)
		}
		in([]string{"blue"}, []string{"blue", "red"})
		d := m.lookup(cartIP, 80)
		want := func(all ...string) {
			m.Helper()
			for i, name := range []string{"b", "bblue", "bred"} {
				choice := d.Port().Connection()
				b, _ := choice.Backend(&evaluate.Request{}, uint64(i)*(math.MaxUint64/3)+1<<60)
				got := strings.Join(slices.Sorted(maps.Keys(b.Cluster.picks(50))), " ")
				if b.Name != name || got != all[i] {
					m.Errorf("%s reaches %q, want %q of %s", b.Name, got, all[i], name)
				}
			}
		}
		want(one+" "+two+" "+three, one+" "+two, two)
		in(nil, []string{"red"})
		want(one+" "+two+" "+three, "", two)
		d.Release()
	})
}

func TestEndpointsOfTheOwnZoneComeFirst(t *testing.T) {
	local := &meshconfig.Cluster{Service: cart, Balancing: &meshconfig.Balancing{IgnoreLocality: true}}
	inBubble(t, Options{}, func(m *mesh) {
		m.bound("b")
		d := m.three()
		zoned := &meshconfig.Endpoints{Service: cart, Shards: 1}
		for i, zone := range []string{"a", "b", "b"} {
			zoned.Endpoints = append(zoned.Endpoints, &meshconfig.Endpoint{
				Address: "10.1.0." + strconv.Itoa(i+1), Ports: []*meshconfig.EndpointPort{{ServicePort: 80, Port: 8080}}, Zone: zone,
			})
		}
		m.apply(meshconfig.EndpointsName(cart, 0), zoned)
		want := func(what string, reached ...string) {
			m.Helper()
			if got := slices.Sorted(maps.Keys(cluster(d).picks(100))); !slices.Equal(got, reached) {
				m.Errorf("%s: %v are reached, want %v", what, got, reached)
			}
		}
		want("bound to b", two, three)
		m.bound("a")
		want("bound to a", one)
		m.clustered(local)
		want("when zones do not matter", one, two, three)
		m.clustered()
		m.bound("")
		want("when the zone is unknown", one, two, three)
		d.Release()
	})
}

func TestATableWaitsForTheTablesOfItsHashing(t *testing.T) {
	inBubble(t, Options{}, func(m *mesh) {
		d := m.known()
		section := routesOf(cart, green)
		section.Clusters = []*meshconfig.Cluster{{Service: green, Balancing: &meshconfig.Balancing{Policy: hashing}}}
		m.apply(meshconfig.RoutesName(cart), section)
		m.reaches(d, one)
		m.endpoints(green, 0, 1, "10.1.0.2", "10.1.0.3")
		m.reaches(d, two, three)
		if !m.sameForAKey(cluster(d)) {
			m.Error("equal keys go to different endpoints")
		}
		d.Release()
	})
}

// The Sets of hashing are made without the lock: what comes meanwhile is made after that.
func TestChangesWhileASetIsMade(t *testing.T) {
	changes := map[string]struct {
		change func(*mesh)
		want   []string
	}{
		"newer endpoints": {func(m *mesh) {
			m.endpoints(cart, 0, 1, "10.1.0.2")
			m.endpoints(cart, 0, 1, "10.1.0.3")
		}, []string{three}},
		"another policy": {func(m *mesh) { m.clustered() }, []string{one}},
		"no endpoints":   {func(m *mesh) { m.endpoints(cart, 0, 1) }, nil},
		"the end": {func(m *mesh) {
			m.endpoints(cart, 0, 1, "10.1.0.2")
			m.Remove(meshconfig.RoutesName(cart))
		}, nil},
	}
	for name, c := range changes {
		t.Run(name, func(t *testing.T) {
			inBubble(t, Options{}, func(m *mesh) {
				d := m.known()
				m.clustered(&meshconfig.Cluster{Service: cart, Balancing: &meshconfig.Balancing{Policy: hashing}})
				target := cluster(d)
				m.mu.Lock()
				target.making = true // as if somebody did
				m.mu.Unlock()
				c.change(m)
				if got := target.Endpoints().Members()[0].Endpoint.Address.String(); got != one {
					m.Errorf("%s is reached before the Set is made", got)
				}
				m.locked(func() { m.unmade = append(m.unmade, target) })
				m.reaches(d, c.want...)
				if n := m.upstreams.Len(); n != len(c.want) {
					m.Errorf("%d endpoints are held, want %d", n, len(c.want))
				}
				d.Release()
			})
		})
	}
}

func TestEndpointsAreCheckedWhileTheyAreCalled(t *testing.T) {
	checked := &meshconfig.Cluster{
		Service:     cart,
		HealthCheck: &meshconfig.HealthCheck{Type: meshconfig.HealthCheck_TYPE_TCP, Interval: 1000, UnhealthyThreshold: 2, HealthyThreshold: 1},
	}
	inBubble(t, Options{}, func(m *mesh) {
		d := m.three()
		c := cluster(d)
		call := func(seconds int) {
			for range seconds {
				c.Use()
				c.Use()
				c.Use()
				time.Sleep(time.Second)
			}
			synctest.Wait()
		}
		c.Use()
		m.clustered(checked)
		m.network.set(one, true)
		time.Sleep(10 * time.Second)
		if n := m.network.count(one); n != 0 {
			m.Errorf("%d checks though nobody calls", n)
		}
		call(10)
		if got := c.picks(50); got[one] != 0 || len(got) != 2 {
			m.Errorf("picks %v though one is down", got)
		}
		m.endpoints(cart, 0, 1, "10.1.0.1", "10.1.0.2")
		if !c.member(one).State.Down() {
			m.Error("it is up again because another one went")
		}
		m.network.set(one, false)
		call(10)
		if got := c.picks(50); got[one] == 0 {
			m.Errorf("picks %v though all are well", got)
		}
		m.network.set(one, true)
		call(10)
		m.clustered()
		synctest.Wait()
		before := m.network.count(one)
		call(10)
		if n := m.network.count(one) - before; n != 0 || c.member(one).State.Down() {
			m.Errorf("%d checks though there are to be none, or it is still down", n)
		}
		m.clustered(checked)
		call(1) // the bubble waits for what the store does not end
		d.Release()
	})
}

func TestEndpointsAreCheckedAtThePortsThatAreNamed(t *testing.T) {
	inBubble(t, Options{}, func(m *mesh) {
		d := m.three()
		c := cluster(d)
		checksAt := func(ports ...uint32) int {
			m.clustered(&meshconfig.Cluster{
				Service: cart, HealthCheck: &meshconfig.HealthCheck{Type: meshconfig.HealthCheck_TYPE_TCP, Interval: 1000, Ports: ports},
			})
			before := m.network.count(one)
			for range 10 {
				for range 3 {
					c.Use()
				}
				time.Sleep(time.Second)
			}
			return m.network.count(one) - before
		}
		if n := checksAt(90); n != 0 {
			m.Errorf("%d checks at port 80 of one that is of port 90", n)
		}
		if checksAt(80, 90) == 0 || checksAt() == 0 {
			m.Error("it is not checked at a port that is named, or where none is")
		}
		m.clustered()
		d.Release()
	})
}

func TestAConnectionOfACheckTakesNoLongerThanThatOfARequest(t *testing.T) {
	inBubble(t, Options{}, func(m *mesh) {
		m.network.lost = one
		d := m.three()
		for _, connect := range []time.Duration{300 * time.Millisecond, 200 * time.Millisecond} {
			m.clustered(&meshconfig.Cluster{
				Service: cart, ConnectTimeout: connect.Milliseconds(),
				HealthCheck: &meshconfig.HealthCheck{Type: meshconfig.HealthCheck_TYPE_GRPC, Interval: 1000},
			})
			for range 30 {
				cluster(d).Use()
				time.Sleep(time.Second / 3)
			}
			m.network.mu.Lock()
			if took := m.network.took; took != connect {
				m.Errorf("it was given up on after %v, want %v", took, connect)
			}
			m.network.mu.Unlock()
		}
		m.clustered()
		d.Release()
	})
}

func TestAClusterThatIsGoneIsCheckedNoMore(t *testing.T) {
	inBubble(t, Options{}, func(m *mesh) {
		m.address(cartIP, cart)
		m.clustered(&meshconfig.Cluster{Service: cart, HealthCheck: &meshconfig.HealthCheck{Type: meshconfig.HealthCheck_TYPE_TCP, Interval: 1000}})
		m.endpoints(cart, 0, 1, "10.1.0.1")
		d := m.lookup(cartIP, 80)
		c := cluster(d)
		c.Use()
		time.Sleep(2 * time.Second)
		if m.network.count(one) == 0 {
			m.Error("it is not checked")
		}
		m.Remove(meshconfig.RoutesName(cart))
		before := m.network.count(one)
		c.Use()
		time.Sleep(10 * time.Second)
		if n := m.network.count(one) - before; n != 0 {
			m.Errorf("%d checks", n)
		}
		d.Release()
	})
}

func TestSettingsThatCannotBeActedOnChangeNothing(t *testing.T) {
	cases := map[string]struct {
		want   string
		change func(*meshconfig.Routes)
	}{
		"a policy":          {"clusters[0]: balancing.policy", func(r *meshconfig.Routes) { r.Clusters[0].Balancing.Policy = 99 }},
		"a key":             {"clusters[0]: balancing.hash[0]", func(r *meshconfig.Routes) { r.Clusters[0].Balancing.Hash[0].Name = "a b" }},
		"an outlier":        {"clusters[0]: outlier.max_ejected_percent", func(r *meshconfig.Routes) { r.Clusters[0].Outlier.MaxEjectedPercent = 101 }},
		"a health check":    {"clusters[0]: health_check.type", func(r *meshconfig.Routes) { r.Clusters[0].HealthCheck.Type = 0 }},
		"a connect timeout": {"clusters[0]: connect_timeout", func(r *meshconfig.Routes) { r.Clusters[0].ConnectTimeout = 1 + maxConnect.Milliseconds() }},
		"a budget":          {"retry_budget.percent", func(r *meshconfig.Routes) { r.RetryBudget.Percent = 101 }},
		"a fault":           {"fault", func(r *meshconfig.Routes) { r.Ports[0].Faults[0].ExpiresAt = 0 }},
		"a mirror":          {"mirror", func(r *meshconfig.Routes) { r.Ports[0].Routes[0].Filters.Mirror.Percent = 101 }},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			inBubble(t, Options{}, func(m *mesh) {
				d := m.known()
				section := routesOf(cart, green)
				section.Clusters = []*meshconfig.Cluster{{
					Service: green, Balancing: &meshconfig.Balancing{Policy: hashing, Hash: []*meshconfig.HashKey{{By: meshconfig.HashKey_BY_HEADER, Name: "a"}}},
					Outlier: &meshconfig.Outlier{}, HealthCheck: &meshconfig.HealthCheck{Type: meshconfig.HealthCheck_TYPE_TCP},
				}}
				section.RetryBudget = &meshconfig.RetryBudget{}
				section.Ports[0].Faults = []*meshconfig.Fault{{Name: "shop/cart/f", Percent: 1, Delay: 1, ExpiresAt: 1}}
				section.Ports[0].Routes = []*meshconfig.Route{{Name: "r", Filters: &meshconfig.Filters{
					Mirror: &meshconfig.Mirror{Backend: section.Ports[0].Backends[0], Percent: 1},
				}}}
				c.change(section)
				err := m.Apply(meshconfig.RoutesName(cart), section)
				if err == nil || !strings.Contains(err.Error(), c.want) {
					m.Errorf("error %v, want one that names %s", err, c.want)
				}
				m.endpoints(green, 0, 1, "10.1.0.2")
				m.reaches(d, one)
				d.Release()
			})
		})
	}
}

func TestAMirrorIsHeldAsABackendIs(t *testing.T) {
	inBubble(t, Options{}, func(m *mesh) {
		d := m.known()
		if choice := d.Port().Route(&evaluate.Request{Method: "GET", Path: "/"}); choice.MirrorTo() != nil {
			m.Error("there is a mirror that nobody asked for")
		}
		section := routesOf(cart, cart)
		section.Ports[0].Routes = []*meshconfig.Route{{Name: "r", Filters: &meshconfig.Filters{Mirror: &meshconfig.Mirror{
			Backend: &meshconfig.WeightedBackend{Name: "shadow", Service: green, Port: 80}, Percent: 100,
		}}}}
		m.apply(meshconfig.RoutesName(cart), section)
		route := func() Choice { return d.Port().Route(&evaluate.Request{Method: "GET", Path: "/"}) }
		if choice := route(); choice.MirrorTo() != nil {
			m.Error("the table does not wait for the endpoints of its mirror")
		}
		m.endpoints(green, 0, 1, "10.1.0.2")
		choice := route()
		mirror := choice.MirrorTo()
		if mirror == nil || mirror.Name != "shadow" || mirror.Cluster.member(two) == nil || mirror.Series(choice.Route) == nil {
			m.Errorf("mirror %+v", mirror)
		}
		if b, _ := choice.Backend(&evaluate.Request{}, 0); b.Name != cart {
			m.Errorf("backend %s, want %s", b.Name, cart)
		}
		m.routes(cart, cart)
		if n := m.upstreams.Len(); n != 1 {
			m.Errorf("%d endpoints are held, want 1", n)
		}
		d.Release()
	})
}

func TestAFaultIsInjectedUntilItEnds(t *testing.T) {
	inBubble(t, Options{}, func(m *mesh) {
		d := m.known()
		request, random := &evaluate.Request{Method: "GET", Path: "/"}, func() uint64 { return 0 }
		if d.Port().Fault(request, time.Now(), random) != nil {
			m.Error("there is a fault that nobody asked for")
		}
		section := routesOf(cart, cart)
		ends := time.Now().Add(time.Minute)
		section.Ports[0].Faults = []*meshconfig.Fault{{Name: "shop/cart/f", Percent: 10, HttpStatus: 503, ExpiresAt: ends.UnixMilli()}}
		m.apply(meshconfig.RoutesName(cart), section)
		if f := d.Port().Fault(request, time.Now(), random); f == nil || f.Name != "shop/cart/f" || f.HTTPStatus != 503 {
			m.Errorf("fault %+v", f)
		}
		if d.Port().Fault(request, ends, random) != nil {
			m.Error("it does not end")
		}
		d.Release()
		m.apply(meshconfig.AddressName(podIP), &meshconfig.Address{Address: podIP.String(), Pod: &meshconfig.PodAddress{
			Endpoint: &meshconfig.Endpoint{Address: podIP.String()},
		}})
		pod := m.lookup(podIP, 80)
		if pod.Port().Fault(request, time.Now(), random) != nil {
			m.Error("what is dialled by its address has a fault")
		}
		pod.Release()
	})
}

func TestABudgetOutlivesItsTable(t *testing.T) {
	inBubble(t, Options{}, func(m *mesh) {
		d := m.known()
		before := d.Port().Budget
		now := time.Now().UnixNano()
		for range 10 {
			if !before.Take(now) {
				m.Fatal("the default allows fewer than 10 at once")
			}
		}
		m.routes(cart, cart)
		if after := d.Port().Budget; after != before || after.Take(now) {
			m.Error("a new table brings a new budget")
		}
		section := routesOf(cart, cart)
		section.RetryBudget = &meshconfig.RetryBudget{MinPerSecond: 20}
		m.apply(meshconfig.RoutesName(cart), section)
		if !d.Port().Budget.Take(now) {
			m.Error("the section's budget is not in force")
		}
		d.Release()
		foreign := m.lookup(netip.MustParseAddr("192.0.2.1"), 80)
		if foreign.Port().Budget == nil || cluster(foreign).Breaker().Acquire(outlier.Connections) != outlier.NoBound {
			m.Error("what is none of ours has no budget, or a bound")
		}
		foreign.Release()
	})
}

func TestWhatIsAilingIsTold(t *testing.T) {
	inBubble(t, Options{}, func(m *mesh) {
		d := m.three()
		if got := m.Ailing(time.Now()); len(got) != 0 {
			m.Errorf("%v though all is well", got)
		}
		cluster(d).fail(one, 5)
		for d.Port().Budget.Take(time.Now().UnixNano()) {
		}
		got := m.Ailing(time.Now())
		if len(got) != 1 || got[0].Service != cart || !got[0].Exhausted || len(got[0].Out) != 1 || got[0].Out[0].String() != one {
			m.Errorf("%+v", got)
		}
		got = m.Ailing(time.Now().Add(lately))
		if len(got) != 1 || got[0].Exhausted || len(got[0].Out) != 1 {
			m.Errorf("%+v after a while", got)
		}
		cluster(d).member(one).State.Restore()
		cluster(d).member(two).State.SetDown(true)
		if got = m.Ailing(time.Now().Add(lately)); len(got) != 1 || got[0].Out[0].String() != two {
			m.Errorf("%+v when a check fails", got)
		}
		d.Release()
	})
}
