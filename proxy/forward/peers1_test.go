// SPDX-License-Identifier: Apache-2.0

package forward_test

import (
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/heddle-mesh/heddle/internal/limits"
	"github.com/heddle-mesh/heddle/proxy/refusal"
)

const (
	post1 = "POST / HTTP/1.1\r\nHost: cart\r\nContent-Length: 20\r\n\r\n"
	half1 = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n"
)

// large is content that no window holds.
var large = strings.Repeat("0123456789abcdef", 16<<10)

// sayLarge answers with it.
func (p *peer1) sayLarge() error {
	return p.say("HTTP/1.1 200 OK\r\nContent-Length: 262144\r\n\r\n" + large)
}

func TestCallersThatAreSlowOrLeaveOnHTTP1(t *testing.T) {
	meet(t, asHTTP, map[string]meeting{
		"its head comes byte by byte, too slowly": {
			play: func(m *met) {
				c := m.caller1()
				c.say("GET /")
				m.meanwhile(func() { c.sayEach(" HTTP/1.1\r\nHost: cart\r\n\r\n", time.Second) })
				c.refused(http.StatusRequestTimeout, "header-time", true)
			},
			took: 10 * time.Second, events: []seen{{408, 0, refusal.BadRequest}}, exceeded: []limits.Name{limits.HeaderTime},
		},
		"even its method does": { // the head's time begins when it is known to be one, after "GET /"
			play: func(m *met) {
				c := m.caller1()
				m.meanwhile(func() { c.sayEach(get1, time.Second) })
				c.refused(http.StatusRequestTimeout, "header-time", true)
			},
			took: 14 * time.Second, events: []seen{{408, 0, refusal.BadRequest}}, exceeded: []limits.Name{limits.HeaderTime},
		},
		"its second head comes byte by byte, too slowly": {
			play: func(m *met) {
				m.serve(func(e *peer1) { e.asked("GET"); e.say(ok1) })
				c := m.caller1()
				c.say(get1)
				c.served("ok")
				m.meanwhile(func() { c.sayEach(get1, time.Second) })
				c.refused(http.StatusRequestTimeout, "header-time", true)
			},
			took: 10 * time.Second, events: []seen{{200, 1, refusal.None}, {408, 0, refusal.BadRequest}},
			exceeded: []limits.Name{limits.HeaderTime}, kept: 1,
		},
		"its head comes byte by byte, in time": {
			play: func(m *met) {
				m.serve(func(e *peer1) { e.asked("GET"); e.say(ok1) })
				c := m.caller1()
				c.sayEach(get1, 250*time.Millisecond)
				c.served("ok")
			},
			took: time.Duration(len(get1)-1) * 250 * time.Millisecond, events: []seen{{200, 1, refusal.None}}, kept: 1,
		},
		"it stops in mid-content": {
			play: func(m *met) {
				m.serve(func(e *peer1) {
					http.ReadRequest(e.in)
					io.ReadFull(e.in, make([]byte, 5))
					e.ended(io.EOF)
				})
				c := m.caller1()
				c.say(post1 + "01234")
				c.refused(http.StatusRequestTimeout, "body-idle", true)
			},
			took: time.Minute, events: []seen{{408, 1, refusal.BadRequest}}, exceeded: []limits.Name{limits.BodyIdle},
		},
		"its content comes byte by byte, each in time": {
			play: func(m *met) {
				m.serve(func(e *peer1) {
					if got := e.asked("POST"); got != "0123456789abcdefghij" {
						m.Errorf("the endpoint got %q", got)
					}
					e.say(ok1)
				})
				c := m.caller1()
				c.say(post1)
				m.pass(50 * time.Second)
				c.sayEach("0123456789abcdefghij", 50*time.Second)
				c.served("ok")
			},
			took: 20 * 50 * time.Second, events: []seen{{200, 1, refusal.None}}, kept: 1,
		},
		"it stops reading the answer": {
			play: func(m *met) {
				gone := make(chan error, 1)
				m.serve(func(e *peer1) { e.asked("GET"); gone <- e.sayLarge() })
				m.caller1().say(get1)
				if <-gone == nil {
					m.Error("the endpoint could send all")
				}
			},
			took: 5 * time.Minute, events: []seen{{200, 1, refusal.CallerGone}}, exceeded: []limits.Name{limits.SendIdle},
		},
		"it reads the answer slowly but steadily": {
			play: func(m *met) {
				m.serve(func(e *peer1) { e.asked("GET"); e.sayLarge() })
				c := m.caller1()
				c.say(get1)
				r, err := http.ReadResponse(c.in, nil)
				if err != nil {
					m.Fatal(err)
				}
				for range 256 {
					m.pass(2 * time.Second)
					io.CopyN(io.Discard, r.Body, 1<<10)
				}
			},
			took: 512 * time.Second, events: []seen{{200, 1, refusal.None}}, kept: 1,
		},
		"it reads the answer so slowly that a piece takes longer than send-idle": {
			play: func(m *met) {
				gone := make(chan error, 1)
				m.serve(func(e *peer1) { e.asked("GET"); gone <- e.sayLarge() })
				c := m.caller1()
				c.say(get1)
				m.meanwhile(func() {
					r, err := http.ReadResponse(c.in, nil)
					for err == nil {
						m.pass(time.Minute)
						_, err = io.CopyN(io.Discard, r.Body, 1<<10)
					}
				})
				if <-gone == nil {
					m.Error("the endpoint could send all")
				}
			},
			took: 5 * time.Minute, events: []seen{{200, 1, refusal.CallerGone}}, exceeded: []limits.Name{limits.SendIdle},
		},
		"it resets its connection in mid-request": {
			play: func(m *met) {
				c := m.caller1()
				c.say(post1 + "01234")
				e := m.endpoint1()
				http.ReadRequest(e.in)
				io.ReadFull(e.in, make([]byte, 5))
				m.pass(time.Second)
				c.conn.Reset()
				e.ended(io.EOF)
			},
			took: time.Second, events: []seen{{499, 1, refusal.CallerGone}},
		},
		"it resets its connection in mid-answer": {
			play: func(m *met) {
				c := m.caller1()
				c.say(get1)
				e := m.endpoint1()
				e.asked("GET")
				e.say(half1)
				m.pass(time.Second)
				c.conn.Reset()
				e.ended(io.EOF)
			},
			took: time.Second, events: []seen{{200, 1, refusal.CallerGone}},
		},
		"it closes its connection between requests": {
			play: func(m *met) {
				m.serve(func(e *peer1) { e.asked("GET"); e.say(ok1) })
				c := m.caller1()
				c.say(get1)
				c.served("ok")
				m.pass(time.Minute)
				c.conn.Close()
			},
			took: time.Minute, events: []seen{{200, 1, refusal.None}}, kept: 1,
		},
		"it says nothing between requests": {
			play: func(m *met) {
				m.serve(func(e *peer1) { e.asked("GET"); e.say(ok1) })
				c := m.caller1()
				c.say(get1)
				c.served("ok")
				c.ended(io.EOF)
			},
			took: 10 * time.Minute, events: []seen{{200, 1, refusal.None}}, exceeded: []limits.Name{limits.Idle}, kept: 1,
		},
	})
}

