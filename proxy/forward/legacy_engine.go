// SPDX-License-Identifier: Apache-2.0

package forward

import (
	"context"
	"log"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/go-logr/logr"

	"github.com/heddle-mesh/heddle/internal/limits"
)

// Receive windows of HTTP/2: what one slow application, and all of a connection, can make the proxy hold.
const (
	streamWindow     = 128 << 10
	connectionWindow = 32 << 20
)

// engine speaks HTTP with callers, on connections that it is given. It rides on net/http, and is all that knows of it on
// this side.
type engine struct {
	handler http.Handler
	limits  limits.Set
	clock   func() time.Time
	log     *log.Logger
	servers sync.WaitGroup

	draining atomic.Bool
	mu       sync.Mutex
	http1    *server
	http2    *server
	open     map[*legacyConn]struct{}
	closed   bool
}

// server is an http.Server with the queue that it accepts from.
type server struct {
	*http.Server
	queue *queue
}

func newEngine(handler http.Handler, o Options) *engine {
	e := &engine{handler: handler, limits: o.Limits, clock: o.Clock, open: make(map[*legacyConn]struct{})}
	e.log = log.New(logWriter{o.Log.V(2)}, "", 0)
	e.http1 = e.start(func(p *http.Protocols) { p.SetHTTP1(true) })
	e.http2 = e.start(func(p *http.Protocols) { p.SetUnencryptedHTTP2(true) })
	return e
}

func (e *engine) start(protocols func(*http.Protocols)) *server {
	s := &server{
		Server: &http.Server{
			Handler:                      e.handler,
			DisableGeneralOptionsHandler: true, // "OPTIONS *" is the application's
			Protocols:                    new(http.Protocols),
			ReadHeaderTimeout:            e.limits.HeaderTime,
			IdleTimeout:                  e.limits.Idle,
			MaxHeaderBytes:               e.limits.HeaderBytes,
			ErrorLog:                     e.log,
			ConnState:                    connState,
			ConnContext: func(ctx context.Context, c net.Conn) context.Context {
				return context.WithValue(ctx, servedKey{}, c)
			},
			HTTP2: &http.HTTP2Config{
				MaxConcurrentStreams:          e.limits.Streams,
				MaxReceiveBufferPerStream:     streamWindow,
				MaxReceiveBufferPerConnection: connectionWindow,
				SendPingTimeout:               30 * time.Second,
				PingTimeout:                   15 * time.Second,
			},
		},
		queue: &queue{conns: make(chan net.Conn), done: make(chan struct{})},
	}
	protocols(s.Protocols)
	e.servers.Go(func() { s.Serve(s.queue) }) //nolint:errcheck // it ends when the queue does
	return s
}

// serve speaks HTTP on a connection until it ends.
func (e *engine) serve(ctx context.Context, c *legacyConn) {
	c.engine, c.done = e, make(chan struct{})
	if !e.admit(c) {
		c.Close()
	}
	stop := context.AfterFunc(ctx, func() { c.Close() })
	defer stop()
	<-c.done
	e.mu.Lock()
	delete(e.open, c)
	e.mu.Unlock()
}

// admit hands a connection to its server; false: they are closed.
func (e *engine) admit(c *legacyConn) bool {
	e.mu.Lock()
	if e.closed {
		e.mu.Unlock()
		return false
	}
	e.open[c] = struct{}{}
	s := e.http1
	if c.protocol == HTTP2 {
		s = e.http2
	}
	e.mu.Unlock()
	if s.queue.put(c) {
		return true
	}
	// It was replaced meanwhile, by drain.
	e.mu.Lock()
	s = e.http2
	e.mu.Unlock()
	return s.queue.put(c)
}

// drain has every answer of HTTP/1.1 close its connection, and sends GOAWAY on every connection of HTTP/2. Connections of
// HTTP/1.1 without a request are left alone: closing them would cross requests that are on their way.
func (e *engine) drain() {
	if e.draining.Swap(true) {
		return
	}
	e.mu.Lock()
	old := e.http2
	e.http2 = e.start(func(p *http.Protocols) { p.SetUnencryptedHTTP2(true) })
	e.mu.Unlock()
	old.queue.Close()
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	old.Shutdown(ctx) //nolint:errcheck // it starts GOAWAY and need not wait: serve does
}

// close cuts everything.
func (e *engine) close() {
	e.mu.Lock()
	e.closed = true
	open := make([]*legacyConn, 0, len(e.open))
	for c := range e.open {
		open = append(open, c)
	}
	http1, http2 := e.http1, e.http2
	e.mu.Unlock()
	for _, s := range []*server{http1, http2} {
		s.queue.Close()
		s.Close()
	}
	for _, c := range open {
		c.Close()
	}
	e.servers.Wait()
}

// queue is a net.Listener of connections that were accepted elsewhere.
type queue struct {
	conns chan net.Conn
	done  chan struct{}
	once  sync.Once
}

func (q *queue) put(c net.Conn) bool {
	select {
	case q.conns <- c:
		return true
	case <-q.done:
		return false
	}
}

// Accept implements net.Listener.
func (q *queue) Accept() (net.Conn, error) {
	select {
	case c := <-q.conns:
		return c, nil
	case <-q.done:
		return nil, net.ErrClosed
	}
}

// Close implements net.Listener.
func (q *queue) Close() error {
	q.once.Do(func() { close(q.done) })
	return nil
}

// Addr implements net.Listener.
func (q *queue) Addr() net.Addr { return &net.TCPAddr{} }

// logWriter gives net/http's complaints about single connections to the debug log.
type logWriter struct{ log logr.Logger }

func (w logWriter) Write(p []byte) (int, error) {
	w.log.Info("HTTP engine", "message", string(p))
	return len(p), nil
}
