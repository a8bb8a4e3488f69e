// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"net/netip"
	"reflect"
	"sync/atomic"
	"testing"

	"google.golang.org/protobuf/proto"

	"github.com/heddle-mesh/heddle/internal/distribute"
)

func TestTheOperatorHearsOfWhatIsAmiss(t *testing.T) {
	w := newWorld(t)
	o := w.operator(t)
	check(t, w.lead(o, 1).Publish(w.shop("pod")))
	opts := w.files(t, "pod", o.address)
	var seen atomic.Pointer[[]ServiceHealth]
	seen.Store(&[]ServiceHealth{{Service: checkout, Ejected: []netip.AddrPort{netip.MustParseAddrPort("10.0.0.1:80")}, BudgetExhausted: true}})
	opts.Health = func() []ServiceHealth { return *seen.Load() }
	p := prepare(t, opts)
	p.Want(routesName)
	p.run(t)
	await(t, "the operator knows", func() bool {
		return reflect.DeepEqual(o.Health(checkout), distribute.Health{Ejected: []string{"10.0.0.1:80"}, Exhausted: 1})
	})
}

func TestWhatIsAmissIsSaidOnceOnEachStream(t *testing.T) {
	o := newOutbox()
	amiss := func() *[]ServiceHealth {
		return &[]ServiceHealth{{Service: "b.shop", BudgetExhausted: true}, {Service: "well.shop"}}
	}
	said := func(list *[]ServiceHealth) int {
		o.health(healthMessage(*list))
		_, words := o.take()
		return len(words)
	}
	if n := said(amiss()); n != 0 {
		t.Errorf("%d words without a stream", n)
	}
	for range 2 {
		o.open(true)
		for i, step := range []struct {
			list *[]ServiceHealth
			want int
		}{{&[]ServiceHealth{}, 0}, {amiss(), 1}, {amiss(), 0}, {&[]ServiceHealth{{Service: "well.shop"}}, 1}, {&[]ServiceHealth{}, 0}} {
			if n := said(step.list); n != step.want {
				t.Errorf("step %d: %d words, want %d", i, n, step.want)
			}
		}
	}
}

func TestWhatIsSaidIsSortedAndBounded(t *testing.T) {
	var forth, back []ServiceHealth
	for i := range 2 * maxHealthServices {
		s := ServiceHealth{Service: string(rune('a'+i%26)) + string(rune('a'+i/26)) + ".shop"}
		for port := range uint16(20) {
			s.Ejected = append(s.Ejected, netip.AddrPortFrom(netip.MustParseAddr("10.0.0.1"), 20-port))
		}
		forth, back = append(forth, s), append([]ServiceHealth{s}, back...)
	}
	m := healthMessage(forth)
	if first := m.GetServices()[0]; len(m.GetServices()) != maxHealthServices || len(first.GetEjected()) != maxHealthEjected || first.GetMoreEjected() != 12 || first.GetEjected()[0] != "10.0.0.1:1" {
		t.Errorf("%d services, the first %v", len(m.GetServices()), first)
	}
	if !proto.Equal(m, healthMessage(back)) {
		t.Error("another order is another message")
	}
}
