// SPDX-License-Identifier: Apache-2.0

package pipeline

import (
	"context"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// terminate does to a pod what its deletion does: it stops being ready, drains, ends when a while has passed, and is gone.
func (m *mesh) terminate(key string) {
	m.Helper()
	w := m.workload(key)
	going := w.pod.DeepCopy()
	now := metav1.Now()
	going.DeletionTimestamp = &now
	p := w.sidecar()
	m.apply(going)
	await(m, "the pod drains", p.drain.Draining)
	m.settle()
	m.outlive() // from here on nobody sends it anything
	ctx, cancel := context.WithTimeout(m.Context(), patience)
	defer cancel()
	check(m, p.drain.Wait(ctx))
	check(m, p.drain.Finish(ctx))
	p.stop()
	m.delete(w.pod)
	m.mu.Lock()
	delete(m.workloads, key)
	m.mu.Unlock()
}

// All pods of a Service are replaced, one after the other, and no request fails. The last has the address of the first.
func TestPodsAreReplacedUnderLoad(t *testing.T) {
	t.Parallel()
	m := shop(t, settings{})
	again := pod("cart", 2, 1)
	again.Name, again.UID = "cart-again", "another"
	one, two := m.workload("shop/web-1").client(), m.workload("shop/web-1").client2()
	two.becomes("cart serves", "http://cart.shop/", servedBy("cart-1"))
	stops := []func() int{
		m.load(2, func() error { return one.get("http://cart.shop/").served() }),
		m.load(2, func() error { return two.get("http://cart.shop/").served() }),
		m.load(1, func() error {
			l, err := m.workload("shop/web-1").lines("cart.shop:70")
			if err != nil {
				return err
			}
			defer l.Close()
			return l.ask("hello")
		}),
	}
	last := "shop/cart-1"
	for _, next := range []*corev1.Pod{pod("cart", 2, 2), pod("cart", 2, 3), again} {
		m.run(next)
		m.settle()
		m.terminate(last)
		last = next.Namespace + "/" + next.Name
	}
	one.becomes("the newest serves", "http://cart.shop/", servedBy(again.Name))
	for _, stop := range stops {
		if stop() == 0 {
			t.Error("no load")
		}
	}
}

// A pod of another service account that takes over an address is not taken for the one before, nor called by what was
// known of that.
func TestAnAddressIsTakenOver(t *testing.T) {
	t.Parallel()
	m := shop(t, settings{})
	client := m.workload("shop/web-1").client()
	client.becomes("cart serves", "http://10.0.2.1:8080/", servedBy("cart-1"))
	m.terminate("shop/cart-1")
	thief := pod("thief", 2, 1)
	m.run(thief)
	client.becomes("the Service has no endpoint", "http://cart.shop/", refusedFor("no_endpoints"))
	client.becomes("the address is the new pod's", "http://10.0.2.1:8080/", servedBy("thief-1"))

	// While the operator is away, whoever has the address must prove to be who it was.
	m.workload("shop/web-1").door.lead("")
	m.workload("shop/thief-1").sidecar().stop()
	m.delete(thief)
	other := pod("other", 2, 1)
	m.run(other)
	if a := client.get("http://10.0.2.1:8080/"); a.reason != "peer_identity" {
		t.Errorf("of an address that another has: %v", a)
	}
	m.workload("shop/web-1").door.lead(m.replicas[0].address)
	client.becomes("the address is the newest pod's", "http://10.0.2.1:8080/", servedBy("other-1"))
}
