// SPDX-License-Identifier: Apache-2.0

package forward

import (
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"sync"
	"time"

	"github.com/heddle-mesh/heddle/internal/limits"
	"github.com/heddle-mesh/heddle/proxy/http1"
	"github.com/heddle-mesh/heddle/proxy/http2"
	"github.com/heddle-mesh/heddle/proxy/message"
	"github.com/heddle-mesh/heddle/proxy/refusal"
	"github.com/heddle-mesh/heddle/proxy/upstream"
)

// translated returns what makes a stream of HTTP/2 look like a connection of HTTP/1.1. The stream is opened by Flush.
func (d *h1) translated() (endpointConn, *upstream.Failure) {
	s := &streamed{
		endpoint: d.x.pick.Endpoint, budget: d.side.Budget, deadline: d.limit, timeout: d.x.connectTimeout(), try: &d.x,
	}
	s.changed.L = &s.mu
	return s, nil
}

// streamed is an endpointConn on a stream of HTTP/2: what comes on the stream is kept until it is read, which its window
// bounds, and what is written waits until it is on its way.
type streamed struct {
	endpoint *upstream.Endpoint
	budget   *limits.Budget // where what waits to be read is counted
	try      *exchange      // of which it is a try; nil: of none
	request  message.Head
	key      string // of the WebSocket handshake, or empty
	pending  []byte // content that waits for Flush
	finished bool   // End was called

	mu      sync.Mutex
	changed sync.Cond
	state   openState
	stream  *http2.Stream
	wait    *upstream.Waiting
	failure *upstream.Failure // why there is no stream
	reset   *http2.StreamError
	done    bool // the end of the request was sent
	over    bool // Close or Put was called

	unsent  int // bytes that are not on their way
	heads   []message.Head
	current []byte // content that is being read
	coming  []byte // content that has come since
	ended   bool   // all of the answer has come
	trailer []message.Field

	interrupted bool
	limit       time.Time     // of waiting for the answer
	timeout     time.Duration // of making a connection; 0: the default
	deadline    time.Time     // of the request, or try: of waiting for the stream, and until content is on its way
}

// openState is how far the stream is.
type openState uint8

const (
	notAsked openState = iota
	asked
	isOpen
	refused
)

const (
	// most is how much may wait to be on its way before who writes has to.
	mostUnsent = 32 << 10
	// mostInterim bounds the interim answers that nobody has read yet.
	mostInterim = 32
)

// WriteRequest implements endpointConn. The head is kept, for it may wait for a connection.
func (s *streamed) WriteRequest(h *message.Head) error {
	s.request = cloneHead(h)
	s.key = toHTTP2(&s.request)
	return nil
}

// Write implements endpointConn.
func (s *streamed) Write(p []byte) (int, error) {
	s.pending = append(s.pending, p...)
	if len(s.pending) < mostUnsent {
		return len(p), nil
	}
	return len(p), s.Flush()
}

// End implements endpointConn.
func (s *streamed) End(trailer []message.Field) error {
	s.finished = true
	if len(trailer) == 0 {
		return nil
	}
	if err := s.send(false); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.stream.SendTrailer(trailer)
	s.done = true
	return nil
}

// Flush implements endpointConn.
func (s *streamed) Flush() error { return s.send(s.finished && !s.tunnels()) }

// tunnels says whether bytes may follow instead of content.
func (s *streamed) tunnels() bool { return s.request.Method == methodConnect }

// send sends what waits, and with end the end of it.
func (s *streamed) send(end bool) error {
	with := end && len(s.pending) == 0 // the end goes with the head
	asked, err := s.open(with)
	if err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if (end && !s.done || len(s.pending) > 0) && (!asked || !with) {
		s.unsent += len(s.pending) - s.stream.SendData(s.pending, end)
	}
	s.done = s.done || end
	s.pending = s.pending[:0]
	for s.unsent > mostUnsent {
		if err := s.await(s.deadline); err != nil {
			return err
		}
	}
	return nil
}

// open asks for the stream, if nobody has, and waits for it. It says whether it asked.
func (s *streamed) open(end bool) (asks bool, err error) {
	s.mu.Lock()
	if s.state == notAsked {
		asks, s.state = true, asked
		s.mu.Unlock()
		wait := s.endpoint.Open(&s.request, end, (*streamSink)(s), s.timeout)
		s.waits(wait)
		if wait != nil && s.try != nil {
			if failure := s.try.queue(); failure != nil && wait.Cancel() {
				return asks, failure
			}
			defer s.try.queued()
		}
		s.mu.Lock()
	}
	defer s.mu.Unlock()
	for s.state == asked {
		if err := s.await(s.deadline); err != nil {
			return asks, err
		}
	}
	if s.failure != nil {
		return asks, s.failure
	}
	return asks, nil
}

// waits notes that the stream is waited for, unless w is nil or a later one was noted.
func (s *streamed) waits(w *upstream.Waiting) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.wait == nil {
		s.wait = w
	}
	if s.over {
		s.wait.Cancel()
	}
}

