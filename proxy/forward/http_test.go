// SPDX-License-Identifier: Apache-2.0

package forward_test

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptrace"
	"net/netip"
	"net/textproto"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/heddle-mesh/heddle/internal/limits"
	"github.com/heddle-mesh/heddle/internal/meshconfig"
	"github.com/heddle-mesh/heddle/proxy/observe"
	"github.com/heddle-mesh/heddle/proxy/refusal"
)

// versions are what a caller speaks, and what its server does.
type versions struct {
	http2    bool
	declared meshconfig.Protocol
}

// bothVersions runs a test over HTTP/1.1 and over HTTP/2, to servers of each.
func bothVersions(t *testing.T, test func(t *testing.T, v versions)) {
	t.Helper()
	for name, v := range map[string]versions{
		"http1": {false, asHTTP}, "http2": {true, asHTTP2}, "http1 to http2": {false, asHTTP2}, "http2 to http1": {true, asHTTP},
	} {
		t.Run(name, func(t *testing.T) { test(t, v) })
	}
}

func TestARequestGoesThroughUnchanged(t *testing.T) {
	bothVersions(t, func(t *testing.T, v versions) {
		t.Helper()
		var got *http.Request
		var body []byte
		app := httpApp(t, func(w http.ResponseWriter, r *http.Request) {
			got = r
			body, _ = io.ReadAll(r.Body)
			h := w.Header()
			h["X-Two"] = []string{"a", "b"}
			h["Content-Type"], h["Date"] = nil, nil
			h.Set("Proxy-Authenticate", "Basic")
			w.WriteHeader(http.StatusTeapot)
			io.WriteString(w, "short and stout")
		})
		p := newPair(t, v.declared, app, settings{})
		response, text := call{method: "POST", path: "/a%2fb//./c?x=1;y&z", body: "hello", header: http.Header{
			"X-Many": {"1", "2"}, "User-Agent": {""}, "Proxy-Authorization": {"Basic x"}, "X-Forwarded-For": {"192.0.2.1"},
			"Te": {"trailers"},
		}}.do(t, clientOf(t, p.at, v.http2))

		if response.StatusCode != http.StatusTeapot || text != "short and stout" {
			t.Errorf("answer %d %q", response.StatusCode, text)
		}
		if h := response.Header; !slices.Equal(h["X-Two"], []string{"a", "b"}) || h.Get("Proxy-Authenticate") != "Basic" ||
			h.Get("Content-Type") != "" || h.Get("Date") != "" {
			t.Errorf("answer's header %v", response.Header)
		}
		wantMajor := 1
		if v.declared == asHTTP2 {
			wantMajor = 2
		}
		if got.ProtoMajor != wantMajor || got.Host != "cart" || got.RequestURI != "/a%2Fb/c?x=1;y&z" || string(body) != "hello" {
			t.Errorf("application got %s %s of %q with %q", got.Proto, got.RequestURI, got.Host, body)
		}
		want := http.Header{
			"X-Many": {"1", "2"}, "Proxy-Authorization": {"Basic x"}, "X-Forwarded-For": {"192.0.2.1"}, "Te": {"trailers"},
			"Content-Length": {"5"}, "X-Forwarded-Client-Cert": {"URI=spiffe://cluster.local/ns/shop/sa/web"},
		}
		if v.declared == asHTTP {
			want["Connection"] = []string{"TE"} // RFC 9110, section 10.1.4
		}
		if fmt.Sprint(got.Header) != fmt.Sprint(want) {
			t.Errorf("application got header %v, want %v", got.Header, want)
		}
		checkEvents(t, p, v.http2)
	})
}

