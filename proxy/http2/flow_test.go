// SPDX-License-Identifier: Apache-2.0

package http2

import (
	"bytes"
	"fmt"
	"net"
	"sync"
	"testing"
	"testing/synctest"

	xhttp2 "golang.org/x/net/http2"

	"github.com/heddle-mesh/heddle/internal/limits"
	"github.com/heddle-mesh/heddle/proxy/message"
)

// gated is a connection that its owner reads only while the gate is open.
type gated struct {
	net.Conn
	mu   *sync.Mutex
	open *sync.Cond
	shut *bool
}

func gate(c net.Conn) gated {
	mu := new(sync.Mutex)
	return gated{c, mu, sync.NewCond(mu), new(bool)}
}

func (g gated) Read(p []byte) (int, error) {
	g.mu.Lock()
	for *g.shut {
		g.open.Wait()
	}
	g.mu.Unlock()
	return g.Conn.Read(p)
}

func (g gated) set(shut bool) {
	g.mu.Lock()
	*g.shut = shut
	g.mu.Unlock()
	g.open.Broadcast()
}

// pusher sends so much, no faster than it may, and counts what comes back.
type pusher struct {
	s     *Stream
	mu    sync.Mutex
	left  int
	held  int // sent, but not on its way
	got   int
	ended chan struct{}
	why   *StreamError
}

func (p *pusher) push() {
	p.mu.Lock()
	defer p.mu.Unlock()
	piece := make([]byte, 10_000)
	for p.left > 0 && p.held == 0 {
		n := min(p.left, len(piece))
		p.left -= n
		p.held += n - p.s.SendData(piece[:n], p.left == 0)
	}
}

func (p *pusher) Head(*message.Head, bool) {}
func (p *pusher) Data(b []byte, end bool) {
	p.mu.Lock()
	p.got += len(b)
	p.mu.Unlock()
	p.s.Consumed(len(b))
	if end {
		close(p.ended)
	}
}
func (p *pusher) Trailer([]message.Field) { close(p.ended) }
func (p *pusher) Reset(why *StreamError)  { p.why = why; close(p.ended) }
func (p *pusher) Drained(n int) {
	p.mu.Lock()
	p.held -= n
	p.mu.Unlock()
	p.push()
}

// mirror sends back what comes.
type mirror struct{ s *Stream }

func (m mirror) Head(*message.Head, bool)       { m.s.SendHead(&message.Head{Status: 200}, false) }
func (m mirror) Data(p []byte, end bool)        { m.s.Consumed(m.s.SendData(p, end)) }
func (m mirror) Trailer(fields []message.Field) { m.s.SendTrailer(fields) }
func (m mirror) Reset(*StreamError)             {}
func (m mirror) Drained(n int)                  { m.s.Consumed(n) }
func mirroring(s *Stream) Sink                  { return mirror{s} }
func budgeted(n int) (*Config, *limits.Budget) {
	b := limits.NewBudget(n)
	return &Config{Budget: b}, b
}

func opened(t testing.TB, c *Conn, s Sink) *Stream {
	t.Helper()
	st, err := c.Open(&message.Head{Method: "POST", Scheme: "http", Authority: "a.test", Path: "/"}, false, s)
	if err != nil {
		t.Fatal(err)
	}
	return st
}

// runAll serves connections within a bubble and returns what ends them.
func runAll(all ...*Conn) (stop func()) {
	var wait sync.WaitGroup
	for _, c := range all {
		wait.Go(func() { _ = c.Serve() })
	}
	return func() {
		for _, c := range all {
			c.Close(nil)
		}
		wait.Wait()
	}
}

// chain is caller - proxy - endpoint over pipes, which hold nothing: a peer that does not read stops the other at once.
type chain struct {
	caller, server, up, endpoint *Conn
	callerGate, endpointGate     gated
	budget                       *limits.Budget
}