func TestEndpointsThatAreSlowOrLeaveOnHTTP1(t *testing.T) {
	meet(t, asHTTP, map[string]meeting{
		"it never answers, and the route has a timeout": {
			timeout: 30 * time.Second,
			play: func(m *met) {
				c := m.caller1()
				c.say(get1)
				e := m.endpoint1()
				e.asked("GET")
				c.refused(http.StatusGatewayTimeout, "route all", false)
				e.ended(io.EOF)
			},
			took: 30 * time.Second, events: []seen{{504, 1, refusal.Timeout}},
		},
		"it never answers, until the caller leaves": {
			play: func(m *met) {
				c := m.caller1()
				c.say(get1)
				e := m.endpoint1()
				e.asked("GET")
				time.AfterFunc(2*time.Hour, func() { c.conn.Close() })
				e.ended(io.EOF)
			},
			took: 2 * time.Hour, events: []seen{{499, 1, refusal.CallerGone}},
		},
		"it reads the request slowly but steadily": {
			play: func(m *met) {
				m.serve(func(e *peer1) {
					r, err := http.ReadRequest(e.in)
					if err != nil {
						m.Error(err)
						return
					}
					for range 256 {
						m.pass(2 * time.Second)
						io.CopyN(io.Discard, r.Body, 1<<10)
					}
					e.say(ok1)
				})
				c := m.caller1()
				c.say("POST / HTTP/1.1\r\nHost: cart\r\nContent-Length: 262144\r\n\r\n" + large)
				c.served("ok")
			},
			took: 512 * time.Second, events: []seen{{200, 1, refusal.None}}, kept: 1,
		},
		"it stops reading the request": {
			play: func(m *met) {
				c := m.caller1()
				m.meanwhile(func() { c.say("POST / HTTP/1.1\r\nHost: cart\r\nContent-Length: 262144\r\n\r\n" + large) })
				http.ReadRequest(m.endpoint1().in)
				c.refused(http.StatusBadGateway, "upstream_failed", true)
			},
			took: 5 * time.Minute, events: []seen{{502, 1, refusal.UpstreamFailed}}, exceeded: []limits.Name{limits.SendIdle},
		},
		"it stops reading the request, and answers meanwhile": {
			play: func(m *met) {
				m.serve(func(e *peer1) { http.ReadRequest(e.in); e.say(half1) })
				c := m.caller1()
				m.meanwhile(func() { c.say("POST / HTTP/1.1\r\nHost: cart\r\nContent-Length: 262144\r\n\r\n" + large) })
				c.cutShort("half")
			},
			took: 5 * time.Minute, events: []seen{{200, 1, refusal.UpstreamFailed}}, exceeded: []limits.Name{limits.SendIdle},
		},
		"it stops in mid-answer, and the route has a timeout": {
			timeout: 30 * time.Second,
			play: func(m *met) {
				m.serve(func(e *peer1) { e.asked("GET"); e.say(half1); e.ended(io.EOF) })
				c := m.caller1()
				c.say(get1)
				c.cutShort("half")
			},
			took: 30 * time.Second, events: []seen{{200, 1, refusal.Timeout}},
		},
		"it stops in mid-answer, until the caller leaves": {
			play: func(m *met) {
				c := m.caller1()
				c.say(get1)
				e := m.endpoint1()
				e.asked("GET")
				e.say(half1)
				time.AfterFunc(2*time.Hour, func() { c.conn.Close() })
				e.ended(io.EOF)
			},
			took: 2 * time.Hour, events: []seen{{200, 1, refusal.CallerGone}},
		},
		"the head of its answer comes byte by byte, too slowly": {
			play: func(m *met) {
				m.serve(func(e *peer1) { e.asked("POST"); e.sayEach(ok1, time.Second) })
				c := m.caller1()
				c.say(post1 + "0123456789abcdefghij")
				c.refused(http.StatusBadGateway, "upstream_failed", false)
			},
			// Its time begins anew when the proxy has looked whether the caller is still there.
			took: 10*time.Second + 164*time.Millisecond, events: []seen{{502, 1, refusal.UpstreamFailed}},
			exceeded: []limits.Name{limits.HeaderTime},
		},
		"its answer comes byte by byte, for hours": {
			play: func(m *met) {
				m.serve(func(e *peer1) {
					e.asked("GET")
					e.say("HTTP/1.1 200 OK\r\nContent-Length: 20\r\n\r\n0")
					m.pass(time.Hour)
					e.sayEach("123456789abcdefghij", time.Hour)
				})
				c := m.caller1()
				c.say(get1)
				c.served("0123456789abcdefghij")
			},
			took: 19 * time.Hour, events: []seen{{200, 1, refusal.None}}, kept: 1,
		},
		"it resets its connection in mid-answer": {
			play: func(m *met) {
				m.serve(func(e *peer1) { e.asked("GET"); e.say(half1); m.pass(time.Second); e.conn.Reset() })
				c := m.caller1()
				c.say(get1)
				c.cutShort("half")
			},
			took: time.Second, events: []seen{{200, 1, refusal.UpstreamFailed}},
		},
		"it closes between requests, before the next was written": {
			play: func(m *met) {
				c := m.caller1()
				c.say(get1)
				e := m.endpoint1()
				e.asked("GET")
				e.say(ok1)
				c.served("ok")
				e.conn.Close()
				m.pass(time.Minute)
				m.serve(func(e *peer1) { e.asked("POST"); e.say(ok1) })
				c.say(post1 + "0123456789abcdefghij")
				c.served("ok")
			},
			took: time.Minute, events: []seen{{200, 1, refusal.None}, {200, 1, refusal.None}}, kept: 1,
		},
		"it closes after the request was written, which may have been acted upon": {
			play: func(m *met) {
				m.serve(func(e *peer1) { e.asked("POST"); m.pass(time.Second); e.conn.Close() })
				c := m.caller1()
				c.say(post1 + "0123456789abcdefghij")
				c.refused(http.StatusBadGateway, "upstream_failed", false)
			},
			took: time.Second, events: []seen{{502, 1, refusal.UpstreamFailed}},
		},
		"it closes after the request was written, which is idempotent": {
			play: func(m *met) {
				c := m.caller1()
				c.say(get1)
				e := m.endpoint1()
				e.asked("GET")
				m.pass(time.Second)
				e.conn.Close()
				e = m.endpoint1()
				e.asked("GET")
				e.say(ok1)
				c.served("ok")
			},
			took: time.Second, events: []seen{{200, 2, refusal.None}}, kept: 1,
		},
	})
}