func checkEvents(t *testing.T, p *pair, http2 bool) {
	t.Helper()
	protocol := map[bool]string{false: "http1", true: "http2"}[http2]
	first := func(observe.Event) bool { return true }
	out, in := p.client.events.wait(t, "outbound", first), p.server.events.wait(t, "inbound", first)
	for _, e := range []observe.Event{out, in} {
		if e.Protocol != protocol || e.Method != http.MethodPost || e.Path != "/a%2Fb/c" || e.Status != 418 || e.Class() != "4xx" ||
			e.BytesIn != 5 || e.BytesOut != 15 || !e.MTLS || e.Attempts != 1 || e.Reason != refusal.None {
			t.Errorf("event %+v", e)
		}
	}
	if *out.Labels != (observe.Labels{Direction: observe.Outbound, Service: cart, Backend: "v1", Workload: "cart"}) ||
		*out.Peer != shop || out.Endpoint != p.inside || out.Pod != "shop/cart-0" {
		t.Errorf("outbound event %+v", out)
	}
	if *in.Labels != (observe.Labels{Direction: observe.Inbound, Workload: "cart"}) || *in.Peer != web || in.Rule != "default" {
		t.Errorf("inbound event %+v", in)
	}
}

func TestWhatTellsWhoCallsIsTheProxysAlone(t *testing.T) {
	var got http.Header
	app := httpApp(t, func(w http.ResponseWriter, r *http.Request) {
		io.Copy(io.Discard, r.Body)
		got = r.Header.Clone()
		for name, values := range r.Trailer {
			got["Trailer "+name] = values
		}
		h := w.Header()
		h["Heddle-Undelivered"], h["heddle_reason"], h["Heddle-Reason"] = []string{"1"}, []string{"x"}, []string{"x"}
	})
	p := newPair(t, asHTTP, app, settings{})
	spellings := []string{
		"X-Forwarded-Client-Cert", "x-forwarded-client-cert", "X_Forwarded_Client_Cert", "x-forwarded_client-CERT",
		"X_FORWARDED_CLIENT_CERT", "Heddle-Undelivered", "heddle_undelivered", "HEDDLE-Anything",
	}
	for _, name := range spellings {
		lines := []string{
			"POST / HTTP/1.1", "Host: cart", "Connection: close, " + name + ", X-Forwarded-Client-Cert", name + ": forged",
			"Transfer-Encoding: chunked", "Trailer: " + name, "", "1", "x", "0", name + ": forged", "", "",
		}
		answer := raw(t, p, strings.Join(lines, "\r\n"))
		if answer.StatusCode != http.StatusOK {
			t.Fatalf("%s: status %d", name, answer.StatusCode)
		}
		for header, values := range got {
			folded := strings.ReplaceAll(strings.ToLower(header), "_", "-")
			if strings.Contains(folded, "heddle-") || strings.Contains(folded, "trailer") {
				t.Errorf("%s: application got %s: %v", name, header, values)
			}
			if strings.Contains(folded, "forwarded-client") && !slices.Equal(values, []string{"URI=" + web.String()}) {
				t.Errorf("%s: application got %s: %v", name, header, values)
			}
		}
		if got.Get("X-Forwarded-Client-Cert") == "" {
			t.Errorf("%s: application was not told who calls", name)
		}
		for header := range answer.Header {
			if strings.Contains(strings.ToLower(header), "heddle") {
				t.Errorf("%s: the caller got the application's %s", name, header)
			}
		}
	}
}

// raw sends bytes to the client-side proxy and reads an answer.
func raw(t *testing.T, p *pair, request string) *http.Response {
	t.Helper()
	conn := dial(t, p.client, p.at.String())
	if _, err := io.WriteString(conn, request); err != nil {
		t.Fatal(err)
	}
	response, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		t.Fatal(err)
	}
	body, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	response.Body = io.NopCloser(bytes.NewReader(body))
	return response
}

