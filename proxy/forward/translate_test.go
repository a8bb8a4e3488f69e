// SPDX-License-Identifier: Apache-2.0

package forward_test

import (
	"bufio"
	"bytes"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/http2"

	"github.com/heddle-mesh/heddle/internal/identity"
	"github.com/heddle-mesh/heddle/internal/meshconfig"
	"github.com/heddle-mesh/heddle/proxy/refusal"
	"github.com/heddle-mesh/heddle/proxy/upstream"
)

// oneRequest is an application of HTTP/1.1 that answers each connection's first request, of which the end is known, with
// bytes; it tells what it got.
func oneRequest(t *testing.T, end, answer string) (netip.AddrPort, <-chan string) {
	t.Helper()
	got := make(chan string, 10)
	return accept(t, func(c net.Conn) {
		var all []byte
		buf := make([]byte, 64<<10)
		for !bytes.HasSuffix(all, []byte(end)) {
			n, err := c.Read(buf)
			if all = append(all, buf[:n]...); err != nil {
				return
			}
		}
		got <- string(all)
		io.WriteString(c, answer)
	}), got
}

const identityField = "X-Forwarded-Client-Cert: URI=spiffe://cluster.local/ns/shop/sa/web\r\n"

// What an HTTP/1.1 server gets of a request of HTTP/2.
func TestRequestsOfHTTP2ToAServerOfHTTP1(t *testing.T) {
	type request struct {
		method, path string
		fields       []string
		content      string
		trailer      []string
	}
	for name, c := range map[string]struct {
		request request
		want    string // but for who calls
	}{
		"a GET": {
			request{"GET", "/a//b?c=1", []string{"accept", "*/*"}, "", nil},
			"GET /a/b?c=1 HTTP/1.1\r\nHost: cart\r\naccept: */*\r\n",
		},
		"OPTIONS of the server": {
			request{"OPTIONS", "*", nil, "", nil},
			"OPTIONS * HTTP/1.1\r\nHost: cart\r\n",
		},
		"a POST without content has a length": {
			request{"POST", "/", nil, "", nil},
			"POST / HTTP/1.1\r\nHost: cart\r\n|Content-Length: 0\r\n\r\n",
		},
		"content of a known length": {
			request{"POST", "/", []string{"content-length", "4"}, "body", nil},
			"POST / HTTP/1.1\r\nHost: cart\r\ncontent-length: 4\r\n|body",
		},
		"content of an unknown length is in chunks": {
			request{"PUT", "/", nil, "body", nil},
			"PUT / HTTP/1.1\r\nHost: cart\r\n|Transfer-Encoding: chunked\r\n\r\n4\r\nbody\r\n0\r\n\r\n",
		},
		"a trailer": {
			request{"PUT", "/", []string{"trailer", "x-sum"}, "body", []string{"x-sum", "1"}},
			"PUT / HTTP/1.1\r\nHost: cart\r\ntrailer: x-sum\r\n|Transfer-Encoding: chunked\r\n\r\n4\r\nbody\r\n0\r\nx-sum: 1\r\n\r\n",
		},
		"a trailer to content with a length": {
			request{"PUT", "/", []string{"content-length", "4", "trailer", "x-sum"}, "body", []string{"x-sum", "1"}},
			"PUT / HTTP/1.1\r\nHost: cart\r\ntrailer: x-sum\r\n|Transfer-Encoding: chunked\r\n\r\n4\r\nbody\r\n0\r\nx-sum: 1\r\n\r\n",
		},
		"crumbs of a cookie are one": {
			request{"GET", "/", []string{"cookie", "a=1", "x", "y", "cookie", "b=2"}, "", nil},
			"GET / HTTP/1.1\r\nHost: cart\r\ncookie: a=1; b=2\r\nx: y\r\n",
		},
		"TE is for one hop": {
			request{"GET", "/", []string{"te", "trailers"}, "", nil},
			"GET / HTTP/1.1\r\nHost: cart\r\nte: trailers\r\n|Connection: TE\r\n\r\n",
		},
		"fields of the mesh are not the caller's": {
			request{"GET", "/", []string{"heddle-undelivered", "1", "x_forwarded_client_cert", "forged"}, "", nil},
			"GET / HTTP/1.1\r\nHost: cart\r\n",
		},
	} {
		t.Run(name, func(t *testing.T) {
			head, rest, framed := strings.Cut(c.want, "|")
			want := head + identityField + rest
			switch {
			case !framed:
				want += "\r\n"
			case !strings.Contains(rest, "\r\n"):
				want = head + identityField + "\r\n" + rest
			}
			app, got := oneRequest(t, want[len(want)-16:], "HTTP/1.1 204 No Content\r\n\r\n")
			p := newPair(t, asHTTP, app, settings{})
			caller := caller2(t, p.at)
			r := c.request
			caller.ask(1, r.content == "" && r.trailer == nil, r.method, r.path, r.fields...)
			if r.content != "" {
				caller.framer.WriteData(1, r.trailer == nil, []byte(r.content))
			}
			if r.trailer != nil {
				caller.head(1, true, r.trailer...)
			}
			if f := caller.wantHead(); field(f, ":status") != "204" || !f.StreamEnded() {
				t.Errorf("answer %v", f)
			}
			if got := <-got; got != want {
				t.Errorf("got  %q\nwant %q", got, want)
			}
		})
	}
}

