// SPDX-License-Identifier: Apache-2.0

package forward_test

import (
	"io"
	"net/http"
	"testing"
	"time"

	"golang.org/x/net/http2"

	"github.com/heddle-mesh/heddle/internal/limits"
	"github.com/heddle-mesh/heddle/proxy/refusal"
)

// wantResetWith takes a reset of a stream with a code.
func (p *peer2) wantResetWith(code http2.ErrCode) {
	p.Helper()
	if got := p.wantReset(); got != code {
		p.Errorf("it was reset with %v, want %v", got, code)
	}
}

func TestPeersThatAreSlowOrLeaveFromHTTP2ToHTTP1(t *testing.T) {
	meet(t, asHTTP, map[string]meeting{
		"the endpoint stops reading the request": {
			play: func(m *met) {
				m.serve(func(e *peer1) { http.ReadRequest(e.in) })
				c := m.caller2()
				c.ask(1, false, "POST", "/")
				for range 4 { // more than the connection to the endpoint holds
					c.framer.WriteData(1, false, []byte(large[:12<<10]))
				}
				c.wantAnswer("502", "")
				c.wantResetWith(http2.ErrCodeNo)
			},
			took: 5 * time.Minute, events: []seen{{502, 1, refusal.UpstreamFailed}}, exceeded: []limits.Name{limits.SendIdle},
		},
		"the endpoint never answers, and the route has a timeout": {
			timeout: 30 * time.Second,
			play: func(m *met) {
				m.serve(func(e *peer1) { e.asked("GET"); e.ended(io.EOF) })
				c := m.caller2()
				c.ask(1, true, "GET", "/")
				c.wantAnswer("504", "")
			},
			took: 30 * time.Second, events: []seen{{504, 1, refusal.Timeout}},
		},
		"the endpoint resets its connection in mid-answer": {
			play: func(m *met) {
				m.serve(func(e *peer1) { e.asked("GET"); e.say(half1); m.pass(time.Second); e.conn.Reset() })
				c := m.caller2()
				c.ask(1, true, "GET", "/")
				c.wantHead()
				c.wantData(4)
				c.wantResetWith(http2.ErrCodeInternal)
			},
			took: time.Second, events: []seen{{200, 1, refusal.UpstreamFailed}},
		},
		"the endpoint closes between requests, before the next was written": {
			play: func(m *met) {
				c := m.caller2()
				c.ask(1, true, "GET", "/")
				e := m.endpoint1()
				e.asked("GET")
				e.say(ok1)
				c.wantAnswer("200", "ok")
				e.conn.Close()
				c.silent(time.Minute)
				m.serve(func(e *peer1) { e.asked("POST"); e.say(ok1) })
				c.ask(3, true, "POST", "/")
				c.wantAnswer("200", "ok")
			},
			took: time.Minute, events: []seen{{200, 1, refusal.None}, {200, 1, refusal.None}}, kept: 1,
		},
		"the caller gives the answer no window": {
			play: func(m *met) {
				gone := make(chan error, 1)
				m.serve(func(e *peer1) { e.asked("GET"); gone <- e.sayLarge() })
				c := m.caller2()
				c.ask(1, true, "GET", "/")
				for {
					f, err := c.framer.ReadFrame() // what next reads it gives back
					if err != nil {
						m.Fatal(err)
					}
					if f, ok := f.(*http2.PingFrame); ok {
						c.framer.WritePing(true, f.Data)
					}
					if f, ok := f.(*http2.RSTStreamFrame); ok {
						if f.ErrCode != http2.ErrCodeCancel {
							m.Errorf("it was reset with %v", f.ErrCode)
						}
						break
					}
				}
				if <-gone == nil {
					m.Error("the endpoint could send all")
				}
			},
			took: 5 * time.Minute, late: 5 * time.Second,
			events: []seen{{200, 1, refusal.CallerGone}}, exceeded: []limits.Name{limits.SendIdle},
		},
		"the caller resets its stream in mid-request": {
			play: func(m *met) {
				c := m.caller2()
				c.ask(1, false, "POST", "/")
				c.framer.WriteData(1, false, []byte("01234"))
				e := m.endpoint1()
				http.ReadRequest(e.in)
				m.pass(time.Second)
				c.framer.WriteRSTStream(1, http2.ErrCodeCancel)
				if _, err := io.ReadAll(e.in); err != nil {
					m.Errorf("the endpoint's connection ended with %v", err)
				}
			},
			took: time.Second, events: []seen{{499, 1, refusal.CallerGone}},
		},
	})
}

func TestPeersThatAreSlowOrLeaveFromHTTP1ToHTTP2(t *testing.T) {
	meet(t, asHTTP2, map[string]meeting{
		"the endpoint gives the request no window": {
			play: func(m *met) {
				m.serve2(func(e *peer2) {
					e.wantAsked("POST")
					for {
						if _, err := e.framer.ReadFrame(); err != nil {
							return
						}
					}
				}, http2.Setting{ID: http2.SettingInitialWindowSize, Val: 5})
				c := m.caller1()
				m.meanwhile(func() { c.say("POST / HTTP/1.1\r\nHost: cart\r\nContent-Length: 262144\r\n\r\n" + large) })
				c.refused(http.StatusBadGateway, "upstream_failed", true)
			},
			took: 5 * time.Minute, late: 5 * time.Second,
			events: []seen{{502, 1, refusal.UpstreamFailed}}, exceeded: []limits.Name{limits.SendIdle}, kept: 1,
		},
		"the endpoint never answers, and the route has a timeout": {
			timeout: 30 * time.Second,
			play: func(m *met) {
				m.serve2(func(e *peer2) { e.wantAsked("GET"); e.wantResetWith(http2.ErrCodeCancel) })
				c := m.caller1()
				c.say(get1)
				c.refused(http.StatusGatewayTimeout, "route all", false)
			},
			took: 30 * time.Second, events: []seen{{504, 1, refusal.Timeout}}, kept: 1,
		},
		"the endpoint resets its stream in mid-answer": {
			play: func(m *met) {
				m.serve2(func(e *peer2) {
					s := e.wantAsked("GET")
					e.head(s, false, ":status", "200")
					e.framer.WriteData(s, false, []byte("half"))
					m.pass(time.Second)
					e.framer.WriteRSTStream(s, http2.ErrCodeInternal)
				})
				c := m.caller1()
				c.say(get1)
				c.cutShort("half")
			},
			took: time.Second, events: []seen{{200, 1, refusal.UpstreamFailed}}, kept: 1,
		},
		"the caller resets its connection in mid-answer": {
			play: func(m *met) {
				c := m.caller1()
				c.say(get1)
				e := m.endpoint2()
				e.head(e.wantAsked("GET"), false, ":status", "200")
				m.pass(time.Second)
				c.conn.Reset()
				e.wantResetWith(http2.ErrCodeCancel)
			},
			took: time.Second, events: []seen{{200, 1, refusal.CallerGone}}, kept: 1,
		},
		"the caller stops in mid-content": {
			play: func(m *met) {
				m.serve2(func(e *peer2) {
					e.wantAsked("POST")
					e.wantData(5)
					e.wantResetWith(http2.ErrCodeCancel)
				})
				c := m.caller1()
				c.say(post1 + "01234")
				c.refused(http.StatusRequestTimeout, "body-idle", true)
			},
			took: time.Minute, events: []seen{{408, 1, refusal.BadRequest}}, exceeded: []limits.Name{limits.BodyIdle}, kept: 1,
		},
	})
}
