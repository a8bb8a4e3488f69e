// SPDX-License-Identifier: Apache-2.0

package forward

import (
	"errors"
	"net"
	"net/http"
	"os"
	"time"

	"github.com/heddle-mesh/heddle/proxy/http1"
	"github.com/heddle-mesh/heddle/proxy/http2"
	"github.com/heddle-mesh/heddle/proxy/message"
	"github.com/heddle-mesh/heddle/proxy/upstream"
)

// streamSink is a streamed as the Sink of its stream.
type streamSink streamed

// Opened implements upstream.Opener.
func (k *streamSink) Opened(stream *http2.Stream, why *upstream.Failure) {
	s := (*streamed)(k)
	if why != nil && errors.Is(why.Err, upstream.ErrNoExtendedConnect) {
		// A server may take no notice of Upgrade (RFC 9110, section 7.8).
		s.request.Protocol, s.request.Method = "", http.MethodGet
		s.waits(s.endpoint.Open(&s.request, true, k, s.timeout))
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.stream, s.failure, s.state = stream, why, isOpen
	if why != nil {
		s.state = refused
	} else if s.over {
		stream.Reset(http2.Cancel)
	}
	s.changed.Broadcast()
}

// giveUp gives up waiting for the stream. It says whether nothing was sent nor will be.
func (s *streamed) giveUp() (unsent bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.state == asked && s.wait.Cancel()
}

// Head implements http2.Sink.
func (k *streamSink) Head(h *message.Head, end bool) {
	kept := *h
	kept.Fields = append([]message.Field(nil), h.Fields...)
	s := (*streamed)(k)
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.heads) == mostInterim {
		s.reset = &http2.StreamError{Code: http2.EnhanceYourCalm, Detail: "too many interim answers"}
	}
	s.heads = append(s.heads, kept)
	s.ended = end
	s.changed.Broadcast()
}

// Data implements http2.Sink.
func (k *streamSink) Data(p []byte, end bool) {
	s := (*streamed)(k)
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.over {
		return
	}
	s.budget.Must(len(p))
	s.coming = append(s.coming, p...)
	s.ended = end
	s.changed.Broadcast()
}

// Trailer implements http2.Sink.
func (k *streamSink) Trailer(fields []message.Field) {
	s := (*streamed)(k)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.trailer, s.ended = append([]message.Field(nil), fields...), true
	s.changed.Broadcast()
}

// Reset implements http2.Sink. After the end of the answer it says that the rest of the request is not wanted.
func (k *streamSink) Reset(why *http2.StreamError) {
	s := (*streamed)(k)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.reset = why
	s.changed.Broadcast()
}

// Drained implements http2.Sink.
func (k *streamSink) Drained(n int) {
	s := (*streamed)(k)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.unsent -= n
	s.changed.Broadcast()
}

// streamTunnel is the connection that a streamed has become: bytes both ways.
type streamTunnel struct{ s *streamed }

// Read implements net.Conn.
func (t *streamTunnel) Read(p []byte) (int, error) {
	n, err := t.s.Read(p)
	if errors.Is(err, http1.ErrIdle) {
		err = os.ErrDeadlineExceeded
	}
	return n, err
}

// Write implements net.Conn.
func (t *streamTunnel) Write(p []byte) (int, error) {
	t.s.pending = append(t.s.pending[:0], p...)
	if err := t.s.send(false); err != nil {
		return 0, err
	}
	t.s.mu.Lock()
	defer t.s.mu.Unlock()
	if t.s.reset != nil { // reading does not tell when the server had ended its side
		return 0, t.s.reset
	}
	return len(p), nil
}

// CloseWrite ends the direction to the endpoint.
func (t *streamTunnel) CloseWrite() error { return t.s.send(true) }

// Close implements net.Conn.
func (t *streamTunnel) Close() error { return t.s.Close() }

// LocalAddr implements net.Conn.
func (t *streamTunnel) LocalAddr() net.Addr { return &net.TCPAddr{} }

// RemoteAddr implements net.Conn.
func (t *streamTunnel) RemoteAddr() net.Addr { return net.TCPAddrFromAddrPort(t.s.endpoint.Address) }

// SetDeadline implements net.Conn.
func (t *streamTunnel) SetDeadline(at time.Time) error { return t.SetReadDeadline(at) }

// SetReadDeadline implements net.Conn.
func (t *streamTunnel) SetReadDeadline(at time.Time) error {
	t.s.SetDeadline(at)
	t.s.wake()
	return nil
}

// SetWriteDeadline implements net.Conn: writing ends with the stream, which the endpoint's connection bounds.
func (t *streamTunnel) SetWriteDeadline(time.Time) error { return nil }