// What a caller of HTTP/2 gets of an answer of HTTP/1.1.
func TestAnswersOfHTTP1ToACallerOfHTTP2(t *testing.T) {
	for name, c := range map[string]struct {
		method, answer string
		want           []string // heads, content and trailers
	}{
		"without content": {"GET", "HTTP/1.1 204 No Content\r\nX: y\r\n\r\n", []string{":status 204, x y"}},
		"of known length": {
			"GET", "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nbody", []string{":status 200, content-length 4", "body"},
		},
		"of length 0": {"GET", "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", []string{":status 200, content-length 0"}},
		"to HEAD":     {"HEAD", "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\n", []string{":status 200, content-length 4"}},
		"in chunks": {
			"GET", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nbo\r\n2\r\ndy\r\n0\r\n\r\n", []string{":status 200", "body"},
		},
		"with a trailer": {
			"GET", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: X-Sum\r\n\r\n4\r\nbody\r\n0\r\nX-Sum: 1\r\n\r\n",
			[]string{":status 200, trailer X-Sum", "body", "x-sum 1"},
		},
		"to the connection's end": {"GET", "HTTP/1.1 200 OK\r\nConnection: close, X\r\nX: y\r\n\r\nbody", []string{":status 200", "body"}},
		"after interim ones": {
			"GET", "HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\nHTTP/1.1 204 No Content\r\n\r\n",
			[]string{":status 103, link </x>", ":status 204"},
		},
		"that breaks off":    {"POST", "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nbody", []string{":status 200, content-length 5", "body", "INTERNAL_ERROR"}},
		"that is no HTTP":    {"POST", "hello\r\n\r\n", []string{":status 502, heddle-reason upstream_failed"}},
		"with two lengths":   {"POST", "HTTP/1.1 200 OK\r\nContent-Length: 4\r\nContent-Length: 5\r\n\r\nbody", []string{":status 502, heddle-reason upstream_failed"}},
		"that nobody wanted": {"POST", "HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n", []string{":status 502, heddle-reason upstream_failed"}},
	} {
		t.Run(name, func(t *testing.T) {
			app, _ := oneRequest(t, "\r\n\r\n", c.answer)
			p := newPair(t, asHTTP, app, settings{})
			caller := caller2(t, p.at)
			caller.ask(1, true, c.method, "/")
			if got := caller.story(); !slices.Equal(got, c.want) {
				t.Errorf("got %q, want %q", got, c.want)
			}
		})
	}
}