func dial(t *testing.T, _ *proxy, address string) *net.TCPConn {
	t.Helper()
	conn, err := (&net.Dialer{}).DialContext(t.Context(), "tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	tcp, _ := conn.(*net.TCPConn)
	return tcp
}

// spoken is what a connection brings to a caller that says something. One that is reset may be so while it is made.
func spoken(t *testing.T, at netip.AddrPort, word string) (string, error) {
	t.Helper()
	conn, err := (&net.Dialer{}).DialContext(t.Context(), "tcp", at.String())
	if err != nil {
		return "", err
	}
	defer conn.Close()
	io.WriteString(conn, word)
	got, err := io.ReadAll(conn)
	return string(got), err
}

func TestRequestsThatAreRefused(t *testing.T) {
	p := newPair(t, asHTTP, httpApp(t, func(http.ResponseWriter, *http.Request) {}), settings{
		limits: limits.Set{HeaderBytes: 2 << 10},
	})
	cases := map[string]struct {
		request string
		status  int
	}{
		"without Host":                   {"GET / HTTP/1.1\r\n\r\n", 400},
		"with two Hosts":                 {"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", 400},
		"with a path above the root":     {"GET /../x HTTP/1.1\r\nHost: a\r\n\r\n", 400},
		"with a backslash":               {"GET /a\\..\\x HTTP/1.1\r\nHost: a\r\n\r\n", 400},
		"with an escaped NUL":            {"GET /a%00 HTTP/1.1\r\nHost: a\r\n\r\n", 400},
		"with a broken escape":           {"GET /%zz HTTP/1.1\r\nHost: a\r\n\r\n", 400},
		"with space before the colon":    {"GET / HTTP/1.1\r\nHost : a\r\n\r\n", 400},
		"with two lengths":               {"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nxx", 400},
		"with an unknown coding":         {"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: x, chunked\r\n\r\n", 501},
		"with a header that is too long": {"GET / HTTP/1.1\r\nHost: a\r\nX: " + strings.Repeat("x", 8<<10) + "\r\n\r\n", 431},
		"with CONNECT without a port":    {"CONNECT a HTTP/1.1\r\nHost: a\r\n\r\n", 400},
		"that are not HTTP":              {"\x00\x01\x02\x03 nothing\r\n\r\n", 400},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			before := len(p.client.events.All())
			response := raw(t, p, c.request)
			body, _ := io.ReadAll(response.Body)
			if response.StatusCode != c.status || response.Header.Get("heddle-reason") != "bad_request" ||
				!strings.HasPrefix(string(body), "heddle: bad_request: ") {
				t.Errorf("status %d, reason %q, body %q", response.StatusCode, response.Header.Get("heddle-reason"), body)
			}
			eventually(t, "it is counted", func() bool { return len(p.client.events.All()) > before })
			e := p.client.events.All()[before]
			if e.Reason != refusal.BadRequest || e.Status != c.status || e.Labels.Service != cart {
				t.Errorf("event %+v", e)
			}
		})
	}
	if n := len(p.server.events.All()); n != 0 {
		t.Errorf("%d requests reached the server", n)
	}
}

// Callers outside the mesh come to the server's proxy alone.
func TestRequestsOfForeignCallersThatAreRefused(t *testing.T) {
	p := newPair(t, asHTTP, httpApp(t, func(http.ResponseWriter, *http.Request) { t.Error("the application was asked") }), settings{})
	p.server.policyOf(&meshconfig.PortPolicy{Mtls: permissive, DefaultAction: allow, Protocol: asHTTP})
	for name, request := range map[string]string{
		"without Host":               "GET / HTTP/1.1\r\n\r\n",
		"with an empty Host":         "GET / HTTP/1.1\r\nHost:\r\n\r\n",
		"with two Hosts":             "GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
		"with a path above the root": "GET /../x HTTP/1.1\r\nHost: a\r\n\r\n",
		"with a length and a coding": "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nTransfer-Encoding: x\r\n\r\nx",
	} {
		t.Run(name, func(t *testing.T) {
			before := len(p.server.events.All())
			conn := dial(t, p.server, p.inside.String())
			io.WriteString(conn, request)
			response, err := http.ReadResponse(bufio.NewReader(conn), nil)
			if err != nil {
				t.Fatal(err)
			}
			defer response.Body.Close()
			if response.StatusCode < 400 || response.StatusCode > 501 || response.Header.Get("heddle-reason") != "bad_request" {
				t.Errorf("status %d, header %v", response.StatusCode, response.Header)
			}
			eventually(t, "it is counted", func() bool { return len(p.server.events.All()) > before })
			if e := p.server.events.All()[before]; e.Reason != refusal.BadRequest || e.MTLS {
				t.Errorf("event %+v", e)
			}
		})
	}
}

