// SPDX-License-Identifier: Apache-2.0

package hostile

import (
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"golang.org/x/net/http2"

	"github.com/heddle-mesh/heddle/internal/limits"
)

// ofHTTP2 are those that callers of HTTP/2 make.
var ofHTTP2 = []*Attack{
	{Name: "too many streams", Limit: limits.Streams, Port: HTTP2, Rate: seldom, do: func(v *visit) error {
		d, err := v.caller()
		if err != nil {
			return err
		}
		var last uint32
		for range streams + 1 {
			last = d.Next()
			d.Head(last, v.post("content-length", "3"), false)
		}
		return wants(d, last, End{Reset: true, Code: http2.ErrCodeRefusedStream})
	}},
	goesAway("rapid resets", limits.Resets, seldom, func(v *visit, d *Caller) {
		for range 3 * resets {
			s := d.Next()
			d.Head(s, v.request("GET"), true)
			_ = d.Framer.WriteRSTStream(s, http2.ErrCodeCancel)
		}
	}),
	goesAway("resets that the proxy is made to send", limits.Resets, seldom, func(v *visit, d *Caller) {
		for range 3 * resets {
			s := d.Next()
			d.Head(s, v.request("GET"), true)
			_ = d.Framer.WriteWindowUpdate(s, 0)
		}
	}),
	goesAway("a flood of PING", limits.ControlFrames, Rate, func(_ *visit, d *Caller) {
		for range 500 {
			_ = d.Framer.WritePing(false, [8]byte{1})
		}
	}),
	goesAway("a flood of SETTINGS", limits.ControlFrames, Rate, func(_ *visit, d *Caller) {
		for range 500 {
			_ = d.Framer.WriteSettings()
		}
	}),
	goesAway("a flood of empty DATA", limits.ControlFrames, Rate, func(v *visit, d *Caller) {
		s := d.Next()
		d.Head(s, v.post(), false)
		for range 500 {
			_ = d.Framer.WriteData(s, false, nil)
		}
	}),
	goesAway("a flood of PRIORITY", limits.ControlFrames, Rate, func(_ *visit, d *Caller) {
		for range 500 {
			_ = d.Framer.WritePriority(1, http2.PriorityParam{StreamDep: 3})
		}
	}),
	goesAway("a flood of CONTINUATION", limits.Continuations, Rate, func(v *visit, d *Caller) {
		s := d.Next()
		_ = d.Framer.WriteHeaders(http2.HeadersFrameParam{StreamID: s, BlockFragment: d.Block(v.request("GET")...), EndStream: true})
		for range 100 {
			_ = d.Framer.WriteContinuation(s, false, nil)
		}
	}),
	{Name: "a bomb of HPACK", Limit: limits.HeaderBytes, Port: HTTP2, do: func(v *visit) error {
		d, err := v.caller()
		if err != nil {
			return err
		}
		block := d.Indexed(append(v.request("GET"), Field{Name: "x", Value: strings.Repeat("y", 3000)})...)
		block = append(block, strings.Repeat("\xbe", 1000)...) // the newest entry of the table, again and again
		s := d.Next()
		_ = d.Framer.WriteHeaders(http2.HeadersFrameParam{StreamID: s, BlockFragment: block, EndStream: true, EndHeaders: true})
		return wants(d, s, End{Status: "431"})
	}},
	{Name: "more than a stream's window", Limit: limits.StreamWindow, Uncounted: true, Rate: seldom, do: (*visit).overflowsStream},
	{Name: "more than a connection's window", Limit: limits.ConnectionWindow, Uncounted: true, Rate: seldom, do: (*visit).overflowsConnection},
	{Name: "streams without a window", Limit: limits.SendIdle, Port: HTTP2, Rate: seldom, do: func(v *visit) error {
		d, err := v.caller(http2.Setting{ID: http2.SettingInitialWindowSize, Val: 0})
		if err != nil {
			return err
		}
		var last uint32
		for range some {
			last = d.Next()
			d.Head(last, v.requestFor("GET", v.Large), true)
		}
		return wants(d, last, End{Status: "200", Reset: true, Code: http2.ErrCodeCancel})
	}},
	{Name: "streams that nobody reads", Limit: limits.SendIdle, Port: HTTP2, Rate: seldom, do: (*visit).leavesStreams},
}

// some is how many streams an attack takes that needs more than one. Their windows are more than the connection's together.
const some = 8

// goesAway is an attack by frames that end the connection.
func goesAway(name string, limit limits.Name, rate float64, frames func(*visit, *Caller)) *Attack {
	return &Attack{Name: name, Limit: limit, Port: HTTP2, Rate: rate, do: func(v *visit) error {
		d, err := v.caller()
		if err != nil {
			return err
		}
		frames(v, d) // the peer may end it before all is sent
		return wants(d, never, End{GoAway: true, Code: http2.ErrCodeEnhanceYourCalm})
	}}
}

