// SPDX-License-Identifier: Apache-2.0

package forward_test

import (
	"context"
	"io"
	"math/rand/v2"
	"net/http"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/heddle-mesh/heddle/internal/limits"
	"github.com/heddle-mesh/heddle/proxy/upstream"
)

// whimsical is an application that does what its callers fear.
func whimsical(t *testing.T) netip.AddrPort {
	t.Helper()
	piece := make([]byte, 10_000)
	return httpApp(t, func(w http.ResponseWriter, r *http.Request) {
		control := http.NewResponseController(w)
		switch rand.IntN(10) {
		case 0:
			panic(http.ErrAbortHandler)
		case 1:
			w.Write(piece)
			control.Flush()
			panic(http.ErrAbortHandler)
		case 2:
			w.WriteHeader(http.StatusRequestEntityTooLarge)
		case 3:
			io.Copy(io.Discard, r.Body) // or net/http does not see the caller go
			<-r.Context().Done()
		case 4:
			for range 20 {
				if _, err := w.Write(piece); err != nil {
					return
				}
			}
		case 5:
			w.Header().Set("Trailer", "X-Sum")
			io.Copy(w, r.Body)
			w.Header().Set("X-Sum", "1")
		default:
			io.Copy(w, r.Body)
		}
	})
}

// visit sends a request and goes away in the middle of it, or not.
func visit(ctx context.Context, client *http.Client) {
	ctx, cancel := context.WithTimeout(ctx, time.Duration(1+rand.IntN(30))*time.Millisecond)
	defer cancel()
	var body io.Reader
	method := http.MethodGet
	switch rand.IntN(3) {
	case 0:
		method, body = http.MethodPost, strings.NewReader(strings.Repeat("x", rand.IntN(200_000)))
	case 1:
		method, body = http.MethodPut, io.MultiReader(strings.NewReader("some "), strings.NewReader("more"))
	}
	r, _ := http.NewRequestWithContext(ctx, method, "http://cart/", body)
	response, err := client.Do(r)
	if err != nil {
		return
	}
	defer response.Body.Close()
	io.CopyN(io.Discard, response.Body, rand.Int64N(100_000))
}

// Whatever happens, every request ends, and gives back what it took.
func TestNothingIsLeftOfWhatGoesWrong(t *testing.T) {
	bothVersions(t, func(t *testing.T, v versions) {
		t.Helper()
		const workers, visits = 6, 40
		budget := limits.NewBudget(1 << 20)
		var cut atomic.Int64
		p := newPair(t, v.declared, whimsical(t), settings{budget: budget, upstream: upstream.Options{DrainTimeout: 20 * time.Millisecond}})
		bad := p.server.listen(nobody())
		ctx, cancel := context.WithCancel(t.Context())
		var wg, changes sync.WaitGroup
		changes.Go(func() {
			for i := 0; ctx.Err() == nil; i++ {
				switch i % 5 {
				case 0:
					p.server.policy(strict, allow, rule("shop/cart/no", deny, web, []string{"PUT"}, nil))
				case 1:
					p.server.policy(strict, allow)
				case 2:
					p.client.endpoints(cart, shop, p.inside, bad)
				case 3:
					p.client.endpoints(cart, shop)
					cut.Add(1)
				case 4:
					p.client.endpoints(cart, shop, p.inside)
				}
				target := len(p.client.events.All()) + 5
				eventuallyOr(ctx, func() bool { return len(p.client.events.All()) >= target })
			}
		})
		for range workers {
			wg.Go(func() {
				client := clientOf(t, p.at, v.http2)
				for range visits {
					visit(ctx, client)
				}
				client.CloseIdleConnections()
			})
		}
		wg.Wait()
		cancel()
		changes.Wait()
		for _, at := range []*proxy{p.client, p.server} {
			eventually(t, "nothing is carried any more", func() bool { return at.server.Active() == 0 })
		}
		eventually(t, "nothing is held any more", func() bool { return budget.Held() == 0 })
		p.client.endpoints(cart, shop, p.inside)
		p.server.policy(strict, allow)
		eventually(t, "requests go through", func() bool {
			ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond) // the application may be in the mood to wait
			defer cancel()
			_, err := attempt(ctx, clientOf(t, p.at, v.http2), http.MethodPut)
			return err == nil
		})
		if cut.Load() == 0 {
			t.Error("no change of endpoints")
		}
	})
}

// eventuallyOr waits for a condition, or for the end of a context.
func eventuallyOr(ctx context.Context, condition func() bool) {
	ticker := time.NewTicker(2 * time.Millisecond)
	defer ticker.Stop()
	for !condition() {
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return
		}
	}
}