func TestTargetsInOtherForms(t *testing.T) {
	p := newPair(t, asHTTP, accept(t, func(c net.Conn) {
		in := bufio.NewReader(c)
		line, _ := in.ReadString('\n')
		host, _ := in.ReadString('\n')
		fmt.Fprintf(c, "HTTP/1.1 200 OK\r\nX-Line: %s\r\nX-Host: %s\r\nContent-Length: 0\r\nConnection: close\r\n\r\n",
			strings.TrimSpace(line), strings.TrimSpace(host))
	}), settings{})
	hosts := map[string]string{"GET / HTTP/1.0": "Host: 10.96.0.1:80", "GET http://other.example/a HTTP/1.0": "Host: other.example"}
	hosts["GET http://OTHER.example/b HTTP/1.1\r\nHost: other.example"] = "Host: OTHER.example" // the target's counts
	cases := map[string]string{
		"OPTIONS * HTTP/1.1\r\nHost: a":                                     "OPTIONS * HTTP/1.1",
		"GET http://other.example/x/../y?q HTTP/1.1\r\nHost: other.example": "GET http://other.example/y?q HTTP/1.1",
		"GET http://other.example HTTP/1.1\r\nHost: other.example":          "GET http://other.example/ HTTP/1.1",
		"GET /? HTTP/1.1\r\nHost: a":                                        "GET /? HTTP/1.1",
		"GET /a?b=%zz&c HTTP/1.1\r\nHost: a":                                "GET /a?b=%zz&c HTTP/1.1",
		"GET / HTTP/1.0":                                                    "GET / HTTP/1.1",
		"GET http://other.example/a HTTP/1.0":                               "GET http://other.example/a HTTP/1.1",
		"GET http://OTHER.example/b HTTP/1.1\r\nHost: other.example":        "GET http://OTHER.example/b HTTP/1.1",
	}
	for request, want := range cases {
		header := raw(t, p, request+"\r\n\r\n").Header
		if got := header.Get("X-Line"); got != want {
			t.Errorf("%q: application got %q, want %q", request, got, want)
		}
		if got := header.Get("X-Host"); hosts[request] != "" && got != hosts[request] {
			t.Errorf("%q: application got %q, want %q", request, got, hosts[request])
		}
	}
}

func TestTrailersAndInterimAnswers(t *testing.T) {
	bothVersions(t, func(t *testing.T, v versions) {
		t.Helper()
		app := httpApp(t, func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Link", "</style.css>")
			w.WriteHeader(http.StatusEarlyHints)
			w.Header().Del("Link")
			w.Header().Set("Trailer", "X-Sum")
			body, _ := io.ReadAll(r.Body)
			w.Write(body)
			w.Header().Set("X-Sum", r.Trailer.Get("X-Ask")+"!")
			w.Header().Set(http.TrailerPrefix+"X-Surprise", "yes")
		})
		p := newPair(t, v.declared, app, settings{})
		var hints []string
		ctx := httptrace.WithClientTrace(t.Context(), &httptrace.ClientTrace{
			Got1xxResponse: func(code int, h textproto.MIMEHeader) error {
				hints = append(hints, fmt.Sprint(code, h.Get("Link")))
				return nil
			},
		})
		r, _ := http.NewRequestWithContext(ctx, http.MethodPost, "http://cart/", io.MultiReader(strings.NewReader("body")))
		r.Trailer = http.Header{"X-Ask": {"sum"}}
		response, err := clientOf(t, p.at, v.http2).Do(r)
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(response.Body)
		if err != nil || string(body) != "body" {
			t.Errorf("body %q, %v", body, err)
		}
		response.Body.Close()
		if response.Trailer.Get("X-Sum") != "sum!" || response.Trailer.Get("X-Surprise") != "yes" {
			t.Errorf("trailer %v", response.Trailer)
		}
		if !slices.Equal(hints, []string{"103</style.css>"}) || response.Header.Get("Link") != "" {
			t.Errorf("interim answers %v, header %v", hints, response.Header)
		}
	})
}