// never is a stream that does not end before the connection does.
const never = 1 << 30

// wants waits for the end of a stream.
func wants(d *Caller, stream uint32, want End) error {
	e, err := d.Await(stream)
	if err != nil {
		return fmt.Errorf("it came to no end, %+v: %w", e, err)
	}
	if e.Body = ""; e != want {
		return fmt.Errorf("it ended with %+v, want %+v", e, want)
	}
	return nil
}

func (v *visit) caller(settings ...http2.Setting) (*Caller, error) {
	c, err := v.dial(v.HTTP2)
	if err != nil {
		return nil, err
	}
	return NewCaller(c, settings...), nil
}

func (v *visit) requestFor(method, path string, more ...string) []Field {
	return Fields(append([]string{":method", method, ":scheme", "http", ":authority", v.Authority, ":path", path}, more...)...)
}

func (v *visit) request(method string, more ...string) []Field {
	return v.requestFor(method, v.Path, more...)
}

func (v *visit) post(more ...string) []Field { return v.request("POST", more...) }

// Fields makes a head of names and values.
func Fields(s ...string) []Field {
	var out []Field
	for pair := range slices.Chunk(s, 2) {
		out = append(out, Field{Name: pair[0], Value: pair[1]})
	}
	return out
}

// settled makes a caller on whose connection the proxy's settings hold, with streams that the application does not read.
func (v *visit) settled(n int) (*Caller, []uint32, error) {
	c, err := v.dial(v.HTTP1) // what is stuck is a connection to the application, which no other stream shares
	if err != nil {
		return nil, nil, err
	}
	d := NewCaller(c)
	for done := false; !done; {
		f, err := d.Framer.ReadFrame()
		if err != nil {
			return nil, nil, err
		}
		if s, ok := f.(*http2.SettingsFrame); ok && !s.IsAck() {
			done = true
		}
	}
	_ = d.Framer.WriteSettingsAck()
	var open []uint32
	for range n {
		open = append(open, d.Next())
		d.Head(open[len(open)-1], v.requestFor("POST", v.Stuck), false)
	}
	return d, open, nil
}

// overflowsStream sends content on a stream without a look at its window.
func (v *visit) overflowsStream() error {
	d, open, err := v.settled(1)
	if err != nil {
		return err
	}
	d.Mute = true
	v.running.Go(func() {
		content := make([]byte, 16<<10)
		for d.Framer.WriteData(open[0], false, content) == nil { // the sockets on the way are full some time
		}
	})
	return wants(d, open[0], End{Reset: true, Code: http2.ErrCodeFlowControl})
}

// overflowsConnection sends content on streams as their windows let it, without a look at the connection's.
func (v *visit) overflowsConnection() error {
	d, open, err := v.settled(some)
	if err != nil {
		return err
	}
	content := make([]byte, streamWindow)
	for _, s := range open {
		_ = d.Framer.WriteData(s, false, content)
	}
	for {
		f, err := d.Framer.ReadFrame()
		if err != nil {
			return fmt.Errorf("no GOAWAY: %w", err)
		}
		switch f := f.(type) {
		case *http2.GoAwayFrame:
			if f.ErrCode != http2.ErrCodeFlowControl {
				return fmt.Errorf("GOAWAY of %v", f.ErrCode)
			}
			return nil
		case *http2.WindowUpdateFrame:
			if f.StreamID != 0 {
				_ = d.Framer.WriteData(f.StreamID, false, content[:min(int(f.Increment), len(content))])
			}
		}
	}
}

// streamsLookedAt is when the send-idle of streams has been seen to be over.
const streamsLookedAt = sendIdle + 10*time.Second

// leavesStreams asks for much on every stream, with windows that let all of it come, and takes none of it.
func (v *visit) leavesStreams() error {
	const wide = 1 << 30
	c, err := v.dial(v.HTTP2)
	if err != nil {
		return err
	}
	if err := c.SetReadBuffer(little); err != nil {
		return err
	}
	wait := v.awaits(streamsLookedAt)
	d := NewCaller(c, http2.Setting{ID: http2.SettingInitialWindowSize, Val: wide})
	_ = d.Framer.WriteWindowUpdate(0, wide)
	var last uint32
	for range some {
		last = d.Next()
		d.Head(last, v.requestFor("GET", v.Large), true)
	}
	wait()
	if e, err := d.Await(last); err == nil && !e.Reset && !e.GoAway {
		return fmt.Errorf("the last answer came: %s with %d bytes", e.Status, len(e.Body))
	}
	if _, err := io.Copy(io.Discard, c); err != nil && !wasReset(err) {
		return fmt.Errorf("the connection did not end: %w", err)
	}
	return nil
}