// story returns what comes on a stream, to its end: of refusals no more than their reason.
func (p *peer2) story() (all []string) {
	p.Helper()
	content := -1
	for {
		switch f := p.next().(type) {
		case *http2.MetaHeadersFrame:
			var fields []string
			for _, h := range f.Fields {
				fields = append(fields, h.Name+" "+h.Value)
				if h.Name == "heddle-reason" {
					return append(all, strings.Join(fields, ", "))
				}
			}
			if all = append(all, strings.Join(fields, ", ")); f.StreamEnded() {
				return all
			}
		case *http2.DataFrame:
			if content < 0 && len(f.Data()) > 0 {
				content, all = len(all), append(all, "")
			}
			if content >= 0 {
				all[content] += string(f.Data())
			}
			if f.StreamEnded() {
				return all
			}
		case *http2.RSTStreamFrame:
			return append(all, f.ErrCode.String())
		default:
			p.Fatalf("got %v after %q", f, all)
		}
	}
}

// What an HTTP/2 server gets of a request of HTTP/1.1, and the caller of its answer.
func TestRequestsOfHTTP1ToAServerOfHTTP2(t *testing.T) {
	const cert = "x-forwarded-client-cert URI=spiffe://cluster.local/ns/shop/sa/web"
	for name, c := range map[string]struct {
		request string
		want    []string
		answer  func(p *peer2, stream uint32)
		wanted  string
	}{
		"a GET": {
			"GET /a?b HTTP/1.1\r\nHost: Cart\r\nX-Camel: Y\r\nConnection: X-Hop\r\nX-Hop: 1\r\n\r\n",
			[]string{":method GET, :scheme http, :path /a?b, :authority Cart, x-camel Y, " + cert},
			func(p *peer2, s uint32) { p.head(s, true, ":status", "204", "x", "y") },
			"HTTP/1.1 204 No Content\r\nx: y\r\n\r\n",
		},
		"content with a length": {
			"POST / HTTP/1.1\r\nHost: cart\r\nContent-Length: 4\r\n\r\nbody",
			[]string{":method POST, :scheme http, :path /, :authority cart, content-length 4, " + cert, "body"},
			func(p *peer2, s uint32) {
				p.head(s, false, ":status", "200", "content-length", "2")
				p.framer.WriteData(s, true, []byte("ok"))
			},
			"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok",
		},
		"chunks and trailers": {
			"POST / HTTP/1.1\r\nHost: cart\r\nTE: trailers\r\nConnection: te\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nbody\r\n0\r\nX-Sum: 1\r\n\r\n",
			[]string{":method POST, :scheme http, :path /, :authority cart, te trailers, " + cert, "body", "x-sum 1"},
			func(p *peer2, s uint32) {
				p.head(s, false, ":status", "200", "trailer", "x-sum")
				p.framer.WriteData(s, false, []byte("ok"))
				p.head(s, true, "x-sum", "2")
			},
			"HTTP/1.1 200 OK\r\ntrailer: x-sum\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\nx-sum: 2\r\n\r\n",
		},
		"a trailer that nobody announced, but the caller wants": {
			"GET / HTTP/1.1\r\nHost: cart\r\nTE: trailers\r\nConnection: te\r\n\r\n",
			[]string{":method GET, :scheme http, :path /, :authority cart, te trailers, " + cert},
			func(p *peer2, s uint32) {
				p.head(s, false, ":status", "200", "content-length", "2")
				p.framer.WriteData(s, false, []byte("ok"))
				p.head(s, true, "x-status", "0")
			},
			"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\nx-status: 0\r\n\r\n",
		},
		"an upgrade that HTTP/2 does not have": {
			"GET / HTTP/1.1\r\nHost: cart\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n",
			[]string{":method GET, :scheme http, :path /, :authority cart, " + cert},
			func(p *peer2, s uint32) { p.head(s, true, ":status", "426", "upgrade-insecure-requests", "1") },
			"HTTP/1.1 426 Upgrade Required\r\nupgrade-insecure-requests: 1\r\nContent-Length: 0\r\n\r\n",
		},
		"an upgrade to WebSocket with content": {
			"GET / HTTP/1.1\r\nHost: cart\r\nConnection: upgrade\r\nUpgrade: websocket\r\nContent-Length: 4\r\n\r\nbody",
			[]string{":method GET, :scheme http, :path /, :authority cart, content-length 4, " + cert, "body"},
			func(p *peer2, s uint32) { p.head(s, true, ":status", "204") },
			"HTTP/1.1 204 No Content\r\n\r\n",
		},
		"an interim answer": {
			"GET / HTTP/1.1\r\nHost: cart\r\n\r\n",
			[]string{":method GET, :scheme http, :path /, :authority cart, " + cert},
			func(p *peer2, s uint32) {
				p.head(s, false, ":status", "103", "link", "</x>")
				p.head(s, true, ":status", "204")
			},
			"HTTP/1.1 103 Early Hints\r\nlink: </x>\r\n\r\nHTTP/1.1 204 No Content\r\n\r\n",
		},
		"a server that refuses it": {
			"POST / HTTP/1.1\r\nHost: cart\r\nContent-Length: 0\r\n\r\n",
			[]string{":method POST, :scheme http, :path /, :authority cart, content-length 0, " + cert},
			func(p *peer2, s uint32) { p.framer.WriteRSTStream(s, http2.ErrCodeInternal) },
			"HTTP/1.1 502 Bad Gateway\r\nHeddle-Reason: upstream_failed\r\n",
		},
	} {
		t.Run(name, func(t *testing.T) {
			got := make(chan []string, 1)
			app := accept(t, func(conn net.Conn) {
				io.CopyN(io.Discard, conn, int64(len(http2.ClientPreface)))
				peer := newPeer2(t, conn)
				got <- peer.story()
				c.answer(peer, 1)
				peer.next()
			})
			p := newPair(t, asHTTP2, app, settings{})
			conn := dial(t, p.client, p.at.String())
			io.WriteString(conn, c.request)
			if got := <-got; !slices.Equal(got, c.want) {
				t.Errorf("the server got %q, want %q", got, c.want)
			}
			buf := make([]byte, len(c.wanted))
			n, err := io.ReadFull(conn, buf)
			if err != nil || string(buf[:n]) != c.wanted {
				t.Errorf("the caller got %q, want %q, %v", buf[:n], c.wanted, err)
			}
		})
	}
}