func TestBodiesStreamBothWaysAtOnce(t *testing.T) {
	bothVersions(t, func(t *testing.T, v versions) {
		t.Helper()
		app := httpApp(t, func(w http.ResponseWriter, r *http.Request) {
			control := http.NewResponseController(w)
			control.EnableFullDuplex()
			control.Flush()
			buf := make([]byte, 100)
			for {
				n, err := r.Body.Read(buf)
				w.Write(buf[:n])
				control.Flush()
				if err != nil {
					return
				}
			}
		})
		p := newPair(t, v.declared, app, settings{})
		body, feed := io.Pipe()
		r, _ := http.NewRequestWithContext(t.Context(), http.MethodPost, "http://cart/", body)
		response, err := clientOf(t, p.at, v.http2).Do(r)
		if err != nil {
			t.Fatal(err)
		}
		defer response.Body.Close()
		for i := range 20 {
			word := fmt.Sprintf("word %04d", i)
			io.WriteString(feed, word)
			back := make([]byte, len(word))
			if _, err := io.ReadFull(response.Body, back); err != nil || string(back) != word {
				t.Fatalf("got %q, %v", back, err)
			}
		}
		feed.Close()
		if rest, err := io.ReadAll(response.Body); err != nil || len(rest) > 0 {
			t.Errorf("rest %q, %v", rest, err)
		}
	})
}

func TestExpectContinue(t *testing.T) {
	bothVersions(t, func(t *testing.T, v versions) {
		t.Helper()
		app := httpApp(t, func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path == "/no" {
				w.WriteHeader(http.StatusExpectationFailed)
				return
			}
			io.Copy(w, r.Body)
		})
		p := newPair(t, v.declared, app, settings{})
		client := clientOf(t, p.at, v.http2)
		expect := http.Header{"Expect": {"100-continue"}}
		if got := (call{method: "POST", path: "/yes", body: "body", header: expect}).status(t, client, 200); got != "body" {
			t.Errorf("body %q", got)
		}
		if !v.http2 {
			call{method: "POST", path: "/no", body: "body", header: expect}.status(t, client, 417)
		}
	})
}

func TestAnUpgradedConnection(t *testing.T) {
	app := httpApp(t, func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Upgrade") != "websocket" {
			http.Error(w, "no", http.StatusUpgradeRequired)
			return
		}
		w.Header().Set("Connection", "Upgrade")
		w.Header().Set("Upgrade", "websocket")
		w.WriteHeader(http.StatusSwitchingProtocols)
		conn, buffered, err := http.NewResponseController(w).Hijack()
		if err != nil {
			panic(err)
		}
		defer conn.Close()
		io.Copy(conn, buffered)
		io.WriteString(conn, "bye")
		conn.(interface{ CloseWrite() error }).CloseWrite()
	})
	p := newPair(t, asHTTP, app, settings{})
	p.client.service(asHTTP, func(port *meshconfig.ServicePort) { // a timeout is not for what upgrades
		port.Routes = []*meshconfig.Route{{Name: "all", RequestTimeout: 50}}
	}, 1)
	conn := dial(t, p.client, p.at.String())
	io.WriteString(conn, "GET /chat HTTP/1.1\r\nHost: cart\r\nConnection: keep-alive, Upgrade\r\nUpgrade: websocket\r\n\r\nearly ")
	reader := bufio.NewReader(conn)
	response, err := http.ReadResponse(reader, nil)
	if err != nil {
		t.Fatal(err)
	}
	if response.StatusCode != http.StatusSwitchingProtocols || response.Header.Get("Upgrade") != "websocket" {
		t.Fatalf("status %d, header %v", response.StatusCode, response.Header)
	}
	timer := time.NewTimer(100 * time.Millisecond) // beyond the timeout
	<-timer.C
	io.WriteString(conn, "late")
	conn.CloseWrite()
	if got, err := io.ReadAll(reader); string(got) != "early latebye" || err != nil {
		t.Errorf("got %q, %v", got, err)
	}
	e := p.client.events.wait(t, "of the upgrade", func(e observe.Event) bool { return e.Status == 101 })
	if e.BytesIn != 10 || e.BytesOut != 13 || e.Reason != refusal.None {
		t.Errorf("event %+v", e)
	}

	p.client.service(asHTTP, nil, 1)
	plain := raw(t, p, "GET / HTTP/1.1\r\nHost: cart\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAAP__\r\n\r\n")
	if plain.StatusCode != http.StatusUpgradeRequired {
		t.Errorf("an upgrade to HTTP/2 gave %d", plain.StatusCode)
	}
}

