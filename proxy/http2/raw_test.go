// SPDX-License-Identifier: Apache-2.0

package http2

import (
	"bytes"
	"errors"
	"io"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	xhttp2 "golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"github.com/heddle-mesh/heddle/proxy/internal/testconn"
	"github.com/heddle-mesh/heddle/proxy/message"
)

// raw is a peer that sends whatever frames a test likes, with the framer and HPACK of x/net.
type raw struct {
	t   testing.TB
	net net.Conn
	*xhttp2.Framer
	enc *hpack.Encoder
	dec *hpack.Decoder
	buf bytes.Buffer
}

func newRaw(t testing.TB, c net.Conn) *raw {
	t.Helper()
	p := &raw{t: t, net: c, Framer: xhttp2.NewFramer(c, c), dec: hpack.NewDecoder(4096, nil)}
	p.AllowIllegalWrites = true
	p.AllowIllegalReads = true
	p.SetMaxReadFrameSize(1 << 24)
	p.enc = hpack.NewEncoder(&p.buf)
	_ = c.SetDeadline(time.Now().Add(patience))
	t.Cleanup(func() { c.Close() })
	return p
}

// block encodes fields: "name: value" each.
func (p *raw) block(fields ...string) []byte {
	p.buf.Reset()
	for _, f := range fields {
		name, value, _ := strings.Cut(f[1:], ": ")
		_ = p.enc.WriteField(hpack.HeaderField{Name: f[:1] + name, Value: value})
	}
	return bytes.Clone(p.buf.Bytes())
}

var get = []string{":method: GET", ":scheme: http", ":authority: a.test", ":path: /"}

var post = []string{":method: POST", ":scheme: http", ":authority: a.test", ":path: /"}

// head sends a head in one frame.
func (p *raw) head(id uint32, end bool, fields ...string) {
	_ = p.WriteHeaders(xhttp2.HeadersFrameParam{StreamID: id, BlockFragment: p.block(fields...), EndStream: end, EndHeaders: true})
}

// next returns the next frame that is of one of the types, and answers what has to be answered on the way.
func (p *raw) next(kinds ...xhttp2.FrameType) xhttp2.Frame {
	p.t.Helper()
	f, err := p.read(kinds...)
	if err != nil {
		p.t.Fatalf("no frame of %v: %v", kinds, err)
	}
	return f
}

func (p *raw) read(kinds ...xhttp2.FrameType) (xhttp2.Frame, error) {
	for {
		f, err := p.ReadFrame()
		if err != nil {
			return nil, err
		}
		for _, kind := range kinds {
			if f.Header().Type == kind {
				return f, nil
			}
		}
	}
}

// outcome waits for what the engine says: "RST_STREAM 1 CODE", "GOAWAY CODE", "END 1" for the end of a stream, or "closed".
func (p *raw) outcome() string {
	for {
		f, err := p.ReadFrame()
		switch f := f.(type) {
		case *xhttp2.RSTStreamFrame:
			return "RST_STREAM " + f.ErrCode.String()
		case *xhttp2.GoAwayFrame:
			return "GOAWAY " + f.ErrCode.String()
		case *xhttp2.HeadersFrame:
			if f.StreamEnded() {
				return "END"
			}
		case *xhttp2.DataFrame:
			if f.StreamEnded() {
				return "END"
			}
		case *xhttp2.PingFrame:
			if f.IsAck() {
				return "PING"
			}
		}
		if err != nil {
			if errors.Is(err, io.EOF) {
				return "closed"
			}
			return err.Error()
		}
	}
}

// said is what a sink heard.
type said struct {
	what   string // head, data, trailer, reset, drained
	head   message.Head
	text   string
	fields []message.Field
	end    bool
	why    *StreamError
	n      int
}

// ear is a sink that remembers.
type ear struct {
	s    *Stream
	mu   sync.Mutex
	all  []said
	come chan struct{}
	take bool // what comes is consumed at once
}

