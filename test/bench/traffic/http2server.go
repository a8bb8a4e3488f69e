// SPDX-License-Identifier: Apache-2.0

//go:build linux

package traffic

import (
	"strings"

	"golang.org/x/net/http2/hpack"

	"github.com/heddle-mesh/heddle/test/bench/epoll"
)

// http2Server answers as http1Server does, and gRPC: every message with one of a KiB, and the end with a status of 0.
type http2Server struct {
	conn    *epoll.Conn
	origin  *origin
	in      frames
	decoder *hpack.Decoder
	path    string
	trace   string
	grpc    bool
	header  []byte // of a block that goes on in a CONTINUATION

	window       int // of the connection, for what is sent
	streamWindow int // that a new stream has
	streams      map[uint32]*served
	blocked      []*served // in order, for want of window
	taken        int       // since the connection's window was given back
}

// served is a stream.
type served struct {
	id      uint32
	window  int
	grpc    bool
	have    int    // bytes of a message that came
	pending []byte // content that waits for a window
	end     bool   // the content ends with pending
	trailer bool   // and then come the trailer fields
}

// messageSize is a gRPC message of 1 KiB of payload, in its frame.
const messageSize = 5 + 1<<10

// requestMessage is the payload of a gRPC request's message.
const requestMessage = 128

var message = append([]byte{0, 0, 0, 4, 0}, make([]byte, messageSize-5)...)

func newHTTP2Server(c *epoll.Conn, o *origin) *http2Server {
	s := &http2Server{conn: c, origin: o, window: defaultWindow, streamWindow: defaultWindow, streams: map[uint32]*served{}}
	s.decoder = hpack.NewDecoder(4096, func(f hpack.HeaderField) {
		switch f.Name {
		case ":path":
			s.path = f.Value
		case "traceparent":
			s.trace = f.Value
		case "content-type":
			s.grpc = f.Value == "application/grpc"
		}
	})
	b := appendSettings(c.Buffer(), settingStreams, 1<<20, settingWindow, grantedStream)
	c.SetBuffer(appendWindowUpdate(b, grantedConnection))
	return s
}

func (s *http2Server) Closed(*epoll.Conn, error) {}

func (s *http2Server) Data(c *epoll.Conn, p []byte) {
	s.in.feed(p, s.frame)
	if s.taken > replenish {
		c.SetBuffer(appendWindowUpdate(c.Buffer(), s.taken))
		s.taken = 0
	}
}

func (s *http2Server) frame(f frame) bool {
	switch f.kind {
	case frameHeaders, frameContinuation:
		s.headers(f)
	case frameData:
		s.content(f)
	case frameReset:
		delete(s.streams, f.stream)
	case frameSettings:
		if f.flags&flagAck == 0 {
			f.settings(func(id uint16, value uint32) {
				if id == settingWindow {
					s.changeWindow(int(value))
				}
			})
			s.conn.SetBuffer(appendFrame(s.conn.Buffer(), frameSettings, flagAck, 0, 0))
		}
	case framePing:
		if f.flags&flagAck == 0 {
			s.conn.SetBuffer(append(appendFrame(s.conn.Buffer(), framePing, flagAck, 0, len(f.payload)), f.payload...))
		}
	case frameWindowUpdate:
		if f.stream == 0 {
			s.window += int(f.number())
		} else if st := s.streams[f.stream]; st != nil {
			st.window += int(f.number())
		}
		s.unblock()
	case frameGoAway:
	}
	return true
}

func (s *http2Server) changeWindow(to int) {
	for _, st := range s.streams {
		st.window += to - s.streamWindow
	}
	s.streamWindow = to
	s.unblock()
}

func (s *http2Server) headers(f frame) {
	block := f.content()
	if f.flags&flagEndHeaders == 0 || f.kind == frameContinuation {
		s.header = append(s.header, block...)
		if f.flags&flagEndHeaders == 0 {
			return
		}
		block, s.header = s.header, s.header[:0]
	}
	s.path, s.trace, s.grpc = "", "", false
	if _, err := s.decoder.Write(block); err != nil {
		s.conn.Close()
		return
	}
	st := s.streams[f.stream]
	if st == nil {
		st = &served{id: f.stream, window: s.streamWindow, grpc: s.grpc}
		s.streams[f.stream] = st
		s.answer(st)
	} else if st.grpc { // trailer fields: the client is done
		s.finish(st)
	}
}

