// SPDX-License-Identifier: Apache-2.0

package pipeline

import (
	"math"
	"sync"
	"sync/atomic"
	"testing"
)

// within says whether a count of independent events of a probability is within four standard deviations.
func within(count, of int, probability float64) bool {
	n := float64(of)
	return math.Abs(float64(count)-n*probability) <= 4*math.Sqrt(n*probability*(1-probability))
}

// Weights are what comes of them, and flipping them costs no request.
func TestWeights(t *testing.T) {
	t.Parallel()
	const calls, workers, flips = 10_000, 8, 50
	m := shop(t, settings{})
	one, two := m.workload("shop/web-1").client(), m.workload("shop/web-1").client2()

	var turn atomic.Int64
	stop := m.load(4, func() error {
		client := one
		if turn.Add(1)%2 == 0 {
			client = two
		}
		return client.get("http://cart.shop/").served()
	})
	for range flips / 2 {
		for _, v2 := range []int32{1, 0} {
			m.apply(split(1-v2, v2))
			m.settle()
		}
	}
	t.Logf("%d calls while the weights were flipped %d times", stop(), flips)
	one.becomes("the last flip is in force", "http://cart.shop/", servedBy("cart-1"))

	m.apply(split(90, 10))
	one.becomes("the new share is served", "http://cart.shop/", servedBy("cart-v2-1"))
	var wg sync.WaitGroup
	var v2 atomic.Int64
	for range workers {
		wg.Go(func() {
			for range calls / workers {
				a := one.get("http://cart.shop/")
				if err := a.served(); err != nil {
					t.Error(err)
					return
				}
				if a.by == "cart-v2-1" {
					v2.Add(1)
				}
			}
		})
	}
	wg.Wait()
	if n := int(v2.Load()); !within(n, calls, 0.1) {
		t.Errorf("%d of %d calls went to the tenth: want %d within four standard deviations", n, calls, calls/10)
	}
}
