// SPDX-License-Identifier: Apache-2.0

package http2

import (
	"fmt"
	"strings"
	"testing"

	xhttp2 "golang.org/x/net/http2"

	"github.com/heddle-mesh/heddle/internal/limits"
	"github.com/heddle-mesh/heddle/proxy/message"
)

// tight are limits that a test can reach.
func tight() *limits.Set {
	set := limits.Default()
	set.HeaderBytes, set.HeaderFields, set.RequestLine = 8<<10, 20, 2<<10
	set.Streams, set.Resets, set.ControlFrames, set.Continuations = 10, 20, 100, 4
	return &set
}

// What a client overdoes, which limit counts it, and what it hears at last.
func TestFloodsAreEnded(t *testing.T) {
	const calm = "GOAWAY ENHANCE_YOUR_CALM"
	for name, test := range map[string]struct {
		send  func(p *raw) // again and again, with times, from 0
		limit limits.Name
		want  string
		once  bool
	}{
		"streams that are reset at once (CVE-2023-44487)": {
			limit: limits.Resets, want: calm,
			send: each(func(p *raw, i uint32) {
				p.head(2*i+1, false, post...)
				_ = p.WriteRSTStream(2*i+1, xhttp2.ErrCodeCancel)
			}),
		},
		"streams that we are made to reset (CVE-2025-8671)": {
			limit: limits.Resets, want: calm,
			send: each(func(p *raw, i uint32) { p.head(2*i+1, false, post...); _ = p.WriteWindowUpdate(2*i+1, 0) }),
		},
		"malformed requests": {
			limit: limits.Resets, want: calm,
			send: each(func(p *raw, i uint32) { p.head(2*i+1, true, with(get, "connection: close")...) }),
		},
		"content on streams that are over": {
			limit: limits.Resets, want: calm,
			send: each(func(p *raw, i uint32) {
				if i == 0 {
					p.head(1, true, get...)
				}
				_ = p.WriteData(1, false, []byte("x"))
			}),
		},
		"more streams than may be open": {
			limit: limits.Streams, want: calm,
			send: each(func(p *raw, i uint32) { p.head(2*i+1, false, post...) }),
		},
		"SETTINGS": {
			limit: limits.ControlFrames, want: calm,
			send: each(func(p *raw, i uint32) { _ = p.WriteSettings() }),
		},
		"acknowledgements that nobody waits for": {
			limit: limits.ControlFrames, want: calm,
			send: each(func(p *raw, i uint32) { _ = p.WriteSettingsAck() }),
		},
		"PING": {
			limit: limits.ControlFrames, want: calm,
			send: each(func(p *raw, i uint32) { _ = p.WritePing(false, [8]byte{}) }),
		},
		"answers to no PING": {
			limit: limits.ControlFrames, want: calm,
			send: each(func(p *raw, i uint32) { _ = p.WritePing(true, [8]byte{}) }),
		},
		"PRIORITY": {
			limit: limits.ControlFrames, want: calm,
			send: each(func(p *raw, i uint32) { _ = p.WritePriority(1, xhttp2.PriorityParam{}) }),
		},
		"empty DATA": {
			limit: limits.ControlFrames, want: calm,
			send: each(func(p *raw, i uint32) {
				if i == 0 {
					p.head(1, false, post...)
				}
				_ = p.WriteData(1, false, nil)
			}),
		},
		"DATA of padding alone": {
			limit: limits.ControlFrames, want: calm,
			send: each(func(p *raw, i uint32) {
				if i == 0 {
					p.head(1, false, post...)
				}
				_ = p.WriteDataPadded(1, false, nil, []byte{0})
			}),
		},
		"tiny WINDOW_UPDATE that nobody needs": {
			limit: limits.ControlFrames, want: calm,
			send: each(func(p *raw, i uint32) { _ = p.WriteWindowUpdate(0, 1) }),
		},
		"unknown frames": {
			limit: limits.ControlFrames, want: calm,
			send: each(func(p *raw, i uint32) { _ = p.WriteRawFrame(0x99, 0, 0, nil) }),
		},
		"CONTINUATION (CVE-2023-45288)": {
			limit: limits.Continuations, want: calm,
			send: each(func(p *raw, i uint32) {
				if i == 0 {
					_ = p.WriteHeaders(xhttp2.HeadersFrameParam{StreamID: 1, BlockFragment: p.block(get...)})
				}
				_ = p.WriteContinuation(1, false, nil)
			}),
		},
		"one head over the bytes": {
			limit: limits.HeaderBytes, want: "431", once: true,
			send: func(p *raw) { p.head(1, true, with(get, "x-a: "+strings.Repeat("a", 9<<10))...) },
		},
		"one head with too many fields": {
			limit: limits.HeaderFields, want: "431", once: true,
			send: func(p *raw) {
				p.head(1, false, with(get, strings.Split(strings.Repeat("x-a: b,", 30)+"x-a: b", ",")...)...)
			},
		},
		"one head that HPACK makes large": {
			limit: limits.HeaderBytes, want: "431", once: true,
			send: func(p *raw) {
				p.head(1, true, with(get, strings.Split(strings.Repeat("x-a: "+strings.Repeat("a", 1000)+",", 15)+"x-a: b", ",")...)...)
			},
		},
		"one path that is too long": {
			limit: limits.RequestLine, want: "414", once: true,
			send: func(p *raw) { p.head(1, true, with(get[:3], ":path: /"+strings.Repeat("a", 3<<10))...) },
		},
	} {
		t.Run(name, func(t *testing.T) {
			count := &counted{}
			p, _, _ := rawServer(t, &Config{Limits: tight(), Count: count}, func(s *Stream) Sink { return much{s} })
			if test.once {
				test.send(p)
			} else {
				go test.send(p)
			}
			got := ""
			for !strings.HasPrefix(got, test.want) {
				if test.once {
					got = p.status()
				} else {
					got = p.outcome()
				}
				switch word, _, _ := strings.Cut(got, " "); word {
				case "RST_STREAM", "END", "PING", "GOAWAY", "414", "431":
				default:
					t.Fatal(got)
				}
			}
			if n := count.of(test.limit); n == 0 || test.want == calm && test.limit != limits.Streams && n > 1 {
				t.Errorf("%s was counted %d times", test.limit, n)
			}
			if test.once { // the connection goes on, HPACK's state is right
				p.head(3, true, with(get, "x-b: c")...)
				if got := p.status(); got != "200" {
					t.Errorf("%q afterwards", got)
				}
			}
		})
	}
}

