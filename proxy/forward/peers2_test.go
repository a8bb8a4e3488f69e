// SPDX-License-Identifier: Apache-2.0

package forward_test

import (
	"io"
	"testing"
	"time"

	"golang.org/x/net/http2"

	"github.com/heddle-mesh/heddle/internal/limits"
	"github.com/heddle-mesh/heddle/proxy/internal/testconn"
	"github.com/heddle-mesh/heddle/proxy/refusal"
)

func (m *met) caller2() *peer2 {
	io.WriteString(m.caller, http2.ClientPreface)
	return newPeer2(m.T, m.caller)
}

// endpoint2 is the endpoint on the next connection that the proxy makes.
func (m *met) endpoint2(settings ...http2.Setting) *peer2 {
	conn := <-m.endpoints
	io.CopyN(io.Discard, conn, int64(len(http2.ClientPreface)))
	return newPeer2(m.T, conn, settings...)
}

// serve2 has the endpoint do something meanwhile, on the next connection that the proxy makes. Then it acknowledges what
// comes, until the connection ends.
func (m *met) serve2(act func(e *peer2), settings ...http2.Setting) {
	m.meanwhile(func() {
		e := m.endpoint2(settings...)
		act(e)
		for e.next() != nil {
		}
	})
}

// wantAsked takes the head of a request and returns its stream.
func (p *peer2) wantAsked(method string) uint32 {
	p.Helper()
	f := p.next()
	h, ok := f.(*http2.MetaHeadersFrame)
	if !ok || h.PseudoValue("method") != method {
		p.Errorf("the endpoint got %v, want %s", f, method)
		return 1
	}
	return h.StreamID
}

// answer sends an answer that is whole.
func (p *peer2) answer(stream uint32, text string) {
	p.head(stream, false, ":status", "200")
	p.framer.WriteData(stream, true, []byte(text))
}

// wantAnswer takes an answer that is whole.
func (p *peer2) wantAnswer(status, text string) {
	p.Helper()
	if got := field(p.wantHead(), ":status"); got != status {
		p.Errorf("status %s, want %s", got, status)
	}
	if got := p.wantRest(); text != "" && got != text {
		p.Errorf("the answer is %q", got)
	}
}

// silent takes nothing of streams for a while, but answers PINGs.
func (p *peer2) silent(d time.Duration) {
	p.Helper()
	p.conn.SetReadDeadline(time.Now().Add(d))
	if f := p.next(); f != nil {
		p.Errorf("got %v, want nothing", f)
	}
	p.conn.SetReadDeadline(time.Time{})
}

// wantEnd waits for the end of the connection, with nothing before it.
func (p *peer2) wantEnd() {
	p.Helper()
	if f := p.next(); f != nil {
		p.Errorf("got %v, want the end", f)
	}
}