func newChain(t testing.TB, most int) (*chain, func()) {
	t.Helper()
	a, b := net.Pipe()
	x, y := net.Pipe()
	cfg, budget := budgeted(most)
	k := &chain{callerGate: gate(a), endpointGate: gate(y), budget: budget}
	k.caller = Client(k.callerGate, &Config{}, nil)
	k.up = Client(x, cfg, nil)
	k.server = Server(b, cfg, relayTo(k.up))
	k.endpoint = Server(k.endpointGate, &Config{}, mirroring)
	stop := runAll(k.caller, k.server, k.up, k.endpoint)
	synctest.Wait()
	return k, func() {
		k.callerGate.set(false)
		k.endpointGate.set(false)
		stop()
	}
}

func TestFullSocketsNeverDeadlock(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const streams, size = 8, 1 << 20
		k, stop := newChain(t, 64<<20)
		defer stop()
		var all []*pusher
		for range streams {
			p := &pusher{left: size, ended: make(chan struct{})}
			p.s = opened(t, k.caller, p)
			all = append(all, p)
		}
		for round := range 20 { // both ends stop reading, in the middle of it all, again and again
			for i, p := range all {
				if (i+round)%2 == 0 {
					p.push()
				}
			}
			k.callerGate.set(true)
			k.endpointGate.set(true)
			synctest.Wait()
			k.callerGate.set(round%3 == 0)
			k.endpointGate.set(round%3 == 1)
			synctest.Wait()
		}
		k.callerGate.set(false)
		k.endpointGate.set(false)
		for _, p := range all {
			p.push()
		}
		synctest.Wait()
		for i, p := range all {
			select {
			case <-p.ended:
			default:
				t.Fatalf("stream %d: %d of %d bytes came back", i, p.got, size)
			}
			if p.got != size || p.why != nil {
				t.Errorf("stream %d: %d of %d bytes came back: %v", i, p.got, size, p.why)
			}
		}
		if held := k.budget.Held(); held != 0 {
			t.Errorf("%d bytes are held at the end", held)
		}
	})
}

func TestWhatWaitsIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const streams = 20
		k, stop := newChain(t, 64<<20)
		defer stop()
		k.callerGate.set(true) // nothing that comes back is read
		for range streams {
			p := &pusher{left: 1 << 20, ended: make(chan struct{})}
			p.s = opened(t, k.caller, p)
			p.push()
		}
		synctest.Wait()
		most := int64(streams * (k.up.set.StreamWindow + k.server.set.StreamWindow + 2*chunkSize))
		if held := k.budget.Held(); held == 0 || held > most {
			t.Errorf("%d bytes wait, at most %d may", held, most)
		}
		for _, c := range []*Conn{k.server, k.up} {
			c.mu.Lock()
			if c.out != nil && len(c.out.b) > 2*writeSize {
				t.Errorf("%d bytes are to be written", len(c.out.b))
			}
			c.mu.Unlock()
		}
	})
}

func TestNoMemoryResetsTheStreamThatNeedsIt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		count := &counted{}
		k, stop := newChain(t, 1)
		defer stop()
		k.server.count, k.up.count = count, count
		k.callerGate.set(true)
		var all []*pusher
		for range 4 {
			p := &pusher{left: 1 << 20, ended: make(chan struct{})}
			p.s = opened(t, k.caller, p)
			p.push()
			all = append(all, p)
		}
		synctest.Wait()
		k.callerGate.set(false)
		synctest.Wait()
		reset := 0
		for _, p := range all {
			select {
			case <-p.ended:
				if p.why != nil && p.why.Code == EnhanceYourCalm {
					reset++
				}
			default:
			}
		}
		if reset == 0 || count.of(limits.Memory) == 0 {
			t.Errorf("%d streams were reset, the limit was counted %d times", reset, count.of(limits.Memory))
		}
		if held := k.budget.Held(); held != 0 {
			t.Errorf("%d bytes are held", held)
		}
	})
}

// content that was announced by DATA frames, as text.
func (p *raw) dataOf(n int) string {
	p.t.Helper()
	var text bytes.Buffer
	for text.Len() < n {
		_, _ = text.Write(p.next(xhttp2.FrameData).(*xhttp2.DataFrame).Data())
	}
	return text.String()
}

