// SPDX-License-Identifier: Apache-2.0

package smuggling

import (
	"bufio"
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/net/http2"

	"github.com/heddle-mesh/heddle/internal/limits"
	"github.com/heddle-mesh/heddle/internal/meshconfig"
	"github.com/heddle-mesh/heddle/proxy/forward"
	"github.com/heddle-mesh/heddle/test/pair"
)

// counts is a limits.Counter.
type counts struct {
	mu sync.Mutex
	of map[limits.Name]int
}

// Exceeded implements limits.Counter.
func (c *counts) Exceeded(name limits.Name) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.of[name]++
}

func (c *counts) get(name limits.Name) int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.of[name]
}

// victim is the pair that a hostile caller attacks.
type victim struct {
	*testing.T
	client, server netip.AddrPort
	caller         *tls.Config
	counted        *counts
}

func (v *victim) dial(to netip.AddrPort) net.Conn {
	v.Helper()
	c, err := net.Dial("tcp", to.String())
	if err != nil {
		v.Fatal(err)
	}
	v.Cleanup(func() { c.Close() })
	c.SetDeadline(time.Now().Add(patience))
	return c
}

// says sends bytes and wants a refusal with a status, and the end.
func (v *victim) says(sent string, status int) {
	v.Helper()
	c := v.dial(v.client)
	io.WriteString(c, sent)
	mustRefuse(v.T, bufio.NewReader(c), status)
}

// ends waits for the end of a connection.
func (v *victim) ends(c net.Conn) {
	v.Helper()
	if b, err := io.ReadAll(c); err != nil && !strings.Contains(err.Error(), "reset by peer") {
		v.Errorf("it did not end: %v, after %d bytes", err, len(b))
	}
}

// goesAway sends frames, and wants a connection error.
func (v *victim) goesAway(code http2.ErrCode, frames func(d *caller2)) {
	v.Helper()
	d := newCaller2(v.dial(v.client))
	frames(d)
	e, err := d.await(1 << 30)
	if err != nil || !e.goaway || e.code != code {
		v.Errorf("it ended with %+v, %v, want GOAWAY of %v", e, err, code)
	}
}

const short = 300 * time.Millisecond

