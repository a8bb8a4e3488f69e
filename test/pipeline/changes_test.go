// SPDX-License-Identifier: Apache-2.0

package pipeline

import (
	"fmt"
	"net/netip"
	"slices"
	"testing"

	corev1 "k8s.io/api/core/v1"

	"github.com/heddle-mesh/heddle/internal/compile"
	"github.com/heddle-mesh/heddle/internal/meshconfig"
	"github.com/heddle-mesh/heddle/proxy/agent"
	"github.com/heddle-mesh/heddle/test/gen"
)

// split sends shares to cart and cart-v2.
func split(v1, v2 int32) object {
	return gen.TrafficSplit(namespace, "cart", "cart", gen.Backend("cart", v1), gen.Backend("cart-v2", v2))
}

// tally is what it took so far: what was compiled, signed and sent, and what each agent holds by which serial.
type tally struct {
	computed     map[compile.Unit]int
	signed, sent uint64 // heartbeats left out
	held         map[string]map[meshconfig.Name]agent.Section
}

func (m *mesh) tally() tally {
	m.Helper()
	c := m.leader().replica.Counters()
	t := tally{signed: counted(c.Signed), sent: counted(c.Sent), held: make(map[string]map[meshconfig.Name]agent.Section)}
	_, t.computed, _ = m.leader().state()
	for _, p := range m.proxies() {
		t.held[p.pod.Name] = p.held()
	}
	return t
}

// arrived lists "pod section" of all envelopes that arrived between two tallies.
func arrived(before, after tally) []string {
	out := []string{}
	for pod, held := range after.held {
		for name, s := range held {
			if s.Serial != before.held[pod][name].Serial {
				out = append(out, pod+" "+string(name))
			}
		}
	}
	slices.Sort(out)
	return out
}

// An edit is compiled and signed once, and sent once to each that uses what it changes; nothing else is.
func TestAnEditCostsItsOwnSection(t *testing.T) {
	t.Parallel()
	m := shop(t, settings{})
	// 200 endpoints, which make four shards.
	m.run(pod("old", 4, 1, gen.Unmeshed()), pod("web", 1, 2), pod("idle", 5, 1))
	big := func(endpoints int) object {
		slice := gen.Slice(namespace, "big", "a", gen.SlicePort("http", httpPort))
		for i := range endpoints {
			gen.Address(fmt.Sprintf("10.7.0.%d", i))(slice)
		}
		return slice
	}
	for i := range 200 {
		m.network.set(netip.MustParseAddrPort(fmt.Sprintf("10.7.0.%d:%d", i, httpPort)), m.workload("shop/old-1").app.ports[httpPort])
	}
	m.apply(split(90, 10), gen.Service(namespace, "big", gen.ClusterIP("10.96.0.7"), gen.Selector(), gen.Port("http", 80, httpPort)), big(200))
	m.settle() // an address that is asked for before it is known is answered: nobody's
	for _, name := range []string{"shop/web-1", "shop/web-2"} {
		for _, url := range []string{"http://cart.shop/", "http://big.shop/"} {
			check(t, m.workload(name).client().get(url).served())
		}
	}
	m.settle()
	shards := 0
	for name := range m.workload("shop/web-1").sidecar().held() {
		if name.Subject() == "big.shop" && name.Kind() == meshconfig.KindEndpoints {
			shards++
		}
	}
	if shards != 4 {
		t.Fatalf("%d shards: want 4", shards)
	}
	routes := string(meshconfig.RoutesName("cart.shop"))
	for _, edit := range []struct {
		what     string
		do       func()
		computed compile.Unit
		want     []string // what arrives; one shard of any number if it ends in "/"
	}{
		{"a weight", func() { m.apply(split(80, 20)) }, compile.UnitRoutes, []string{"web-1 " + routes, "web-2 " + routes}},
		{"an endpoint that goes", func() { m.apply(big(199)) }, compile.UnitEndpoints, []string{"web-1 endpoints/big.shop/", "web-2 endpoints/big.shop/"}},
		{"an endpoint that is back", func() { m.apply(big(200)) }, compile.UnitEndpoints, []string{"web-1 endpoints/big.shop/", "web-2 endpoints/big.shop/"}},
		{"a label that nobody reads", func() { m.apply(pod("idle", 5, 1, gen.Labels[corev1.Pod]("color", "blue"))) }, -1, nil},
		{"another weight", func() { m.apply(split(0, 20)) }, compile.UnitRoutes, []string{"web-1 " + routes, "web-2 " + routes}},
	} {
		before := m.tally()
		edit.do()
		m.settle()
		after := m.tally()
		got := arrived(before, after)
		if len(got) != len(edit.want) {
			t.Errorf("%s: arrived %v: want %v", edit.what, got, edit.want)
		}
		for i := range min(len(got), len(edit.want)) {
			if got[i] != edit.want[i] && got[i][:len(got[i])-1] != edit.want[i] {
				t.Errorf("%s: arrived %v: want %v", edit.what, got, edit.want)
			}
		}
		sections := uint64(min(len(edit.want), 1))
		if signed, sent := after.signed-before.signed, after.sent-before.sent; signed != sections || sent != uint64(len(edit.want)) {
			t.Errorf("%s: signed %d, sent %d: want %d and %d", edit.what, signed, sent, sections, len(edit.want))
		}
		for _, unit := range units {
			want := 0
			if unit == edit.computed {
				want = 1
			}
			if n := after.computed[unit] - before.computed[unit]; n != want {
				t.Errorf("%s: compiled %d of unit %d: want %d", edit.what, n, unit, want)
			}
		}
	}
}