// Servers without a proxy of their own are translated for by the caller's.
func TestTheCallersProxyTranslatesForServersOutsideTheMesh(t *testing.T) {
	bothVersions(t, func(t *testing.T, v versions) {
		t.Helper()
		app := httpApp(t, func(w http.ResponseWriter, r *http.Request) { fmt.Fprint(w, r.ProtoMajor) })
		p := newPair(t, v.declared, app, settings{})
		p.client.endpoints(cart, identity.ID{}, app)
		want := map[bool]string{true: "2", false: "1"}[v.declared == asHTTP2]
		if got := (call{}).status(t, clientOf(t, p.at, v.http2), 200); got != want {
			t.Errorf("the server was spoken to in HTTP/%s", got)
		}
		p.client.service(undeclared, nil, 1)
		want = map[bool]string{true: "2", false: "1"}[v.http2]
		if got := (call{}).status(t, clientOf(t, p.at, v.http2), 200); got != want {
			t.Errorf("undeclared: the server was spoken to in HTTP/%s", got)
		}
	})
}

// A route's timeout counts while a request of HTTP/1.1 waits for a connection of HTTP/2.
func TestATranslatedRequestDoesNotWaitForItsConnectionBeyondTheTimeout(t *testing.T) {
	silent := accept(t, func(c net.Conn) { io.Copy(io.Discard, c) })
	p := newPair(t, asHTTP2, silent, settings{upstream: upstream.Options{ConnectTimeout: time.Minute}})
	p.client.endpoints(cart, identity.ID{}, silent)
	p.client.service(asHTTP2, notBriefly, 1)
	conn := dial(t, p.client, p.at.String())
	conn.SetDeadline(time.Now().Add(10 * time.Second))
	reader := bufio.NewReader(conn)
	for _, content := range []string{"", "body"} {
		fmt.Fprintf(conn, "PUT / HTTP/1.1\r\nHost: cart\r\nContent-Length: %d\r\n\r\n%s", len(content), content)
		answer, err := http.ReadResponse(reader, nil)
		if err != nil || answer.Header.Get(refusal.Header) != string(refusal.Timeout) {
			t.Fatalf("got %v, %v", answer, err)
		}
		io.Copy(io.Discard, answer.Body)
	}
}

