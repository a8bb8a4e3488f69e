// SPDX-License-Identifier: Apache-2.0

package forward

import (
	"sync"
	"time"

	"github.com/heddle-mesh/heddle/proxy/http2"
	"github.com/heddle-mesh/heddle/proxy/message"
)

// keepAlive2 is the silence after which a caller is asked whether it is still there.
const keepAlive2 = 30 * time.Second

// h2conn is a caller's connection of HTTP/2.
//
// A stream of it and the stream, or connection of HTTP/1.1, that carries it on are joined by an h2relay, which lives from
// events: of the two connections' readers and writers, of the pool, of timers and of policies. There is no goroutine per
// stream, and nothing here waits. Locks: h2relay.mu before those of liveConn and of package http2; the pool's is never
// held together with it.
type h2conn struct {
	side   *side
	served *served
	config http2.Config
	http2  *http2.Conn
}

// serveHTTP2 speaks HTTP/2 with a caller until its connection ends.
func (s *side) serveHTTP2(c *served) {
	h := &h2conn{side: s, served: c}
	h.config = http2.Config{
		Limits: &s.Limits, Count: s.Count, Budget: s.Budget, KeepAlive: keepAlive2, ExtendedConnect: true, Refused: h.refused,
	}
	h.http2 = http2.Server(c.content, &h.config, h.accept)
	if !s.two.add(h.http2) {
		c.content.Close()
		return
	}
	defer s.two.remove(h.http2)
	h.http2.Serve() //nolint:errcheck // every request of it has told why it failed
}

// accept makes what carries a new stream.
func (h *h2conn) accept(s *http2.Stream) http2.Sink {
	return &h2relay{on: h, caller: s}
}

// refused reports a request that could not be read.
func (h *h2conn) refused(status int, detail string) {
	var answer message.Head
	h.side.complain(h.served, "http2", status, detail, &answer)
}

// h2set is the open connections of HTTP/2 of one side.
type h2set struct {
	mu     sync.Mutex
	conns  map[*http2.Conn]struct{}
	closed bool
}

// add is false when no connection is taken any more.
func (s *h2set) add(c *http2.Conn) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return false
	}
	if s.conns == nil {
		s.conns = make(map[*http2.Conn]struct{})
	}
	s.conns[c] = struct{}{}
	return true
}

func (s *h2set) remove(c *http2.Conn) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.conns, c)
}

func (s *h2set) all() []*http2.Conn {
	s.mu.Lock()
	defer s.mu.Unlock()
	conns := make([]*http2.Conn, 0, len(s.conns))
	for c := range s.conns {
		conns = append(conns, c)
	}
	return conns
}

// drain asks every caller to leave: GOAWAY. Those who come later are told so with their first request.
func (s *h2set) drain() {
	for _, c := range s.all() {
		c.Drain()
	}
}

// close cuts every connection, and those that would come.
func (s *h2set) close() {
	s.mu.Lock()
	s.closed = true
	s.mu.Unlock()
	for _, c := range s.all() {
		c.Close(nil)
	}
}