func TestTimeouts(t *testing.T) {
	bothVersions(t, func(t *testing.T, v versions) {
		t.Helper()
		gone := make(chan struct{}, 10)
		app := httpApp(t, func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path == "/late" {
				http.NewResponseController(w).Flush()
			}
			if r.URL.Path != "/quick" {
				<-r.Context().Done()
				gone <- struct{}{}
			}
		})
		p := newPair(t, v.declared, app, settings{})
		p.client.service(v.declared, func(port *meshconfig.ServicePort) {
			slow := func(path string) *meshconfig.Match {
				return &meshconfig.Match{Path: &meshconfig.PathMatch{Type: meshconfig.PathMatch_TYPE_EXACT, Value: path}}
			}
			port.Routes = []*meshconfig.Route{
				{Name: "brief", RequestTimeout: 100, Matches: []*meshconfig.Match{slow("/slow")}},
				{Name: "begun", RequestTimeout: 1000, Matches: []*meshconfig.Match{slow("/late")}}, // the head arrives before
			}
		}, 1)
		client := clientOf(t, p.at, v.http2)
		call{path: "/quick"}.status(t, client, 200)
		response, body := call{path: "/slow"}.do(t, client)
		if response.StatusCode != http.StatusGatewayTimeout || response.Header.Get("heddle-reason") != "timeout" || !strings.Contains(body, "route brief") {
			t.Errorf("status %d, header %v, body %q", response.StatusCode, response.Header, body)
		}
		<-gone // the application was told
		r, _ := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://cart/late", nil)
		if response, err := client.Do(r); err != nil {
			t.Error(err)
		} else if _, err := io.ReadAll(response.Body); err == nil {
			t.Error("an answer that is late in its body came to a good end")
		}
		<-gone
		p.client.events.wait(t, "of the timeout", func(e observe.Event) bool {
			return e.Reason == refusal.Timeout && e.Status == 504 && e.Labels.Route == "brief"
		})
		p.client.events.wait(t, "of the timeout in the body", func(e observe.Event) bool {
			return e.Reason == refusal.Timeout && e.Status == 200 && e.Labels.Route == "begun"
		})
	})
}

func TestACallerThatGoesAwayCancels(t *testing.T) {
	bothVersions(t, func(t *testing.T, v versions) {
		t.Helper()
		started, gone := make(chan struct{}), make(chan struct{})
		app := httpApp(t, func(_ http.ResponseWriter, r *http.Request) {
			close(started)
			<-r.Context().Done()
			close(gone)
		})
		p := newPair(t, v.declared, app, settings{})
		ctx, cancel := context.WithCancel(t.Context())
		r, _ := http.NewRequestWithContext(ctx, http.MethodGet, "http://cart/", nil)
		go func() { <-started; cancel() }()
		if _, err := clientOf(t, p.at, v.http2).Do(r); !errors.Is(err, context.Canceled) {
			t.Errorf("error %v", err)
		}
		<-gone
		p.client.events.wait(t, "of the caller", func(e observe.Event) bool { return e.Reason == refusal.CallerGone })
	})
}