// answer sends the head, and the content if there is nothing to wait for.
func (s *http2Server) answer(st *served) {
	b := s.conn.Buffer()
	at := len(b)
	b = appendFrame(b, frameHeaders, flagEndHeaders, st.id, 0)
	b = append(b, 0x88) // :status 200
	if st.grpc {
		b = appendField(b, "content-type", "application/grpc")
		b = appendField(b, "x-version", s.origin.version)
		s.conn.SetBuffer(setLength(b, at))
		return
	}
	body := s.origin.bodies[sizeOf([]byte(s.path))]
	length := "1024"
	switch len(body) {
	case 16 << 10:
		length = "16384"
	case 1 << 20:
		length = "1048576"
	}
	if strings.HasSuffix(s.path, "/seen") {
		body, length = []byte(s.trace), ""
	}
	b = appendField(b, "content-type", "text/plain")
	if length != "" {
		b = appendField(b, "content-length", length)
	}
	b = appendField(b, "x-version", s.origin.version)
	s.conn.SetBuffer(setLength(b, at))
	st.end = true
	s.send(st, body)
}

// content takes a request's content.
func (s *http2Server) content(f frame) {
	s.taken += len(f.payload)
	st := s.streams[f.stream]
	if st == nil || !st.grpc {
		return
	}
	const whole = 5 + requestMessage
	for st.have += len(f.content()); st.have >= whole; st.have -= whole {
		s.send(st, message)
	}
	if f.flags&flagEndStream != 0 {
		s.finish(st)
	}
}

func (s *http2Server) finish(st *served) {
	st.end, st.trailer = true, true
	s.send(st, nil)
}

// send sends what the windows allow of pending and body, and keeps the rest.
func (s *http2Server) send(st *served, body []byte) {
	if len(st.pending) > 0 {
		st.pending = append(st.pending, body...)
		return
	}
	rest := s.pass(st, body)
	if len(rest) > 0 {
		st.pending = append(st.pending[:0], rest...)
		s.blocked = append(s.blocked, st)
	}
}

// pass sends what the windows allow, the end too if that was all, and returns the rest.
func (s *http2Server) pass(st *served, body []byte) []byte {
	b, empty := s.conn.Buffer(), len(body) == 0
	for len(body) > 0 {
		n := min(len(body), maxFrame, s.window, st.window)
		if n <= 0 {
			s.conn.SetBuffer(b)
			return body
		}
		flags := byte(0)
		if n == len(body) && st.end && !st.trailer {
			flags = flagEndStream
		}
		b = append(appendFrame(b, frameData, flags, st.id, n), body[:n]...)
		body = body[n:]
		s.window -= n
		st.window -= n
	}
	switch {
	case st.trailer:
		at := len(b)
		b = appendFrame(b, frameHeaders, flagEndHeaders|flagEndStream, st.id, 0)
		b = setLength(appendField(b, "grpc-status", "0"), at)
	case st.end && empty:
		b = appendFrame(b, frameData, flagEndStream, st.id, 0)
	}
	if st.end {
		delete(s.streams, st.id)
	}
	s.conn.SetBuffer(b)
	return nil
}

func (s *http2Server) unblock() {
	blocked := s.blocked
	s.blocked = s.blocked[:0]
	for _, st := range blocked {
		if s.streams[st.id] != st {
			continue
		}
		if st.pending = s.pass(st, st.pending); len(st.pending) > 0 {
			s.blocked = append(s.blocked, st)
		}
	}
}

// appendField appends a literal that isn't indexed (RFC 7541, 6.2.2), with a name and a value of under 127 bytes.
func appendField(b []byte, name, value string) []byte {
	b = append(b, 0, byte(len(name))) //nolint:gosec // short, by contract
	b = append(b, name...)
	b = append(b, byte(len(value))) //nolint:gosec // short, by contract
	return append(b, value...)
}

// setLength writes the length of the frame that begins at an offset and ends where b does.
func setLength(b []byte, at int) []byte {
	n := len(b) - at - frameHead
	b[at], b[at+1], b[at+2] = byte(n>>16), byte(n>>8), byte(n) //nolint:gosec // the low bytes are what is wanted
	return b
}
