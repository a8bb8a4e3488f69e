// SPDX-License-Identifier: Apache-2.0

package forward_test

import (
	"context"
	"io"
	"net/http"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/heddle-mesh/heddle/internal/identity"
	"github.com/heddle-mesh/heddle/proxy/internal/testnet"
	"github.com/heddle-mesh/heddle/proxy/internal/testpki"
	"github.com/heddle-mesh/heddle/proxy/observe"
	"github.com/heddle-mesh/heddle/proxy/upstream"
)

// An endpoint that vanishes, with its pod or its node, leaves connections in the pool. What is sent on one of them is
// given up in time, though the request has no timeout, and tried on another endpoint where that does no harm.
func TestAnEndpointThatVanishes(t *testing.T) {
	if !testnet.Apart(t) {
		return
	}
	bothVersions(t, func(t *testing.T, v versions) {
		t.Helper()
		const bound = 10 * time.Second
		app := func(name string) netip.AddrPort {
			return httpApp(t, func(w http.ResponseWriter, r *http.Request) {
				io.Copy(io.Discard, r.Body)
				io.WriteString(w, name)
			})
		}
		gone, stays := app("gone"), app("stays")
		ca := testpki.NewAuthority(t)
		p := start(t, ca, web, false, settings{upstream: upstream.Options{VanishTimeout: time.Second, ConnectTimeout: 500 * time.Millisecond}})
		p.service(v.declared, nil, 1)
		p.endpoints(cart, identity.ID{}, gone, stays)
		at := p.listen(netip.AddrPortFrom(cartIP, 80))
		client := clientOf(t, at, v.http2)
		send := func(method string) (string, int) {
			t.Helper()
			ctx, cancel := context.WithTimeout(t.Context(), bound)
			defer cancel()
			r, err := http.NewRequestWithContext(ctx, method, "http://cart/", strings.NewReader(""))
			if err != nil {
				t.Fatal(err)
			}
			response, err := client.Do(r)
			if err != nil {
				t.Fatalf("%s: %v", method, err)
			}
			defer response.Body.Close()
			body, err := io.ReadAll(response.Body)
			if err != nil {
				t.Fatalf("%s: %v", method, err)
			}
			return string(body), response.StatusCode
		}
		answered := map[string]bool{}
		eventually(t, "both have connections in the pool", func() bool {
			body, _ := send(http.MethodPost)
			answered[body] = true
			return answered["gone"] && answered["stays"]
		})
		testnet.Vanish(t, gone.Port())
		begun := time.Now()
		lost := func() int {
			n := 0
			for _, e := range p.events.All() {
				if e.Attempts > 1 && e.Status == http.StatusOK && e.Method == http.MethodGet {
					n++
				}
			}
			return n
		}
		for lost() == 0 && time.Since(begun) < bound {
			if body, status := send(http.MethodGet); status != http.StatusOK || body != "stays" {
				t.Fatalf("GET: status %d, %q", status, body)
			}
		}
		if lost() == 0 {
			t.Error("no GET went to the endpoint that vanished")
		}
		p.events.wait(t, "of the second try", func(e observe.Event) bool { return e.Attempts > 1 && e.Endpoint == stays })
	})
}