func initialWindow(n uint32) xhttp2.Setting {
	return xhttp2.Setting{ID: xhttp2.SettingInitialWindowSize, Val: n}
}

func TestSendingKeepsToTheWindows(t *testing.T) {
	hall := newHall()
	p, _, _ := rawServer(t, &Config{}, hall.accept)
	_ = p.WriteSettings(initialWindow(10))
	p.head(1, true, get...)
	e := hall.next(t)
	e.wait(t, is("head"))
	e.s.SendHead(&message.Head{Status: 200}, false)
	if n := e.s.SendData([]byte("0123456789abcdefghijABCDEFGHIJ"), true); n != 10 {
		t.Fatalf("%d bytes passed, not 10", n)
	}
	if got := p.dataOf(10); got != "0123456789" {
		t.Fatal(got)
	}
	_ = p.WriteSettings(initialWindow(5)) // the window is -5
	_ = p.WriteWindowUpdate(1, 8)         // 3
	if got := p.dataOf(3); got != "abc" {
		t.Fatal(got)
	}
	_ = p.WriteSettings(initialWindow(0)) // -5
	_ = p.WriteWindowUpdate(1, 5)         // 0
	_ = p.WritePing(false, [8]byte{1})
	for {
		if f := p.next(xhttp2.FrameData, xhttp2.FramePing); f.Header().Type == xhttp2.FramePing {
			break
		}
		t.Fatal("content beyond the window")
	}
	_ = p.WriteSettings(initialWindow(100))
	f := p.next(xhttp2.FrameData).(*xhttp2.DataFrame)
	if string(f.Data()) != "defghijABCDEFGHIJ" || !f.StreamEnded() {
		t.Fatalf("%q", f.Data())
	}
	drained := 0
	e.wait(t, func(s said) bool {
		if s.what == "drained" {
			drained += s.n
		}
		return drained == 20
	})
}

func TestTheConnectionsWindowIsShared(t *testing.T) {
	hall := newHall()
	p, _, _ := rawServer(t, &Config{}, hall.accept)
	_ = p.WriteSettings(initialWindow(windowMost))
	ears := map[uint32]*ear{}
	for id := uint32(1); id <= 5; id += 2 {
		p.head(id, true, get...)
		e := hall.next(t)
		e.wait(t, is("head"))
		e.s.SendHead(&message.Head{Status: 200}, false)
		ears[id] = e
	}
	sent := 0
	for _, e := range ears {
		sent += e.s.SendData(make([]byte, 60_000), false)
	}
	got := map[uint32]int{}
	read := func(n int) {
		for n > 0 {
			f := p.next(xhttp2.FrameData).(*xhttp2.DataFrame)
			got[f.StreamID] += len(f.Data())
			n -= len(f.Data())
		}
	}
	read(windowDefault)
	before := fmt.Sprint(got)
	_ = p.WriteWindowUpdate(0, 60_000)
	read(60_000)
	for id := range ears {
		if got[id] < 16_000 { // one turn
			t.Errorf("streams are not served alike: first %s, then %v", before, got)
		}
	}
	_ = p.WriteWindowUpdate(0, 1<<20)
	read(180_000 - windowDefault - 60_000)
}