func newEar(s *Stream) *ear { return &ear{s: s, come: make(chan struct{}, 1), take: true} }

func (e *ear) add(s said) {
	e.mu.Lock()
	e.all = append(e.all, s)
	e.mu.Unlock()
	select {
	case e.come <- struct{}{}:
	default:
	}
}

func (e *ear) Head(h *message.Head, end bool) {
	copied := *h
	copied.Fields = append([]message.Field(nil), h.Fields...)
	e.add(said{what: "head", head: copied, end: end})
}

func (e *ear) Data(p []byte, end bool) {
	e.add(said{what: "data", text: string(p), end: end})
	if e.take {
		e.s.Consumed(len(p))
	}
}

func (e *ear) Trailer(f []message.Field) {
	e.add(said{what: "trailer", fields: append([]message.Field(nil), f...), end: true})
}
func (e *ear) Reset(why *StreamError) { e.add(said{what: "reset", why: why}) }
func (e *ear) Drained(n int)          { e.add(said{what: "drained", n: n}) }

// wait returns the first event that fits, when it has come.
func (e *ear) wait(t testing.TB, fits func(said) bool) said {
	t.Helper()
	late := time.NewTimer(patience)
	defer late.Stop()
	for {
		e.mu.Lock()
		for _, s := range e.all {
			if fits(s) {
				e.mu.Unlock()
				return s
			}
		}
		e.mu.Unlock()
		select {
		case <-e.come:
		case <-late.C:
			t.Fatalf("what should have come has not; there came %+v", e.all)
		}
	}
}

func (e *ear) heard() []said {
	e.mu.Lock()
	defer e.mu.Unlock()
	return append([]said(nil), e.all...)
}

func is(what string) func(said) bool { return func(s said) bool { return s.what == what } }

func ended(s said) bool { return s.end }

// hall is a server's streams, in the order in which they came.
type hall struct {
	mu   sync.Mutex
	ears map[uint32]*ear
	come chan *ear
}

func newHall() *hall { return &hall{ears: map[uint32]*ear{}, come: make(chan *ear, 10_000)} }

func (h *hall) accept(s *Stream) Sink {
	e := newEar(s)
	h.mu.Lock()
	h.ears[s.ID()] = e
	h.mu.Unlock()
	h.come <- e
	return e
}

func (h *hall) next(t testing.TB) *ear {
	t.Helper()
	select {
	case e := <-h.come:
		return e
	case <-time.After(patience): //nolint:forbidigo // a test that hangs says so
		t.Fatal("no stream comes")
		return nil
	}
}

// rawServer is an engine's server, and a raw client that has said hello.
func rawServer(t testing.TB, cfg *Config, accept func(*Stream) Sink) (*raw, *Conn, <-chan error) {
	t.Helper()
	near, far := testconn.TCP(t)
	c := Server(far, cfg, accept)
	done := serve(t, c)
	p := newRaw(t, near)
	_, _ = io.WriteString(near, preface)
	_ = p.WriteSettings()
	return p, c, done
}

// rawClient is an engine's client, and a raw server that has said hello.
func rawClient(t testing.TB, cfg *Config, settings ...xhttp2.Setting) (*raw, *Conn, <-chan error) {
	t.Helper()
	near, far := testconn.TCP(t)
	changed := make(chan struct{}, 100)
	c := Client(far, cfg, func(*Conn) {
		select {
		case changed <- struct{}{}:
		default:
		}
	})
	done := serve(t, c)
	p := newRaw(t, near)
	hello := make([]byte, len(preface))
	if _, err := io.ReadFull(near, hello); err != nil || string(hello) != preface {
		t.Fatalf("preface %q: %v", hello, err)
	}
	_ = p.WriteSettings(settings...)
	for c.Room() == 0 && len(settings) == 0 {
		<-changed
	}
	return p, c, done
}