func TestCallersThatAreSlowOrLeaveOnHTTP2(t *testing.T) {
	meet(t, asHTTP2, map[string]meeting{
		"its head comes byte by byte, too slowly": {
			play: func(m *met) {
				c := m.caller2()
				m.meanwhile(func() {
					// A head of 60 bytes.
					for _, b := range append([]byte{0, 0, 60, 1, 4, 0, 0, 0, 1}, make([]byte, 60)...) {
						if _, err := m.caller.Write([]byte{b}); err != nil {
							return
						}
						m.pass(time.Second)
					}
				})
				for { // SETTINGS are not acknowledged in the midst of a frame
					f, err := c.framer.ReadFrame()
					if err != nil {
						m.Fatal(err)
					}
					if f, ok := f.(*http2.GoAwayFrame); ok {
						if f.ErrCode != http2.ErrCodeEnhanceYourCalm {
							m.Errorf("got %v", f)
						}
						break
					}
				}
			},
			took: 10 * time.Second, exceeded: []limits.Name{limits.HeaderTime},
		},
		"it stops in mid-content for hours, but answers PINGs": {
			play: func(m *met) {
				m.serve2(func(e *peer2) {
					s := e.wantAsked("POST")
					if got := e.wantRest(); got != "0123456789" {
						m.Errorf("the endpoint got %q", got)
					}
					e.answer(s, "ok")
				})
				c := m.caller2()
				c.ask(1, false, "POST", "/")
				c.framer.WriteData(1, false, []byte("01234"))
				c.silent(2 * time.Hour)
				c.framer.WriteData(1, true, []byte("56789"))
				c.wantAnswer("200", "ok")
			},
			took: 2 * time.Hour, events: []seen{{200, 1, refusal.None}}, kept: 1,
		},
		"it stops in mid-content and answers no PING": {
			play: func(m *met) {
				c := m.caller2()
				c.ask(1, false, "POST", "/")
				c.framer.WriteData(1, false, []byte("01234"))
				e := m.endpoint2()
				e.wantAsked("POST")
				e.wantData(5)
				e.wantResetWith(http2.ErrCodeCancel)
			},
			took: 50 * time.Second, events: []seen{{499, 1, refusal.CallerGone}}, kept: 1,
		},
		"its content comes byte by byte": {
			play: func(m *met) {
				m.serve2(func(e *peer2) {
					s := e.wantAsked("POST")
					if got := e.wantRest(); got != "0123456789" {
						m.Errorf("the endpoint got %q", got)
					}
					e.answer(s, "ok")
				})
				c := m.caller2()
				c.ask(1, false, "POST", "/")
				for i, b := range []byte("0123456789") {
					c.silent(10 * time.Minute)
					c.framer.WriteData(1, i == 9, []byte{b})
				}
				c.wantAnswer("200", "ok")
			},
			took: 100 * time.Minute, events: []seen{{200, 1, refusal.None}}, kept: 1,
		},
		"it gives the answer no window": {
			play: func(m *met) {
				m.serve2(func(e *peer2) {
					s := e.wantAsked("GET")
					e.head(s, false, ":status", "200")
					for range 6 { // more than a stream's window
						e.framer.WriteData(s, false, []byte(large[:1<<14]))
					}
					e.wantResetWith(http2.ErrCodeCancel)
				})
				c := m.caller2()
				c.framer.WriteWindowUpdate(0, 1<<30)
				c.ask(1, true, "GET", "/")
				got := 0
				for got < 65535 {
					f, err := c.framer.ReadFrame()
					if err != nil {
						m.Fatal(err)
					}
					if f, ok := f.(*http2.DataFrame); ok {
						got += len(f.Data())
					}
				}
				c.wantResetWith(http2.ErrCodeCancel)
			},
			took: 5 * time.Minute, late: 5 * time.Second, // a connection is looked at so often
			events: []seen{{200, 1, refusal.CallerGone}}, exceeded: []limits.Name{limits.SendIdle}, kept: 1,
		},
		"it takes nothing off its connection, though it goes on sending": {
			play: func(m *met) {
				gone := make(chan http2.ErrCode, 1)
				m.serve2(func(e *peer2) {
					s := e.wantAsked("GET")
					e.head(s, false, ":status", "200")
					for range 3 { // more than its connection holds
						e.framer.WriteData(s, false, []byte(large[:1<<14]))
					}
					gone <- e.wantReset()
				})
				c := m.caller2()
				c.ask(1, true, "GET", "/")
				m.meanwhile(func() {
					for c.framer.WriteWindowUpdate(1, 1) == nil {
						m.pass(20 * time.Second)
					}
				})
				if code := <-gone; code != http2.ErrCodeCancel {
					m.Errorf("the endpoint's stream was reset with %v", code)
				}
			},
			took: 305 * time.Second, events: []seen{{200, 1, refusal.CallerGone}}, exceeded: []limits.Name{limits.SendIdle}, kept: 1,
		},
		"it reads the answer slowly but steadily": {
			play: func(m *met) {
				m.serve2(func(e *peer2) {
					s := e.wantAsked("GET")
					e.head(s, false, ":status", "200")
					for i := range 7 {
						e.framer.WriteData(s, i == 6, []byte(large[:1<<14]))
					}
				})
				c := m.caller2()
				c.framer.WriteWindowUpdate(0, 1<<30)
				c.ask(1, true, "GET", "/")
				c.wantHead()
				for got, ended := 0, false; !ended; {
					f, err := c.framer.ReadFrame()
					if err != nil {
						m.Fatal(err)
					}
					data, ok := f.(*http2.DataFrame)
					if !ok {
						continue
					}
					ended = data.StreamEnded()
					if got += len(data.Data()); got >= 65535 && !ended {
						m.pass(20 * time.Second)
						c.framer.WriteWindowUpdate(1, 1<<10)
					}
				}
			},
			took: 49 * 20 * time.Second, events: []seen{{200, 1, refusal.None}}, kept: 1,
		},
		"it resets its stream in mid-request": {
			play: func(m *met) {
				c := m.caller2()
				c.ask(1, false, "POST", "/")
				c.framer.WriteData(1, false, []byte("01234"))
				e := m.endpoint2()
				e.wantAsked("POST")
				e.wantData(5)
				m.pass(time.Second)
				c.framer.WriteRSTStream(1, http2.ErrCodeCancel)
				e.wantResetWith(http2.ErrCodeCancel)
			},
			took: time.Second, events: []seen{{499, 1, refusal.CallerGone}}, kept: 1,
		},
		"it resets its stream in mid-answer": {
			play: func(m *met) {
				c := m.caller2()
				c.ask(1, true, "GET", "/")
				e := m.endpoint2()
				e.head(e.wantAsked("GET"), false, ":status", "200")
				c.wantHead()
				m.pass(time.Second)
				c.framer.WriteRSTStream(1, http2.ErrCodeCancel)
				e.wantResetWith(http2.ErrCodeCancel)
			},
			took: time.Second, events: []seen{{200, 1, refusal.CallerGone}}, kept: 1,
		},
		"it resets its connection in mid-answer": {
			play: func(m *met) {
				c := m.caller2()
				c.ask(1, true, "GET", "/")
				e := m.endpoint2()
				e.head(e.wantAsked("GET"), false, ":status", "200")
				c.wantHead()
				m.pass(time.Second)
				m.caller.Reset()
				e.wantResetWith(http2.ErrCodeCancel)
			},
			took: time.Second, events: []seen{{200, 1, refusal.CallerGone}}, kept: 1,
		},
		"it closes its connection between requests": {
			play: func(m *met) {
				m.serve2(func(e *peer2) { e.answer(e.wantAsked("GET"), "ok") })
				c := m.caller2()
				c.ask(1, true, "GET", "/")
				c.wantAnswer("200", "ok")
				c.silent(time.Minute)
				m.caller.Close()
			},
			took: time.Minute, events: []seen{{200, 1, refusal.None}}, kept: 1,
		},
		"it asks nothing more": {
			play: func(m *met) {
				m.serve2(func(e *peer2) { e.answer(e.wantAsked("GET"), "ok") })
				c := m.caller2()
				c.ask(1, true, "GET", "/")
				c.wantAnswer("200", "ok")
				for range 2 { // which is announced, then said (RFC 9113, section 6.8)
					if f, ok := c.next().(*http2.GoAwayFrame); !ok || f.ErrCode != http2.ErrCodeNo {
						m.Errorf("got %v, want GOAWAY", f)
					}
				}
				c.wantEnd()
			},
			took: 10*time.Minute + 5*time.Second, events: []seen{{200, 1, refusal.None}}, exceeded: []limits.Name{limits.Idle}, kept: 1,
		},
	})
}