// await waits until something has changed, or a time, or returns why waiting is of no use. The lock is held.
func (s *streamed) await(until time.Time) error {
	switch {
	case s.reset != nil:
		return s.reset
	case s.over:
		return os.ErrClosed
	case s.interrupted:
		return http1.ErrInterrupted
	}
	if !until.IsZero() {
		left := time.Until(until)
		if left <= 0 {
			return http1.ErrIdle
		}
		timer := time.AfterFunc(left, s.wake)
		defer timer.Stop()
	}
	s.changed.Wait()
	return nil
}

func (s *streamed) wake() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.changed.Broadcast()
}

// ReadResponse implements endpointConn.
func (s *streamed) ReadResponse(h, request *message.Head) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	for len(s.heads) == 0 {
		if s.failure != nil {
			return s.failure
		}
		if err := s.await(s.limit); err != nil {
			return err
		}
	}
	next := &s.heads[0]
	fields := append(h.Fields[:0], next.Fields...)
	*h = *next
	h.Fields = fields
	s.heads = s.heads[1:]
	_, wanted := s.request.Get("te") // which is "trailers" by now
	keepTrailer(h, wanted && !s.request.HTTP10)
	s.agree(h)
	return nil
}

// agree makes a server's consent to an extended CONNECT one to an upgrade.
func (s *streamed) agree(h *message.Head) {
	if s.request.Protocol == "" || h.Status < 200 || h.Status > 299 {
		return
	}
	h.Status, h.Upgrade, h.Length = http.StatusSwitchingProtocols, s.request.Protocol, 0
	h.Del("content-length")
	if s.key != "" {
		h.Add("Sec-WebSocket-Accept", webSocketAccept(s.key))
	}
}

// Failed implements endpointConn.
func (s *streamed) Failed(err error) (failure *upstream.Failure, stale bool) {
	if errors.As(err, &failure) {
		return failure, false
	}
	failure = &upstream.Failure{Reason: refusal.UpstreamFailed, Err: err}
	var reset *http2.StreamError
	if errors.As(err, &reset) {
		failure.Undelivered = reset.Unprocessed
		stale = reset.Unprocessed && !reset.FromPeer
	}
	return failure, stale
}

// Peek implements endpointConn.
func (s *streamed) Peek() ([]byte, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.peek()
}

// peek returns content that is here. The lock is held.
func (s *streamed) peek() ([]byte, error) {
	if len(s.current) == 0 {
		s.current, s.coming = s.coming, s.current[:0]
	}
	switch {
	case len(s.current) > 0:
		return s.current, nil
	case s.ended:
		return nil, io.EOF
	case s.reset != nil:
		return nil, s.reset
	}
	return nil, nil
}

// Discard implements endpointConn.
func (s *streamed) Discard(n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.discard(n)
}

func (s *streamed) discard(n int) {
	n = min(n, len(s.current)) // it may be closed meanwhile
	s.current = s.current[n:]
	s.budget.Give(n)
	if n > 0 {
		s.stream.Consumed(n)
	}
}

// Read implements endpointConn.
func (s *streamed) Read(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for {
		here, err := s.peek()
		if err != nil {
			return 0, err
		}
		if len(here) > 0 {
			n := copy(p, here)
			s.discard(n)
			return n, nil
		}
		if err := s.await(s.limit); err != nil {
			return 0, err
		}
	}
}

// Await implements endpointConn: it waits until there is something to be read, be it an end. What waits to be read is on
// the stream, and no memory waits with it.
func (s *streamed) Await() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	for {
		here, err := s.peek()
		if len(here) > 0 || errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		if err := s.await(s.limit); err != nil {
			return err
		}
	}
}

// Release implements endpointConn: a stream borrows nothing.
func (s *streamed) Release() {}

// Trailer implements endpointConn.
func (s *streamed) Trailer() []message.Field {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.trailer
}

// SetDeadline implements endpointConn.
func (s *streamed) SetDeadline(t time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.limit = t
}

// extend gives the request more time than its try had.
func (s *streamed) extend(deadline time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.deadline = deadline
}

// Interrupt implements endpointConn.
func (s *streamed) Interrupt() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.interrupted = true
	s.changed.Broadcast()
}

// Put implements endpointConn. A stream is for one request.
func (s *streamed) Put(time.Time) { s.Close() }

// Close implements endpointConn.
func (s *streamed) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.over {
		return nil
	}
	s.over = true
	s.budget.Give(len(s.current) + len(s.coming))
	s.current, s.coming = nil, nil
	s.wait.Cancel()
	if s.stream != nil && (!s.ended || !s.done) {
		s.stream.Reset(http2.Cancel)
	}
	s.changed.Broadcast()
	return nil
}

// Raw implements endpointConn.
func (s *streamed) Raw() (buffered []byte, conn net.Conn) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.limit, s.deadline = time.Time{}, time.Time{}
	return nil, &streamTunnel{s}
}