// A client that gives a byte of window at a time makes us send a frame for each (CVE-2019-9511).
func TestWindowsOfOneByteAreEnded(t *testing.T) {
	count := &counted{}
	p, _, _ := rawServer(t, &Config{Limits: tight(), Count: count}, func(s *Stream) Sink { return much{s} })
	_ = p.WriteSettings(initialWindow(1))
	p.head(1, true, with(get, "x-much: 1")...)
	for {
		switch f := p.next(xhttp2.FrameData, xhttp2.FrameGoAway).(type) {
		case *xhttp2.DataFrame:
			_ = p.WriteWindowUpdate(1, 1)
		case *xhttp2.GoAwayFrame:
			if f.ErrCode != xhttp2.ErrCodeEnhanceYourCalm || count.of(limits.ControlFrames) != 1 {
				t.Errorf("%v, counted %d times", f, count.of(limits.ControlFrames))
			}
			return
		}
	}
}

// each makes a sender of many.
func each(send func(p *raw, i uint32)) func(p *raw) {
	return func(p *raw) {
		for i := range uint32(1000) {
			send(p, i)
		}
	}
}

// status reads until an answer's head has come, and returns its status.
func (p *raw) status() string {
	p.t.Helper()
	f := p.next(xhttp2.FrameHeaders).(*xhttp2.HeadersFrame)
	fields, err := p.dec.DecodeFull(f.HeaderBlockFragment())
	if err != nil {
		p.t.Fatal(err)
	}
	return fields[0].Value
}

// much answers with some content, where it is asked for, and waits for the end of requests.
type much struct{ s *Stream }

func (m much) Head(h *message.Head, end bool) {
	if !end {
		return
	}
	_, asked := h.Get("x-much")
	m.s.SendHead(&message.Head{Status: 200}, !asked)
	if asked {
		m.s.SendData(make([]byte, 10_000), true)
	}
}
func (m much) Data(p []byte, _ bool)   { m.s.Consumed(len(p)) }
func (m much) Trailer([]message.Field) {}
func (m much) Reset(*StreamError)      {}
func (m much) Drained(int)             {}

// A client may cancel what it has waited for, and what has been answered, as often as it likes.
func TestResetsOfWhatWasAnsweredDoNotCount(t *testing.T) {
	hall := newHall()
	p, _, _ := rawServer(t, &Config{Limits: tight()}, hall.accept)
	for i := range uint32(100) {
		p.head(2*i+1, false, post...)
		hall.next(t).s.SendHead(&message.Head{Status: 200}, false)
		p.next(xhttp2.FrameHeaders)
		_ = p.WriteRSTStream(2*i+1, xhttp2.ErrCodeCancel)
	}
	_ = p.WritePing(false, [8]byte{})
	if got := p.outcome(); got != "PING" {
		t.Error(got)
	}
}

// PINGs that go with content do not count: clients of gRPC measure with them.
func TestPingsWithContentDoNotCount(t *testing.T) {
	hall := newHall()
	p, _, _ := rawServer(t, &Config{Limits: tight()}, hall.accept)
	p.head(1, false, post...)
	hall.next(t)
	for range 300 {
		_ = p.WriteData(1, false, []byte("x"))
		_ = p.WritePing(false, [8]byte{})
		if got := p.outcome(); got != "PING" {
			t.Fatal(got)
		}
	}
}

// A peer that makes us answer and never reads is cut off before it has made us keep much.
func TestOutputThatNobodyReadsIsBounded(t *testing.T) {
	set := limits.Default()
	set.ControlFrames = 1_000_000
	p, c, done := rawServer(t, &Config{Limits: &set}, func(s *Stream) Sink { return fat{s} })
	go func() {
		for i := range uint32(1_000_000) {
			p.head(2*i+1, true, get...)
			if p.WritePing(false, [8]byte{}) != nil {
				return
			}
		}
	}()
	if err := <-done; !strings.Contains(fmt.Sprint(err), "does not read") {
		t.Error(err)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.out != nil && len(c.out.b) > outputMost+1<<16 {
		t.Errorf("%d bytes waited", len(c.out.b))
	}
}

// fat answers with a large head.
type fat struct{ s *Stream }

func (f fat) Head(*message.Head, bool) {
	f.s.SendHead(&message.Head{Status: 200, Fields: []message.Field{{Name: "x-a", Value: strings.Repeat("a", 4000)}}}, true)
}
func (f fat) Data([]byte, bool)       {}
func (f fat) Trailer([]message.Field) {}
func (f fat) Reset(*StreamError)      {}
func (f fat) Drained(int)             {}