func TestTheEndWaitsBehindContent(t *testing.T) {
	for name, test := range map[string]struct {
		end  func(s *Stream)
		want []xhttp2.FrameType
	}{
		"the end alone":            {func(s *Stream) { s.SendData(nil, true) }, []xhttp2.FrameType{xhttp2.FrameData}},
		"trailer fields":           {func(s *Stream) { s.SendTrailer([]message.Field{{Name: "X-A", Value: "b"}}) }, []xhttp2.FrameType{xhttp2.FrameData, xhttp2.FrameHeaders}},
		"no trailer fields":        {func(s *Stream) { s.SendTrailer(nil) }, []xhttp2.FrameType{xhttp2.FrameData}},
		"a reset without an error": {func(s *Stream) { s.SendData(nil, true); s.Reset(NoError) }, []xhttp2.FrameType{xhttp2.FrameData, xhttp2.FrameRSTStream}},
		"a reset with an error":    {func(s *Stream) { s.SendData(nil, true); s.Reset(Cancel) }, []xhttp2.FrameType{xhttp2.FrameRSTStream}},
	} {
		t.Run(name, func(t *testing.T) {
			hall := newHall()
			p, _, _ := rawServer(t, &Config{}, hall.accept)
			_ = p.WriteSettings(initialWindow(0))
			p.head(1, false, post...)
			e := hall.next(t)
			e.wait(t, is("head"))
			e.s.SendHead(&message.Head{Status: 200}, false)
			p.next(xhttp2.FrameHeaders)
			e.s.SendData([]byte("content"), false)
			test.end(e.s)
			_ = p.WriteWindowUpdate(1, 100)
			for _, kind := range test.want {
				if f := p.next(xhttp2.FrameData, xhttp2.FrameHeaders, xhttp2.FrameRSTStream); f.Header().Type != kind {
					t.Fatalf("%v, not %v", f, kind)
				}
			}
		})
	}
}

func TestWindowIsGivenBackInBatches(t *testing.T) {
	hall := newHall()
	set := limits.Default()
	set.ConnectionWindow = 128 << 10
	p, _, _ := rawServer(t, &Config{Limits: &set}, hall.accept)
	p.head(1, false, post...)
	e := hall.next(t)
	e.take = false
	for range 3 {
		_ = p.WriteData(1, false, make([]byte, 16000))
	}
	for {
		f := p.next(xhttp2.FrameWindowUpdate).(*xhttp2.WindowUpdateFrame)
		if f.StreamID != 0 {
			t.Fatalf("%v before anything was consumed", f)
		}
		if f.Increment == 48000 || f.Increment == 32000 { // the first is that of the hello
			break
		}
	}
	e.s.Consumed(10_000)
	e.s.Consumed(10_000)
	for {
		if f := p.next(xhttp2.FrameWindowUpdate).(*xhttp2.WindowUpdateFrame); f.StreamID == 1 {
			if f.Increment != 20_000 {
				t.Errorf("%v", f)
			}
			return
		}
	}
}

// Padding takes window as content does (RFC 9113, section 6.1), and nobody consumes it.
func TestTheWindowOfPaddingIsGivenBackByItself(t *testing.T) {
	hall := newHall()
	p, _, _ := rawServer(t, &Config{}, hall.accept)
	p.head(1, false, post...)
	e := hall.next(t)
	e.take = false
	padding := make([]byte, 255)
	for range 64 { // of 256 bytes each, with the length
		_ = p.WriteDataPadded(1, false, []byte("x"), padding)
	}
	for {
		if f := p.next(xhttp2.FrameWindowUpdate).(*xhttp2.WindowUpdateFrame); f.StreamID == 1 {
			if f.Increment != 64*256 {
				t.Errorf("%v", f)
			}
			return
		}
	}
}

func TestContentOverAWindowIsRefused(t *testing.T) {
	hall := newHall()
	set := limits.Default()
	set.StreamWindow, set.ConnectionWindow = 16<<10, 64<<10
	p, _, _ := rawServer(t, &Config{Limits: &set}, hall.accept)
	for { // the settings hold once they are acknowledged
		if f := p.next(xhttp2.FrameSettings).(*xhttp2.SettingsFrame); !f.IsAck() {
			break
		}
	}
	_ = p.WriteSettingsAck()
	for id := uint32(1); id <= 9; id += 2 {
		p.head(id, false, post...)
		hall.next(t).take = false
	}
	for range 2 {
		_ = p.WriteData(1, false, make([]byte, 9<<10))
	}
	if got := p.outcome(); got != "RST_STREAM FLOW_CONTROL_ERROR" {
		t.Fatal(got)
	}
}
