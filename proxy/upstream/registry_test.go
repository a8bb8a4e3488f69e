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
	r := registry(t, Options{DrainTimeout: 50 * time.Millisecond})
	beginOne := func(e *Endpoint) *Conn1 {
		c, why := begin(e, "GET", "")
		if why != nil {
			t.Fatal(why)
		}
		<-started
		return c
	}

	e := r.Acquire(key)
	exchange(t, e, "PUT", "")
	e.Release()
	eventually(t, "idle: the endpoint is forgotten", func() bool { return r.Len() == 0 })

	e = r.Acquire(key)
	c := beginOne(e)
	e.Release()
	if n := e.Connections(); n != 1 {
		t.Errorf("busy: %d connections, want 1", n)
	}
	if _, err := read(c); err == nil {
		t.Error("busy: was not cut when the drain was over")
	}
	eventually(t, "busy: the endpoint is forgotten", func() bool { return r.Len() == 0 })

	e = r.Acquire(key)
	c = beginOne(e)
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
	c.Close()
	e.Release()
	replacement.Release()
	eventually(t, "replaced: both are forgotten", func() bool { return r.Len() == 0 })
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
			if c.reason == refusal.None {
				if got := exchange(t, e, "GET", ""); got != "hello" {
					t.Errorf("answer %q", got)
				}
				return
			}
			_, why := begin(e, "POST", "body")
			refused(t, why, c.reason, true)
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
	if got := exchange(t, registry(t, Options{Credentials: credentials}).Acquire(disabled), "GET", ""); got != "plain" {
		t.Errorf("plaintext port: %q", got)
	}
	ending := disabled
	ending.PlaintextUntil = time.Now().UnixMilli() - 1
	if _, why := begin(registry(t, Options{Credentials: credentials, ConnectTimeout: time.Second}).Acquire(ending), "GET", ""); why == nil {
		t.Error("plaintext whose end has come: a server without mesh TLS answered")
	}

	echo := meshServer(t, ca.Credentials(t, pay), nil)
	stream, err := registry(t, Options{Credentials: credentials}).Acquire(echo).Dial(t.Context(), ALPNTCP, 0)
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
	credentials.SetCertificate(ca.Issue(t, testpki.Identity("shop", "web"), now.Add(time.Minute)))
	e := r.Acquire(key)
	first := exchange(t, e, "GET", "")
	credentials.SetCertificate(ca.Issue(t, testpki.Identity("shop", "web"), now.Add(time.Hour)))
	if again := exchange(t, e, "GET", ""); again != first {
		t.Error("a renewal replaced a connection")
	}
	later.Store(int64(2 * time.Minute))
	if again := exchange(t, e, "GET", ""); again == first {
		t.Error("a connection took a request after its leaf had expired")
	}
	e.Release()
}