// There is no gRPC over HTTP/1.1, whatever is declared.
func TestGRPCIsNotTranslated(t *testing.T) {
	p := newPair(t, asHTTP, httpApp(t, func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprint(w, r.ProtoMajor)
	}), settings{})
	caller := caller2(t, p.at)
	caller.ask(1, true, "POST", "/a.B/C", "content-type", "application/grpc+proto", "te", "trailers")
	caller.wantHead()
	if got := caller.wantRest(); got != "2" {
		t.Errorf("the server was spoken to in HTTP/%s", got)
	}
	caller.ask(3, true, "POST", "/a.B/C")
	caller.wantHead()
	if got := caller.wantRest(); got != "1" {
		t.Errorf("what is not gRPC came in HTTP/%s", got)
	}
}

// What is called http may speak either version, so the caller's is kept.
func TestAPortThatIsHTTPIsSpokenToAsTheCallerSpeaks(t *testing.T) {
	anyVersion := meshconfig.Protocol_PROTOCOL_HTTP
	app := httpApp(t, func(w http.ResponseWriter, r *http.Request) { fmt.Fprint(w, r.ProtoMajor) })
	p := newPair(t, anyVersion, app, settings{})
	for _, through := range []string{"both proxies", "the caller's proxy alone"} {
		for http2, want := range map[bool]string{false: "1", true: "2"} {
			if got := (call{}).status(t, clientOf(t, p.at, http2), 200); got != want {
				t.Errorf("through %s, HTTP/%s arrives as HTTP/%s", through, want, got)
			}
		}
		if r := raw(t, p, "SSH-2.0-x\r\n\r\n"); r.StatusCode != http.StatusBadRequest {
			t.Errorf("through %s, what is no HTTP is answered %d", through, r.StatusCode)
		}
		p.client.endpoints(cart, identity.ID{}, app)
	}
	for protocol, want := range map[meshconfig.Protocol]string{
		anyVersion: "http/1.1", asHTTP: "http/1.1", undeclared: "http/1.1", asHTTP2: "h2", meshconfig.Protocol_PROTOCOL_GRPC: "h2",
	} {
		p.server.policyOf(&meshconfig.PortPolicy{Mtls: strict, DefaultAction: allow, Protocol: protocol})
		conn := tls.Client(dial(t, p.server, p.inside.String()), &tls.Config{
			InsecureSkipVerify: true, NextProtos: []string{"h2", "http/1.1"}, MinVersion: tls.VersionTLS13, //nolint:gosec // the server is not under test
			Certificates: []tls.Certificate{*p.ca.Issue(t, web, time.Now().Add(time.Hour))},
		})
		if err := conn.HandshakeContext(t.Context()); err != nil {
			t.Fatal(err)
		}
		if got := conn.ConnectionState().NegotiatedProtocol; got != want {
			t.Errorf("%v: a caller of either version gets %s, want %s", protocol, got, want)
		}
	}
}
