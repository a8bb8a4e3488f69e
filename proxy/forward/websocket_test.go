// SPDX-License-Identifier: Apache-2.0

package forward_test

import (
	"bufio"
	"crypto/sha1"
	"encoding/base64"
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
	"github.com/heddle-mesh/heddle/internal/limits"
	"github.com/heddle-mesh/heddle/internal/meshconfig"
	"github.com/heddle-mesh/heddle/proxy/observe"
	"github.com/heddle-mesh/heddle/proxy/refusal"
	"github.com/heddle-mesh/heddle/proxy/upstream"
)

// acceptOf answers a key as RFC 6455, section 4.2.2 asks.
func acceptOf(key string) string {
	sum := sha1.Sum([]byte(key + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"))
	return base64.StdEncoding.EncodeToString(sum[:])
}

// echo1 is a WebSocket server of HTTP/1.1, as far as a proxy sees one: it says hello, echoes bytes, and says bye.
func echo1(t *testing.T, accepts func(key string) string) netip.AddrPort {
	t.Helper()
	return accept(t, func(c net.Conn) {
		reader := bufio.NewReader(c)
		r, err := http.ReadRequest(reader)
		if err != nil {
			return
		}
		if r.Method != http.MethodGet || r.Header.Get("Upgrade") != "websocket" || r.Header.Get("Sec-Websocket-Version") != "13" {
			fmt.Fprintf(c, "HTTP/1.1 426 Upgrade Required\r\nContent-Length: 0\r\n\r\n")
			return
		}
		fmt.Fprintf(c, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Accept: %s\r\n\r\nhello ",
			accepts(r.Header.Get("Sec-Websocket-Key")))
		io.Copy(c, reader)
		io.WriteString(c, "bye")
		c.(interface{ CloseWrite() error }).CloseWrite()
		io.Copy(io.Discard, c)
	})
}

// echo2 is one of HTTP/2 (RFC 8441), if it offers that.
func echo2(t *testing.T, offers bool) netip.AddrPort {
	t.Helper()
	var settings []http2.Setting
	if offers {
		settings = append(settings, http2.Setting{ID: http2.SettingEnableConnectProtocol, Val: 1})
	}
	return app2(t, func(p *peer2, f http2.Frame) {
		switch f := f.(type) {
		case *http2.MetaHeadersFrame:
			if field(f, ":method") != http.MethodConnect || field(f, ":protocol") != "websocket" || field(f, ":path") != "/chat" ||
				field(f, "sec-websocket-version") != "13" || field(f, "sec-websocket-key") != "" {
				p.head(f.StreamID, true, ":status", "426")
				return
			}
			p.head(f.StreamID, false, ":status", "200")
			p.framer.WriteData(f.StreamID, false, []byte("hello "))
		case *http2.DataFrame:
			p.framer.WriteData(f.StreamID, false, f.Data())
			if f.StreamEnded() {
				p.framer.WriteData(f.StreamID, true, []byte("bye"))
			}
		}
	}, settings...)
}

// notBriefly gives all requests a timeout, which is not for what upgrades.
func notBriefly(port *meshconfig.ServicePort) {
	port.Routes = []*meshconfig.Route{{Name: "all", RequestTimeout: 50}}
}

func TestWebSocketOverHTTP2(t *testing.T) {
	for name, c := range map[string]struct {
		app      func(*testing.T) netip.AddrPort
		declared meshconfig.Protocol
	}{
		"to a server of HTTP/2":   {func(t *testing.T) netip.AddrPort { t.Helper(); return echo2(t, true) }, asHTTP2},
		"to a server of HTTP/1.1": {func(t *testing.T) netip.AddrPort { t.Helper(); return echo1(t, acceptOf) }, asHTTP},
	} {
		t.Run(name, func(t *testing.T) {
			p := newPair(t, c.declared, c.app(t), settings{})
			p.client.service(c.declared, notBriefly, 1)
			caller := caller2(t, p.at)
			for stream := uint32(1); stream < 6; stream += 2 {
				caller.ask(stream, false, "CONNECT", "/chat", ":protocol", "websocket", "sec-websocket-version", "13")
				f := caller.wantHead()
				if field(f, ":status") != "200" || field(f, "sec-websocket-accept") != "" || field(f, "upgrade") != "" {
					t.Fatalf("answer %v", f.Fields)
				}
				got := caller.wantData(6)
				for _, word := range []string{"early ", strings.Repeat("much ", 4000)} {
					for rest := word; rest != ""; {
						n := min(len(rest), 10_000)
						caller.framer.WriteData(stream, false, []byte(rest[:n]))
						got += caller.wantData(n)
						rest = rest[n:]
					}
				}
				caller.framer.WriteData(stream, true, []byte("late "))
				got += caller.wantRest()
				if want := "hello early " + strings.Repeat("much ", 4000) + "late bye"; got != want {
					t.Errorf("got %d bytes, want %d", len(got), len(want))
				}
			}
			for _, at := range []*proxy{p.client, p.server} {
				at.events.wait(t, "of the tunnel", func(e observe.Event) bool {
					return e.Method == http.MethodConnect && e.Path == "/chat" && e.Reason == refusal.None && e.BytesIn == 20011 && e.BytesOut == 20020
				})
			}
		})
	}
}

func TestTheHostOfAWebSocketOverHTTP2IsRewritten(t *testing.T) {
	p := newPair(t, asHTTP2, app2(t, func(p *peer2, f http2.Frame) {
		if f, ok := f.(*http2.MetaHeadersFrame); ok {
			p.head(f.StreamID, false, ":status", "200", "x-host", field(f, ":authority"), "x-path", field(f, ":path"))
		}
	}, http2.Setting{ID: http2.SettingEnableConnectProtocol, Val: 1}), settings{})
	p.client.route(asHTTP2, &meshconfig.Route{Filters: &meshconfig.Filters{
		RewriteHost: "new.shop", RewritePath: &meshconfig.PathRewrite{Value: "/new"},
	}})
	caller := caller2(t, p.at)
	caller.ask(1, false, "CONNECT", "/chat", ":protocol", "websocket", "sec-websocket-version", "13")
	if f := caller.wantHead(); field(f, "x-host") != "new.shop" || field(f, "x-path") != "/new" {
		t.Errorf("the application saw %v", f.Fields)
	}
}

func TestWebSocketToAServerOfHTTP2(t *testing.T) {
	const request = "GET /chat HTTP/1.1\r\nHost: cart\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n" +
		"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
	p := newPair(t, asHTTP2, echo2(t, true), settings{})
	p.client.service(asHTTP2, notBriefly, 1)
	conn := dial(t, p.client, p.at.String())
	io.WriteString(conn, request+"early ")
	reader := bufio.NewReader(conn)
	response, err := http.ReadResponse(reader, nil)
	if err != nil {
		t.Fatal(err)
	}
	if h := response.Header; response.StatusCode != http.StatusSwitchingProtocols || h.Get("Upgrade") != "websocket" ||
		h.Get("Connection") != "Upgrade" || h.Get("Sec-WebSocket-Accept") != "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=" {
		t.Fatalf("status %d, header %v", response.StatusCode, h)
	}
	word := strings.Repeat("much ", 10_000) // the server does not look at windows
	go func() {
		io.WriteString(conn, word)
		conn.CloseWrite()
	}()
	got, err := io.ReadAll(reader)
	if len(got) != len("hello early "+word+"bye") || err != nil {
		t.Errorf("got %d bytes, %v", len(got), err)
	}

	// A server that does not offer it is asked without the upgrade.
	plain := newPair(t, asHTTP2, echo2(t, false), settings{})
	if answer := raw(t, plain, request); answer.StatusCode != http.StatusUpgradeRequired {
		t.Errorf("status %d", answer.StatusCode)
	}
	caller := caller2(t, plain.at)
	caller.ask(1, false, "CONNECT", "/chat", ":protocol", "websocket", "sec-websocket-version", "13")
	if f := caller.wantHead(); field(f, ":status") != "502" || field(f, "heddle-reason") != "upstream_failed" {
		t.Errorf("answer %v", f.Fields)
	}
}

func TestAWebSocketHandshakeThatIsWrong(t *testing.T) {
	p := newPair(t, asHTTP, echo1(t, func(string) string { return acceptOf("another key") }), settings{})
	caller := caller2(t, p.at)
	caller.ask(1, false, "CONNECT", "/chat", ":protocol", "websocket", "sec-websocket-version", "13")
	if f := caller.wantHead(); field(f, ":status") != "502" || field(f, "heddle-reason") != "upstream_failed" {
		t.Errorf("answer %v", f.Fields)
	}
}

func TestCONNECTOverHTTP2(t *testing.T) {
	http1 := func(t *testing.T) netip.AddrPort {
		t.Helper()
		return accept(t, func(c net.Conn) {
			reader := bufio.NewReader(c)
			if r, err := http.ReadRequest(reader); err != nil || r.Method != http.MethodConnect || r.RequestURI != "cart:80" {
				return
			}
			io.WriteString(c, "HTTP/1.1 200 OK\r\n\r\nhello ")
			io.Copy(c, reader)
			io.WriteString(c, "bye")
			c.(interface{ CloseWrite() error }).CloseWrite()
			io.Copy(io.Discard, c)
		})
	}
	http2App := func(t *testing.T) netip.AddrPort {
		t.Helper()
		return app2(t, func(p *peer2, f http2.Frame) {
			switch f := f.(type) {
			case *http2.MetaHeadersFrame:
				if field(f, ":method") != http.MethodConnect || field(f, ":authority") != "cart:80" || field(f, ":path") != "" {
					p.head(f.StreamID, true, ":status", "400")
					return
				}
				p.head(f.StreamID, false, ":status", "200")
				p.framer.WriteData(f.StreamID, false, []byte("hello "))
			case *http2.DataFrame:
				p.framer.WriteData(f.StreamID, false, f.Data())
				if f.StreamEnded() {
					p.framer.WriteData(f.StreamID, true, []byte("bye"))
				}
			}
		})
	}
	for declared, app := range map[meshconfig.Protocol]func(*testing.T) netip.AddrPort{asHTTP: http1, asHTTP2: http2App} {
		t.Run(declared.String(), func(t *testing.T) {
			p := newPair(t, declared, app(t), settings{})
			caller := caller2(t, p.at)
			caller.head(1, false, ":method", "CONNECT", ":authority", "cart:80")
			if f := caller.wantHead(); field(f, ":status") != "200" {
				t.Fatalf("answer %v", f.Fields)
			}
			got := caller.wantData(6)
			caller.framer.WriteData(1, true, []byte("word "))
			if got += caller.wantRest(); got != "hello word bye" {
				t.Errorf("over HTTP/2: %q", got)
			}
			conn := dial(t, p.client, p.at.String())
			io.WriteString(conn, "CONNECT cart:80 HTTP/1.1\r\nHost: cart:80\r\n\r\n")
			reader := bufio.NewReader(conn)
			response, err := http.ReadResponse(reader, &http.Request{Method: http.MethodConnect})
			if err != nil || response.StatusCode != http.StatusOK {
				t.Fatalf("answer %v, %v", response, err)
			}
			io.WriteString(conn, "word ")
			conn.CloseWrite()
			if got, err := io.ReadAll(reader); string(got) != "hello word bye" {
				t.Errorf("over HTTP/1.1: %q, %v", got, err)
			}
		})
	}
}

// chat2 opens a WebSocket over HTTP/2 to a server that says hello.
func chat2(t *testing.T, p *pair) *peer2 {
	t.Helper()
	caller := caller2(t, p.at)
	caller.conn.SetDeadline(time.Now().Add(10 * time.Second))
	caller.ask(1, false, "CONNECT", "/chat", ":protocol", "websocket", "sec-websocket-version", "13")
	if f := caller.wantHead(); field(f, ":status") != "200" {
		t.Fatalf("answer %v", f.Fields)
	}
	if got := caller.wantData(6); got != "hello " {
		t.Fatalf("got %q", got)
	}
	return caller
}

func TestATranslatedTunnelOutlivesTheTimeThatSendingAMessageMayTake(t *testing.T) {
	const idle = 100 * time.Millisecond
	app := echo1(t, acceptOf)
	p := newPair(t, asHTTP, app, settings{upstream: upstream.Options{Limits: limits.Set{SendIdle: idle}}})
	p.client.endpoints(cart, identity.ID{}, app)
	caller := chat2(t, p)
	begun := time.Now()
	eventually(t, "the time has passed", func() bool { return time.Since(begun) > 2*idle })
	caller.framer.WriteData(1, false, []byte("late"))
	if got := caller.wantData(4); got != "late" {
		t.Errorf("got %q", got)
	}
}

func TestATranslatedTunnelEndsWhenItsServerIsGone(t *testing.T) {
	for name, half := range map[string]bool{
		"in the middle":                     false,
		"after the server's side has ended": true,
	} {
		t.Run(name, func(t *testing.T) {
			gone := make(chan struct{})
			p := newPair(t, asHTTP, rawApp(t, func(c net.Conn, in *bufio.Reader) {
				r, err := http.ReadRequest(in)
				if err != nil {
					return
				}
				fmt.Fprintf(c, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Accept: %s\r\n\r\nhello ",
					acceptOf(r.Header.Get("Sec-Websocket-Key")))
				tcp, _ := c.(*net.TCPConn)
				if half {
					tcp.CloseWrite()
				}
				io.ReadFull(in, make([]byte, 4))
				tcp.SetLinger(0)
				tcp.Close()
				close(gone)
			}), settings{})
			caller := chat2(t, p)
			if half {
				caller.wantRest()
			}
			caller.framer.WriteData(1, false, []byte("word"))
			<-gone
			caller.framer.WriteData(1, false, []byte("lost"))
			caller.wantReset()
		})
	}
}

// A tunnel that one side has ended is given up when the other says nothing, as a TCP connection is.
func TestAHalfClosedTunnelOverHTTP2IsGivenUp(t *testing.T) {
	for name, c := range map[string]struct {
		declared meshconfig.Protocol
		ended    bool // by the server, otherwise by the caller
	}{
		"to a server of HTTP/1.1": {asHTTP, false}, "to a server of HTTP/2": {asHTTP2, false}, "that the server has ended": {asHTTP2, true},
	} {
		t.Run(name, func(t *testing.T) {
			app := app2(t, func(p *peer2, f http2.Frame) {
				if h, ok := f.(*http2.MetaHeadersFrame); ok {
					p.head(h.StreamID, false, ":status", "200")
					p.framer.WriteData(h.StreamID, c.ended, []byte("hello "))
				}
			}, http2.Setting{ID: http2.SettingEnableConnectProtocol, Val: 1})
			if c.declared == asHTTP {
				app = rawApp(t, func(c net.Conn, in *bufio.Reader) {
					if r, err := http.ReadRequest(in); err == nil {
						fmt.Fprintf(c, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Accept: %s\r\n\r\nhello ",
							acceptOf(r.Header.Get("Sec-Websocket-Key")))
						<-t.Context().Done()
					}
				})
			}
			p := newPair(t, c.declared, app, settings{limits: limits.Set{HalfClosed: 50 * time.Millisecond}})
			caller := caller2(t, p.at)
			caller.conn.SetDeadline(time.Now().Add(10 * time.Second))
			caller.ask(1, false, "CONNECT", "/chat", ":protocol", "websocket", "sec-websocket-version", "13")
			caller.wantHead()
			if c.ended {
				caller.wantRest()
			} else {
				caller.wantData(6)
				caller.framer.WriteData(1, true, nil)
			}
			caller.wantReset()
			gaveUp := func(e observe.Event) bool { return e.Path == "/chat" && e.Err != nil }
			eventually(t, "one of the proxies gives up", func() bool { // the other sees the end of the stream then
				return slices.ContainsFunc(p.client.events.All(), gaveUp) || slices.ContainsFunc(p.server.events.All(), gaveUp)
			})
			eventually(t, "nothing is carried", func() bool { return p.client.server.Active() == 0 && p.server.server.Active() == 0 })
		})
	}
}

// Of what an extended CONNECT can be for, HTTP/1.1 has a handshake for WebSocket alone.
func TestAnExtendedConnectOfAnotherProtocolIsNotMadeAnUpgrade(t *testing.T) {
	p := newPair(t, asHTTP, httpApp(t, func(http.ResponseWriter, *http.Request) { t.Error("the application was asked") }), settings{})
	caller := caller2(t, p.at)
	caller.ask(1, false, "CONNECT", "/", ":protocol", "connect-udp")
	if f := caller.wantHead(); field(f, ":status") != "501" || field(f, "heddle-reason") != "bad_request" {
		t.Errorf("answer %v", f.Fields)
	}
}
