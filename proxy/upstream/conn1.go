// SPDX-License-Identifier: Apache-2.0

package upstream

import (
	"errors"
	"fmt"
	"net"
	"sync"
	"time"

	"github.com/heddle-mesh/heddle/proxy/http1"
	"github.com/heddle-mesh/heddle/proxy/refusal"
	"github.com/heddle-mesh/heddle/proxy/socket"
)

// Conn1 is a connection of HTTP/1.1 to an endpoint, borrowed for one request. Put or Close gives it back.
type Conn1 struct {
	*http1.Conn
	endpoint *Endpoint
	expires  time.Time // when it must take no new request any more; or zero
	closing  sync.Once

	reused bool  // it has carried a request before
	mark   int64 // what was written before this one
	tick   int   // of the pool then
}

func newConn1(e *Endpoint, conn net.Conn, expires time.Time) *Conn1 {
	o := &e.registry.options
	c := &Conn1{Conn: http1.New(conn, &o.Limits, o.Count), endpoint: e, expires: expires}
	e.track(c, conn)
	return c
}

// expired says whether a leaf of the connection is over.
func (c *Conn1) expired(now time.Time) bool { return !c.expires.IsZero() && !now.Before(c.expires) }

// Put gives the connection back after a request, for others if it is good for that, and without a deadline.
func (c *Conn1) Put(now time.Time) {
	if !c.Reusable() || c.expired(now) {
		c.Close()
		return
	}
	c.Release()
	c.SetDeadline(time.Time{}) // of the request that is over
	if !c.endpoint.one.put(c) {
		c.Close()
	}
}

// Close closes the connection, once. Any goroutine may call it.
func (c *Conn1) Close() error {
	err := net.ErrClosed
	c.closing.Do(func() {
		err = c.NetConn().Close()
		c.endpoint.untrack(c, c.NetConn())
		c.endpoint.one.gone()
	})
	return err
}

// Failed says what it means for the request that the connection broke with an error before an answer had come. Stale says
// that it was the connection alone that was not good any more: the request can go to another one.
func (c *Conn1) Failed(err error) (failure *Failure, stale bool) {
	failure = &Failure{Reason: refusal.UpstreamFailed, Err: fmt.Errorf("from %v: %w", c.endpoint.Address, err)}
	var alert *net.OpError
	_, secured := c.NetConn().(*socket.TLS)
	switch {
	case c.Written() == c.mark:
		failure.Undelivered = true
		return failure, c.reused
	case !c.reused && secured && errors.As(err, &alert) && alert.Op == "remote error":
		// In TLS 1.3 a client is done before the server has judged its certificate.
		failure.Reason, failure.Undelivered = refusal.ConnectFailed, true
	}
	return failure, false
}