// attacked are the limits, what goes over them, and what it gets.
var attacked = []struct {
	name   string
	limit  limits.Name
	set    limits.Set
	attack func(v *victim)
}{
	{"a header too long", limits.HeaderBytes, limits.Set{HeaderBytes: 8 << 10}, func(v *victim) {
		v.says(get("X: "+strings.Repeat("y", 10_000)+"\r\n"), 431)
	}},
	{"a header that does not end", limits.HeaderBytes, limits.Set{HeaderBytes: 8 << 10}, func(v *victim) {
		v.says("GET /a HTTP/1.1\r\nHost: cart\r\n"+strings.Repeat("X: "+strings.Repeat("y", 1000)+"\r\n", 100), 431)
	}},
	{"too many fields", limits.HeaderFields, limits.Set{HeaderFields: 20}, func(v *victim) {
		v.says(get(strings.Repeat("X: y\r\n", 30)), 431)
	}},
	{"a request line too long", limits.RequestLine, limits.Set{RequestLine: 2 << 10}, func(v *victim) {
		v.says("GET /"+strings.Repeat("a", 3000)+" HTTP/1.1\r\nHost: cart\r\n\r\n", 414)
	}},
	{"a header that comes slowly", limits.HeaderTime, limits.Set{HeaderTime: short}, func(v *victim) {
		v.says("GET /a HTTP/1.1\r\nHost: ca", 408)
	}},
	{"content that stops", limits.BodyIdle, limits.Set{BodyIdle: short}, func(v *victim) {
		v.says(post("Content-Length: 10\r\n\r\nabc"), 408)
	}},
	{"a connection without requests", limits.Idle, limits.Set{Idle: short}, func(v *victim) {
		v.ends(v.dial(v.client))
	}},
	{"a caller that says nothing", limits.FirstByte, limits.Set{FirstByte: short}, func(v *victim) {
		v.ends(v.dial(v.server))
	}},
	{"a handshake that stops", limits.Handshake, limits.Set{Handshake: short}, func(v *victim) {
		c := v.dial(v.server)
		go tls.Client(&mute{Conn: c}, v.caller).Handshake()
		v.ends(c)
	}},
	{"too many requests at once", limits.Pipelined, limits.Set{Pipelined: 5}, func(v *victim) {
		c := v.dial(v.client)
		io.WriteString(c, strings.Repeat(get(""), 50))
		r, n := bufio.NewReader(c), 0
		for last := false; !last; n++ {
			m, _, err := readAnswer(r, "GET")
			if err != nil || m.status() != 200 {
				v.Fatalf("request %d was answered %v, %v", n, m, err)
			}
			last = strings.EqualFold(m.value("Connection"), "close")
		}
		if mustEnd(v.T, r); n < 5 || n > 8 {
			v.Errorf("%d requests were answered", n)
		}
	}},
	{"an answer that nobody reads", limits.SendIdle, limits.Set{SendIdle: short}, func(v *victim) {
		c, before := v.dial(v.client), v.counted.get(limits.SendIdle)
		io.WriteString(c, "GET /large HTTP/1.1\r\nHost: cart\r\n\r\n")
		within(v.T, "that it is counted", func() bool { return v.counted.get(limits.SendIdle) > before })
		if n, _ := io.Copy(io.Discard, c); n >= large {
			v.Errorf("all %d bytes came", n)
		}
	}},
	{"too many streams", limits.Streams, limits.Set{Streams: 4}, func(v *victim) {
		d := newCaller2(v.dial(v.client))
		for range 5 {
			d.open(&downgrade{frames: func(f *http2.Framer, stream uint32, _ func(...string) []byte) {
				d.head(stream, post2("content-length", "3"), false)
			}})
		}
		if e, err := d.await(9); err != nil || !e.reset || e.code != http2.ErrCodeRefusedStream {
			v.Errorf("the fifth stream ended with %+v, %v", e, err)
		}
	}},
	{"rapid resets", limits.Resets, limits.Set{Resets: 20}, func(v *victim) {
		v.goesAway(http2.ErrCodeEnhanceYourCalm, func(d *caller2) {
			for range 100 {
				d.framer.WriteRSTStream(d.open(&downgrade{fields: get2()}), http2.ErrCodeCancel)
			}
		})
	}},
	{"resets that the proxy is made to send", limits.Resets, limits.Set{Resets: 20}, func(v *victim) {
		v.goesAway(http2.ErrCodeEnhanceYourCalm, func(d *caller2) {
			for range 100 {
				d.framer.WriteWindowUpdate(d.open(&downgrade{fields: get2()}), 0)
			}
		})
	}},
	{"a flood of PING", limits.ControlFrames, limits.Set{ControlFrames: 100}, func(v *victim) {
		v.goesAway(http2.ErrCodeEnhanceYourCalm, func(d *caller2) {
			for range 500 {
				d.framer.WritePing(false, [8]byte{1})
			}
		})
	}},
	{"a flood of SETTINGS", limits.ControlFrames, limits.Set{ControlFrames: 100}, func(v *victim) {
		v.goesAway(http2.ErrCodeEnhanceYourCalm, func(d *caller2) {
			for range 500 {
				d.framer.WriteSettings()
			}
		})
	}},
	{"a flood of empty DATA", limits.ControlFrames, limits.Set{ControlFrames: 100}, func(v *victim) {
		v.goesAway(http2.ErrCodeEnhanceYourCalm, func(d *caller2) {
			d.head(1, post2(), false)
			for range 500 {
				d.framer.WriteData(1, false, nil)
			}
		})
	}},
	{"a flood of PRIORITY", limits.ControlFrames, limits.Set{ControlFrames: 100}, func(v *victim) {
		v.goesAway(http2.ErrCodeEnhanceYourCalm, func(d *caller2) {
			for range 500 {
				d.framer.WritePriority(1, http2.PriorityParam{StreamDep: 3})
			}
		})
	}},
	{"a flood of CONTINUATION", limits.Continuations, limits.Set{Continuations: 3}, func(v *victim) {
		v.goesAway(http2.ErrCodeEnhanceYourCalm, func(d *caller2) {
			d.framer.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: d.block(get2()...), EndStream: true})
			for range 100 {
				d.framer.WriteContinuation(1, false, nil)
			}
		})
	}},
	{"a bomb of HPACK", limits.HeaderBytes, limits.Set{HeaderBytes: 8 << 10}, func(v *victim) {
		d := newCaller2(v.dial(v.client))
		d.encoded.Reset()
		for _, f := range append(get2(), field{Name: "x", Value: strings.Repeat("y", 3000)}) {
			d.encoder.WriteField(f)
		}
		block := append(d.encoded.Bytes(), strings.Repeat("\xbe", 1000)...) // the newest entry of the table, again and again
		d.framer.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: block, EndStream: true, EndHeaders: true})
		if e, err := d.await(1); err != nil || e.status != "431" {
			v.Errorf("it ended with %+v, %v, want 431", e, err)
		}
	}},
}

// mute is a connection that lets one message out.
type mute struct {
	net.Conn
	spoken bool
}

// Write implements net.Conn.
func (m *mute) Write(b []byte) (int, error) {
	if m.spoken {
		return len(b), nil
	}
	m.spoken = true
	return m.Conn.Write(b)
}

