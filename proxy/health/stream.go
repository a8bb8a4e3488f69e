// SPDX-License-Identifier: Apache-2.0

package health

import (
	"context"
	"net/http"
	"sync"

	"github.com/heddle-mesh/heddle/proxy/http2"
	"github.com/heddle-mesh/heddle/proxy/message"
	"github.com/heddle-mesh/heddle/proxy/upstream"
)

// stream carries one request of HTTP/2. With what reads the answer it is an upstream.Opener.
type stream struct {
	body  []byte     // of the request; nil: none
	ended chan error // takes the first

	mu   sync.Mutex
	open *http2.Stream
	left bool
}

func newStream(body []byte) stream { return stream{body: body, ended: make(chan error, 1)} }

// ask sends the request of a check and waits for what o, which s is part of, makes of the answer.
func (s *stream) ask(ctx context.Context, c *Check, e *upstream.Endpoint, o upstream.Opener) error {
	waiting := e.Open(c.request(e), s.body == nil, o, c.connect)
	defer s.leave()
	select {
	case err := <-s.ended:
		return err
	case <-ctx.Done():
		waiting.Cancel()
		return ctx.Err()
	}
}

func (s *stream) end(err error) {
	select {
	case s.ended <- err:
	default:
	}
}

// leave gives up the stream, or the one that is to come.
func (s *stream) leave() {
	s.mu.Lock()
	s.left = true
	open := s.open
	s.mu.Unlock()
	if open != nil {
		open.Reset(http2.Cancel)
	}
}

// Opened implements upstream.Opener.
func (s *stream) Opened(open *http2.Stream, why *upstream.Failure) {
	if why != nil {
		s.end(why)
		return
	}
	s.mu.Lock()
	s.open = open
	left := s.left
	s.mu.Unlock()
	switch {
	case left:
		open.Reset(http2.Cancel)
	case s.body != nil:
		open.SendData(s.body, true)
	}
}

// Reset implements http2.Sink.
func (s *stream) Reset(why *http2.StreamError) { s.end(why) }

// Drained implements http2.Sink.
func (s *stream) Drained(int) {}

// onceHTTP2 asks for the path by HTTP/2.
func (c *Check) onceHTTP2(ctx context.Context, e *upstream.Endpoint) error {
	get := &get{stream: newStream(nil), check: c}
	return get.ask(ctx, c, e, get)
}

// get is a stream that carries a request for the path. It is an upstream.Opener.
type get struct {
	stream
	check *Check

	// Of the reader.
	status int
	answer []byte
}

// Head implements http2.Sink.
func (g *get) Head(h *message.Head, end bool) {
	if h.Status < http.StatusOK {
		return
	}
	if g.status = h.Status; end {
		g.finish()
	}
}

// Data implements http2.Sink. The window of a stream is larger than what is looked at.
func (g *get) Data(p []byte, end bool) {
	g.answer = append(g.answer, p[:min(len(p), maxBody-len(g.answer))]...)
	if end || len(g.answer) == maxBody {
		g.finish()
	}
}

// Trailer implements http2.Sink.
func (g *get) Trailer([]message.Field) { g.finish() }

// finish judges the answer.
func (g *get) finish() { g.end(g.check.accepts(g.status, g.answer)) }
