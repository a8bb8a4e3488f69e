// SPDX-License-Identifier: Apache-2.0

package forward_test

import (
	"context"
	"net/http"
	"sync/atomic"
	"testing"
	"time"

	"github.com/heddle-mesh/heddle/internal/meshconfig"
	"github.com/heddle-mesh/heddle/proxy/observe"
	"github.com/heddle-mesh/heddle/proxy/refusal"
)

// One of two endpoints hangs. Once a caller has waited for it, who balances by latency knows.
func TestACallerThatGoesAwayTellsHowLongItHasWaited(t *testing.T) {
	const patience = 500 * time.Millisecond
	bothVersions(t, func(t *testing.T, v versions) {
		t.Helper()
		var hung atomic.Int64
		p := newPair(t, v.declared, httpApp(t, func(http.ResponseWriter, *http.Request) {}), settings{})
		p.client.traffic(v.declared, func(r *meshconfig.Routes) {
			r.Clusters = []*meshconfig.Cluster{{
				Service: cart, Balancing: &meshconfig.Balancing{Policy: meshconfig.BalancingPolicy_BALANCING_POLICY_PEAK_EWMA},
			}}
		}, 1)
		client := clientOf(t, p.at, v.http2)
		ask := func() bool {
			ctx, cancel := context.WithTimeout(t.Context(), patience)
			defer cancel()
			r, _ := http.NewRequestWithContext(ctx, http.MethodGet, "http://cart/", nil)
			response, err := client.Do(r)
			if err == nil {
				response.Body.Close()
			}
			return err == nil
		}
		ask() // the other one is known
		p.client.endpoints(cart, shop, p.inside, p.server.listen(httpApp(t, func(_ http.ResponseWriter, r *http.Request) {
			hung.Add(1)
			<-r.Context().Done()
		})))
		for i := 0; ask(); i++ { // nothing is known of the one that hangs, which is as good as the other
			if i == 200 {
				t.Fatal("nobody is sent to the endpoint that hangs")
			}
		}
		p.client.events.wait(t, "of the caller", func(e observe.Event) bool { return e.Reason == refusal.CallerGone })
		before := hung.Load()
		for range 40 {
			ask()
		}
		if n := hung.Load() - before; n > 2 {
			t.Errorf("%d of 40 requests are sent to an endpoint that hangs", n)
		}
	})
}