const large = 32 << 20

// within waits until something is so.
func within(t *testing.T, what string, so func() bool) {
	t.Helper()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(patience); !so(); <-tick.C {
		if time.Now().After(deadline) {
			t.Fatal("in vain: " + what)
		}
	}
}

// A hostile caller gets what the limit says, and is counted; a good one beside it is served all through.
func TestLimitsUnderAttack(t *testing.T) {
	for _, a := range attacked {
		t.Run(a.name, func(t *testing.T) {
			t.Parallel()
			counted := &counts{of: make(map[limits.Name]int)}
			app := pair.Listen(t, func(_ context.Context, c net.Conn) { serveLarge(c) })
			p := pair.New(t, app, pair.Options{Protocol: meshconfig.Protocol_PROTOCOL_HTTP1, Change: func(o *forward.Options) {
				o.Limits, o.Count = a.set, counted
			}})
			v := &victim{t, p.Client, p.Server, p.CallerTLS("heddle/h1"), counted}
			good := newGood(p.Client)
			good.askFor(20)
			quiet := good.stop(t)
			good = newGood(p.Client)
			done := make(chan struct{})
			var asking sync.WaitGroup
			asking.Go(func() { good.askUntil(done) })
			for range 3 {
				a.attack(v)
			}
			close(done)
			asking.Wait()
			under := good.stop(t)
			if counted.get(a.limit) == 0 {
				t.Errorf("nothing of %s was counted: %v", a.limit, counted.of)
			}
			t.Logf("%s: of good requests p99 was %v, and %v under attack", a.limit, quiet, under)
		})
	}
}

// serveLarge answers requests strictly, "/large" with much.
func serveLarge(c net.Conn) {
	r := bufio.NewReader(c)
	for {
		m, err := readRequest(r, func(*message) {})
		if err != nil {
			return
		}
		if target(m) != "/large" {
			io.WriteString(c, usualAnswer(m))
			continue
		}
		fmt.Fprintf(c, "HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n", large)
		if _, err := io.CopyN(c, zeros{}, large); err != nil {
			return
		}
	}
}

type zeros struct{}

// Read implements io.Reader.
func (zeros) Read(p []byte) (int, error) { return len(p), nil }

// good is a caller as they should be.
type good struct {
	client *http.Client
	took   []time.Duration
	err    error
}

func newGood(to netip.AddrPort) *good {
	return &good{client: &http.Client{Timeout: patience, Transport: &http.Transport{
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "tcp", to.String())
		},
	}}}
}

func (g *good) ask() {
	begun := time.Now()
	answer, err := g.client.Get("http://cart/good")
	if err != nil {
		g.err = err
		return
	}
	defer answer.Body.Close()
	if b, err := io.ReadAll(answer.Body); err != nil || string(b) != answerTo("GET", "/good") {
		g.err = fmt.Errorf("status %d: %q, %w", answer.StatusCode, b, err)
	}
	g.took = append(g.took, time.Since(begun))
}

func (g *good) askFor(n int) {
	for range n {
		g.ask()
	}
}

func (g *good) askUntil(done <-chan struct{}) {
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for {
		g.ask()
		select {
		case <-done:
			return
		case <-tick.C:
		}
	}
}

// stop says how long its requests took, at the 99th percentile.
func (g *good) stop(t *testing.T) time.Duration {
	t.Helper()
	g.client.CloseIdleConnections()
	if g.err != nil {
		t.Errorf("a good request failed: %v", g.err)
	}
	slices.Sort(g.took)
	return g.took[len(g.took)*99/100]
}

// While no memory is left new requests are refused, and no longer.
func TestNoMemoryRefusesNewRequests(t *testing.T) {
	const size = 1 << 20
	budget, counted := limits.NewBudget(size), &counts{of: make(map[limits.Name]int)}
	o := newOrigin(t)
	p := pair.New(t, o.address, pair.Options{Protocol: meshconfig.Protocol_PROTOCOL_HTTP1, Change: func(o *forward.Options) {
		o.Budget, o.Count = budget, counted
	}})
	c, err := net.Dial("tcp", p.Client.String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(patience))
	r := bufio.NewReader(c)
	for _, full := range []bool{false, true, false} {
		if full {
			budget.Must(size)
		}
		io.WriteString(c, get(""))
		m, _, err := readAnswer(r, "GET")
		want := map[bool]int{false: 200, true: 503}[full]
		if err != nil || m.status() != want || full != (m.value("Heddle-Reason") == "overloaded") {
			t.Fatalf("with memory full %v it was answered %v, %v", full, m, err)
		}
		if full {
			budget.Give(size)
		}
	}
	if counted.get(limits.Memory) != 1 {
		t.Errorf("counted %v", counted.of)
	}
}