func TestEndpointsThatAreSlowOrLeaveOnHTTP2(t *testing.T) {
	meet(t, asHTTP2, map[string]meeting{
		"it never answers, and the route has a timeout": {
			timeout: 30 * time.Second,
			play: func(m *met) {
				m.serve2(func(e *peer2) {
					e.wantAsked("GET")
					e.wantResetWith(http2.ErrCodeCancel)
				})
				c := m.caller2()
				c.ask(1, true, "GET", "/")
				c.wantAnswer("504", "")
			},
			took: 30 * time.Second, events: []seen{{504, 1, refusal.Timeout}}, kept: 1,
		},
		"it never answers, until the caller leaves": {
			play: func(m *met) {
				m.serve2(func(e *peer2) {
					e.wantAsked("GET")
					e.wantResetWith(http2.ErrCodeCancel)
				})
				c := m.caller2()
				c.ask(1, true, "GET", "/")
				c.silent(2 * time.Hour)
				m.caller.Close()
			},
			took: 2 * time.Hour, events: []seen{{499, 1, refusal.CallerGone}}, kept: 1,
		},
		"it gives the request no window": {
			play: func(m *met) {
				m.serve2(func(e *peer2) {
					e.wantAsked("POST")
					for {
						f, err := e.framer.ReadFrame() // what next reads it gives back
						if err != nil {
							return
						}
						if f, ok := f.(*http2.RSTStreamFrame); ok && f.ErrCode != http2.ErrCodeCancel {
							m.Errorf("the endpoint's stream was reset with %v", f.ErrCode)
						}
					}
				}, http2.Setting{ID: http2.SettingInitialWindowSize, Val: 5})
				c := m.caller2()
				c.ask(1, false, "POST", "/")
				c.framer.WriteData(1, false, []byte("0123456789"))
				c.wantAnswer("502", "")
				c.wantResetWith(http2.ErrCodeNo)
			},
			took: 5 * time.Minute, events: []seen{{502, 1, refusal.UpstreamFailed}}, exceeded: []limits.Name{limits.SendIdle}, kept: 1,
		},
		"it stops in mid-answer, and the route has a timeout": {
			timeout: 30 * time.Second,
			play: func(m *met) {
				m.serve2(func(e *peer2) {
					e.head(e.wantAsked("GET"), false, ":status", "200")
					e.wantResetWith(http2.ErrCodeCancel)
				})
				c := m.caller2()
				c.ask(1, true, "GET", "/")
				c.wantHead()
				c.wantResetWith(http2.ErrCodeInternal)
			},
			took: 30 * time.Second, events: []seen{{200, 1, refusal.Timeout}}, kept: 1,
		},
		"it stops in mid-answer, until the caller leaves": {
			play: func(m *met) {
				m.serve2(func(e *peer2) {
					e.head(e.wantAsked("GET"), false, ":status", "200")
					e.wantResetWith(http2.ErrCodeCancel)
				})
				c := m.caller2()
				c.ask(1, true, "GET", "/")
				c.wantHead()
				c.silent(2 * time.Hour)
				m.caller.Close()
			},
			took: 2 * time.Hour, events: []seen{{200, 1, refusal.CallerGone}}, kept: 1,
		},
		"its answer comes byte by byte, for hours": {
			play: func(m *met) {
				m.serve2(func(e *peer2) {
					s := e.wantAsked("GET")
					e.head(s, false, ":status", "200")
					for i, b := range []byte("0123456789") {
						m.pass(time.Hour)
						e.framer.WriteData(s, i == 9, []byte{b})
					}
				})
				c := m.caller2()
				c.ask(1, true, "GET", "/")
				c.wantAnswer("200", "0123456789")
			},
			took: 10 * time.Hour, events: []seen{{200, 1, refusal.None}}, kept: 1,
		},
		"it resets its stream in mid-answer": {
			play: func(m *met) {
				m.serve2(func(e *peer2) {
					s := e.wantAsked("GET")
					e.head(s, false, ":status", "200")
					e.framer.WriteData(s, false, []byte("half"))
					m.pass(time.Second)
					e.framer.WriteRSTStream(s, http2.ErrCodeEnhanceYourCalm)
				})
				c := m.caller2()
				c.ask(1, true, "GET", "/")
				c.wantHead()
				c.wantData(4)
				c.wantResetWith(http2.ErrCodeEnhanceYourCalm)
			},
			took: time.Second, events: []seen{{200, 1, refusal.UpstreamFailed}}, kept: 1,
		},
		"it resets its connection in mid-answer": {
			play: func(m *met) {
				m.serve2(func(e *peer2) {
					s := e.wantAsked("GET")
					e.head(s, false, ":status", "200")
					e.framer.WriteData(s, false, []byte("half"))
					m.pass(time.Second)
					if conn, ok := e.conn.(*testconn.Conn); ok {
						conn.Reset()
					}
				})
				c := m.caller2()
				c.ask(1, true, "GET", "/")
				c.wantHead()
				c.wantResetWith(http2.ErrCodeInternal)
			},
			took: time.Second, events: []seen{{200, 1, refusal.UpstreamFailed}},
		},
		"it closes between requests": {
			play: func(m *met) {
				c := m.caller2()
				c.ask(1, true, "GET", "/")
				e := m.endpoint2()
				e.answer(e.wantAsked("GET"), "ok")
				c.wantAnswer("200", "ok")
				e.conn.Close()
				c.silent(time.Minute)
				m.serve2(func(e *peer2) { e.answer(e.wantAsked("POST"), "ok") })
				c.ask(3, true, "POST", "/")
				c.wantAnswer("200", "ok")
			},
			took: time.Minute, events: []seen{{200, 1, refusal.None}, {200, 1, refusal.None}}, kept: 1,
		},
		"it closes before the request was written": { // the one before it takes all that the connection holds
			play: func(m *met) {
				c := m.caller2()
				c.ask(1, false, "POST", "/")
				for range 3 {
					c.framer.WriteData(1, false, []byte(large[:13<<10]))
				}
				e := m.endpoint2()
				e.wantAsked("POST")
				m.pass(time.Second)
				c.ask(3, true, "POST", "/")
				m.pass(time.Second)
				m.serve2(func(e *peer2) { e.answer(e.wantAsked("POST"), "ok") })
				e.conn.Close()
				got := map[uint32]string{}
				for len(got) < 2 {
					switch f := c.next().(type) {
					case *http2.MetaHeadersFrame:
						got[f.StreamID] = field(f, ":status")
					case nil:
						m.Fatal("the caller's connection ended")
					}
				}
				if got[1] != "502" || got[3] != "200" {
					m.Errorf("the requests were answered by %v", got)
				}
			},
			took: 2 * time.Second, events: []seen{{502, 1, refusal.UpstreamFailed}, {200, 1, refusal.None}}, kept: 1,
		},
		"it says GOAWAY to what was on its way, and closes": {
			play: func(m *met) {
				c := m.caller2()
				c.ask(1, true, "POST", "/")
				e := m.endpoint2()
				e.wantAsked("POST")
				m.pass(time.Second)
				e.framer.WriteGoAway(0, http2.ErrCodeNo, nil)
				e.conn.Close()
				m.serve2(func(e *peer2) { e.answer(e.wantAsked("POST"), "ok") })
				c.wantAnswer("200", "ok")
			},
			took: time.Second, events: []seen{{200, 2, refusal.None}}, kept: 1,
		},
		"it closes after the request was written, which may have been acted upon": {
			play: func(m *met) {
				c := m.caller2()
				c.ask(1, true, "POST", "/")
				e := m.endpoint2()
				e.wantAsked("POST")
				m.pass(time.Second)
				e.conn.Close()
				c.wantAnswer("502", "")
			},
			took: time.Second, events: []seen{{502, 1, refusal.UpstreamFailed}},
		},
		"it closes after the request was written, which is idempotent": {
			play: func(m *met) {
				c := m.caller2()
				c.ask(1, true, "GET", "/")
				e := m.endpoint2()
				e.wantAsked("GET")
				m.pass(time.Second)
				e.conn.Close()
				m.serve2(func(e *peer2) { e.answer(e.wantAsked("GET"), "ok") })
				c.wantAnswer("200", "ok")
			},
			took: time.Second, events: []seen{{200, 2, refusal.None}}, kept: 1,
		},
	})
}
