// SPDX-License-Identifier: Apache-2.0

package upstream

import (
	"crypto/x509"
	"io"
	"net/http"
	"net/netip"
	"sync/atomic"
	"testing"
	"time"

	"github.com/heddle-mesh/heddle/proxy/internal/testpki"
	"github.com/heddle-mesh/heddle/proxy/refusal"
)

func TestAnEndpointThatLeaves(t *testing.T) {
	started, release := make(chan struct{}, 10), make(chan struct{})
	_, key := server(t, func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodPut {
			return
		}
		http.NewResponseController(w).Flush()
		started <- struct{}{}
		select {
		case <-release:
		case <-r.Context().Done():
		}
	})
	t.Cleanup(func() { close(release) })
	for version := range Version(2) {
		r := registry(t, Options{DrainTimeout: 50 * time.Millisecond})
		begin := func(e *Endpoint) *http.Response {
			response, err := e.RoundTrip(version, request(t, "GET", ""))
			if err != nil {
				t.Fatal(err)
			}
			<-started
			return response
		}

		e := r.Acquire(key)
		exchange(t, e, version, request(t, "PUT", ""))
		e.Release()
		eventually(t, "idle: the endpoint is forgotten", func() bool { return r.Len() == 0 })

		e = r.Acquire(key)
		response := begin(e)
		e.Release()
		if n := e.Connections(); n != 1 {
			t.Errorf("busy: %d connections, want 1", n)
		}
		if _, err := io.ReadAll(response.Body); err == nil {
			t.Error("busy: was not cut when the drain was over")
		}
		response.Body.Close()
		eventually(t, "busy: the endpoint is forgotten", func() bool { return r.Len() == 0 })

		e = r.Acquire(key)
		response = begin(e)
		other := key
		other.Plaintext = true
		replacement := r.Acquire(other)
		e.Release()
		if e.drain != nil {
			t.Error("replaced: a deadline was set for what is busy")
		}
		if again := r.Acquire(key); again != e || e.retired {
			t.Error("replaced: coming back, it is not what it was")
		}
		response.Body.Close()
		e.Release()
		replacement.Release()
		eventually(t, "replaced: both are forgotten", func() bool { return r.Len() == 0 })
	}
}

func TestWhoAnswersMustBeTheEndpoint(t *testing.T) {
	shop, foreign := testpki.NewAuthority(t), testpki.NewAuthority(t)
	web, pay := testpki.Identity("shop", "web"), testpki.Identity("shop", "pay")
	hello := func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "hello") }
	good := meshServer(t, shop.Credentials(t, pay), hello)
	other := good
	other.Identity = web
	cases := map[string]struct {
		key         Key
		credentials Credentials
		reason      refusal.Reason
	}{
		"the right one":                 {good, shop.Credentials(t, web), refusal.None},
		"another identity":              {other, shop.Credentials(t, web), refusal.PeerIdentity},
		"another CA":                    {good, foreign.Credentials(t, web), refusal.PeerIdentity},
		"no certificate yet":            {good, &testpki.Credentials{}, refusal.NotReady},
		"it refuses the caller":         {good, mixed{foreign.Credentials(t, web), shop.Credentials(t, web)}, refusal.ConnectFailed},
		"mesh TLS expected of no proxy": {Key{Address: plain(t), Identity: pay}, shop.Credentials(t, web), refusal.ConnectFailed},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			e := registry(t, Options{Credentials: c.credentials, ConnectTimeout: time.Second}).Acquire(c.key)
			for version := range Version(2) {
				if c.reason == refusal.None {
					if got := exchange(t, e, version, request(t, "GET", "")); got != "hello" {
						t.Errorf("answer %q", got)
					}
					continue
				}
				_, err := e.RoundTrip(version, request(t, "POST", "body"))
				refused(t, err, c.reason, true)
			}
		})
	}
}

// mixed presents one's certificate and trusts as another does.
type mixed struct {
	*testpki.Credentials
	trust *testpki.Credentials
}

func (m mixed) Roots() *x509.CertPool { return m.trust.Roots() }

func plain(t *testing.T) netip.AddrPort {
	t.Helper()
	_, key := server(t, func(http.ResponseWriter, *http.Request) {})
	return key.Address
}

func TestHowAnEndpointIsDialled(t *testing.T) {
	ca := testpki.NewAuthority(t)
	pay := testpki.Identity("shop", "pay")
	credentials := ca.Credentials(t, testpki.Identity("shop", "web"))
	_, key := server(t, func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "plain") })
	key.Identity = pay
	disabled := key
	disabled.Plaintext = true
	if got := exchange(t, registry(t, Options{Credentials: credentials}).Acquire(disabled), HTTP1, request(t, "GET", "")); got != "plain" {
		t.Errorf("plaintext port: %q", got)
	}
	ending := disabled
	ending.PlaintextUntil = time.Now().UnixMilli() - 1
	if _, err := registry(t, Options{Credentials: credentials, ConnectTimeout: time.Second}).Acquire(ending).
		RoundTrip(HTTP1, request(t, "GET", "")); err == nil {
		t.Error("plaintext whose end has come: a server without mesh TLS answered")
	}

	echo := meshServer(t, ca.Credentials(t, pay), nil)
	stream, err := registry(t, Options{Credentials: credentials}).Acquire(echo).Dial(t.Context(), ALPNTCP)
	if err != nil {
		t.Fatal(err)
	}
	defer stream.Close()
	io.WriteString(stream, "hello")
	if err := stream.Conn.(interface{ CloseWrite() error }).CloseWrite(); err != nil {
		t.Fatal(err)
	}
	if got, err := io.ReadAll(stream); string(got) != "hello" || err != nil {
		t.Errorf("read %q, %v", got, err)
	}
}

func TestAnExpiredLeafTakesNoNewRequest(t *testing.T) {
	ca := testpki.NewAuthority(t)
	key := meshServer(t, ca.Credentials(t, testpki.Identity("shop", "pay")), func(w http.ResponseWriter, r *http.Request) {
		io.WriteString(w, r.RemoteAddr)
	})
	now := time.Now()
	credentials := ca.Credentials(t, testpki.Identity("shop", "web"))
	var later atomic.Int64
	r := registry(t, Options{Credentials: credentials, Clock: func() time.Time { return now.Add(time.Duration(later.Load())) }})
	for version := range Version(2) {
		later.Store(0)
		credentials.SetCertificate(ca.Issue(t, testpki.Identity("shop", "web"), now.Add(time.Minute)))
		e := r.Acquire(key)
		first := exchange(t, e, version, request(t, "GET", ""))
		credentials.SetCertificate(ca.Issue(t, testpki.Identity("shop", "web"), now.Add(time.Hour)))
		if again := exchange(t, e, version, request(t, "GET", "")); again != first {
			t.Error("a renewal replaced a connection")
		}
		later.Store(int64(2 * time.Minute))
		if again := exchange(t, e, version, request(t, "GET", "")); again == first {
			t.Error("a connection took a request after its leaf had expired")
		}
		e.Release()
	}
}
