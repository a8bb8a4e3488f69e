// SPDX-License-Identifier: Apache-2.0

package pipeline

import (
	"crypto/tls"
	"net/netip"
	"testing"
	"time"

	"connectrpc.com/connect"

	"github.com/heddle-mesh/heddle/proxy/upstream"
	"github.com/heddle-mesh/heddle/test/shop/paymentsapi"
)

// Certificates are renewed under connections of every kind: none is cut, and new ones show the new certificate.
func TestRenewalCutsNothing(t *testing.T) {
	t.Parallel()
	const renewals, each = 3, 2
	m := shop(t, settings{leaf: 8 * time.Second})
	web, cart := m.workload("shop/web-1"), m.workload("shop/cart-1")
	one, two := web.client(), web.client2()
	// So that none dials while another connection is being made or given back.
	one.transport.MaxConnsPerHost = each
	check(t, two.get("http://cart.shop/").served())
	_, err := two.payments("cart.shop:90").Charge(t.Context(), connect.NewRequest(&paymentsapi.ChargeRequest{Cents: 1}))
	check(t, err)
	first := cart.shownSerial()

	var stops []func() int
	var streams []*connect.BidiStreamForClient[paymentsapi.ChargeRequest, paymentsapi.ChargeResponse]
	for range each {
		stops = append(stops,
			m.load(1, func() error { return one.get("http://cart.shop/").served() }),
			m.load(1, func() error { return two.get("http://cart.shop/").served() }),
			m.load(1, func() error { // between the streams, on the same connections
				_, err := two.payments("cart.shop:90").Charge(t.Context(), connect.NewRequest(&paymentsapi.ChargeRequest{Cents: 1}))
				return err
			}))
		stream := two.payments("cart.shop:90").Watch(t.Context())
		stops = append(stops, m.load(1, func() error {
			if err := stream.Send(&paymentsapi.ChargeRequest{Cents: 1}); err != nil {
				return err
			}
			_, err := stream.Receive()
			return err
		}))
		streams = append(streams, stream)
		l, err := web.lines("cart.shop:70")
		check(t, err)
		stops = append(stops, m.load(1, func() error { return l.ask("busy") }))
	}
	seen := make(map[*workload]map[string]bool)
	for _, w := range []*workload{web, cart} {
		seen[w] = make(map[string]bool)
	}
	await(t, "both have renewed their certificates", func() bool {
		all := true
		for w, serials := range seen {
			serials[w.sidecar().agent.Identity().Certificate().Leaf.SerialNumber.String()] = true
			all = all && len(serials) > renewals
		}
		return all
	})
	shown := cart.shownSerial()
	if shown == first || !seen[cart][shown] {
		t.Errorf("a new connection shows certificate %s: first was %s, since then %v", shown, first, seen[cart])
	}
	for _, stop := range stops {
		if stop() == 0 {
			t.Error("a connection was not busy")
		}
	}
	for _, s := range streams {
		check(t, s.CloseRequest())
		check(t, s.CloseResponse())
	}
	// One connection a worker of HTTP/1.1, one for all of HTTP/2 to each port: the application never dialled again.
	if n := one.dialled.Load(); n > each {
		t.Errorf("the application dialled %d connections of HTTP/1.1: want %d", n, each)
	}
	if n := two.dialled.Load(); n > 2 {
		t.Errorf("the application dialled %d connections of HTTP/2: want 2", n)
	}
}

// shownSerial opens a connection to a workload as a proxy of the mesh does, and returns the serial number of the
// certificate that it shows.
func (w *workload) shownSerial() string {
	m := w.mesh
	m.Helper()
	raw, err := m.network.dial(m.Context(), "tcp", netip.AddrPortFrom(w.ip, httpPort).String())
	check(m, err)
	defer raw.Close()
	own := m.authorities.workload.Workload(m, idOf(w.pod))
	conn := tls.Client(raw, &tls.Config{
		NextProtos: []string{upstream.ALPNHTTP1}, Certificates: []tls.Certificate{*own},
		InsecureSkipVerify: true, // names are SPIFFE IDs; what matters here is the serial number
	})
	check(m, conn.HandshakeContext(m.Context()))
	return conn.ConnectionState().PeerCertificates[0].SerialNumber.String()
}
