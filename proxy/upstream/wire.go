// SPDX-License-Identifier: Apache-2.0

package upstream

import (
	"errors"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"time"
)

// wire is a connection under an HTTP engine. It hides that it is TLS, so that the engine takes the protocol that it is
// told, and notes what tells whether a request on a connection that died can have been delivered.
type wire struct {
	net.Conn
	endpoint *Endpoint
	expires  time.Time // when it must take no new request any more; or zero
	once     sync.Once

	written atomic.Int64
	// busy is whether a request of HTTP/1.1 is on it, diedIdle whether its end was seen while none was.
	busy, diedIdle atomic.Bool
}

// Read notes an end that comes while no request is on the connection.
func (w *wire) Read(p []byte) (int, error) {
	n, err := w.Conn.Read(p)
	if err != nil && !w.busy.Load() {
		w.diedIdle.Store(true)
	}
	return n, err
}

// Write counts.
func (w *wire) Write(p []byte) (int, error) {
	n, err := w.Conn.Write(p)
	w.written.Add(int64(n))
	return n, err
}

// CloseWrite ends one direction, of an upgraded connection.
func (w *wire) CloseWrite() error {
	if c, ok := w.Conn.(interface{ CloseWrite() error }); ok {
		return c.CloseWrite()
	}
	return errors.ErrUnsupported
}

// Close closes the connection, once.
func (w *wire) Close() error {
	err := net.ErrClosed
	w.once.Do(func() {
		err = w.Conn.Close()
		w.endpoint.untrack(w)
	})
	return err
}

// pooled is a connection in a pool. Its fields are guarded by the pool's lock, but for wire and conn, which never change.
type pooled struct {
	wire *wire
	conn *http.ClientConn

	ready bool      // it is in pool.ready
	taken int       // how many took it and have not reserved room on it yet
	used  time.Time // when something was on it last
}

// expired says whether a leaf of the connection is over.
func (c *pooled) expired(now time.Time) bool {
	return !c.wire.expires.IsZero() && !now.Before(c.wire.expires)
}

// isIdle says whether nothing is on the connection, nor about to be.
func (c *pooled) isIdle() bool { return c.taken == 0 && c.conn.InFlight() == 0 }

// close closes the connection and what is on it. The pool's lock is not held: the engine may call the pool.
func (c *pooled) close() {
	c.conn.Close()
	c.wire.Close()
}

// Close implements io.Closer.
func (c *pooled) Close() error {
	c.close()
	return nil
}
