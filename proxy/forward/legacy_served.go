// SPDX-License-Identifier: Apache-2.0

package forward

import (
	"bytes"
	"errors"
	"fmt"
	"net"
	"net/http"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/heddle-mesh/heddle/internal/identity"
	"github.com/heddle-mesh/heddle/proxy/observe"
	"github.com/heddle-mesh/heddle/proxy/refusal"
	"github.com/heddle-mesh/heddle/proxy/table"
	"github.com/heddle-mesh/heddle/proxy/upstream"
)

// served is a connection on which the engine speaks HTTP.
type legacyConn struct {
	*Conn
	content  Peeker // the connection, or what is inside its mesh TLS
	protocol Protocol

	// Of one direction each.
	destination *table.Destination
	app         *upstream.Endpoint

	peer    *identity.ID   // who called over mesh TLS, or nil
	expires time.Time      // when the peer's leaf expires; zero without mesh TLS
	refused *refusal.Error // why every request of it is refused, or nil
	series  observe.Series // of what fails before a request is understood
	labels  observe.Labels

	engine *engine
	done   chan struct{}
	once   sync.Once
	state  atomic.Int32
}

// What a connection of HTTP/1.1 is at.
const (
	waiting int32 = iota // for a request
	reading              // bytes of one have come
	handled              // it is whole and was handed to the handler
)

// servedKey is under which a request's context carries its *legacyConn.
type servedKey struct{}

// connOf returns the connection of a request.
func connOf(r *http.Request) *legacyConn {
	c, _ := r.Context().Value(servedKey{}).(*legacyConn)
	return c
}

// connState follows the requests of a connection.
func connState(conn net.Conn, state http.ConnState) {
	c, ok := conn.(*legacyConn)
	if !ok || c.protocol != HTTP1 {
		return
	}
	switch state {
	case http.StateActive:
		c.state.CompareAndSwap(waiting, reading)
	case http.StateIdle:
		c.state.Store(waiting)
	case http.StateClosed:
		if c.state.Load() == reading {
			c.state.Store(handled)
			_ = c.complain(http.StatusBadRequest, errors.New("the request's header did not arrive, or not in time"))
		}
	case http.StateNew, http.StateHijacked:
	}
}

// Read implements net.Conn.
func (c *legacyConn) Read(p []byte) (int, error) { return c.content.Read(p) }

// Write implements net.Conn. It replaces the answers that net/http gives itself, to what it cannot read.
func (c *legacyConn) Write(p []byte) (int, error) {
	if c.protocol != HTTP1 || c.state.Load() == handled {
		return c.content.Write(p)
	}
	status, message, ok := ownAnswer(p)
	if !ok {
		return c.content.Write(p)
	}
	c.state.Store(handled)
	why := c.complain(status, errors.New(message))
	body := why.Body()
	answer := fmt.Sprintf("HTTP/1.1 %d %s\r\nContent-Type: text/plain; charset=utf-8\r\n%s: %s\r\nConnection: close\r\n"+
		"Content-Length: %d\r\n\r\n%s", status, http.StatusText(status), refusal.Header, why.Reason, len(body), body)
	if _, err := c.content.Write([]byte(answer)); err != nil {
		return 0, err
	}
	return len(p), nil
}

// ownAnswer recognises an answer that net/http gives before there is a request: it starts with these two fields.
func ownAnswer(p []byte) (status int, message string, ok bool) {
	const fields = "Content-Type: text/plain; charset=utf-8\r\nConnection: close\r\n\r\n"
	line, rest, found := bytes.Cut(p, []byte("\r\n"))
	line, isAnswer := bytes.CutPrefix(line, []byte("HTTP/1.1 "))
	message, isOwn := string(rest), bytes.HasPrefix(rest, []byte(fields))
	if !found || !isAnswer || !isOwn || len(line) < 3 {
		return 0, "", false
	}
	status, err := strconv.Atoi(string(line[:3]))
	return status, message[len(fields):], err == nil && status >= 400
}

// complain reports a request that could not be read.
func (c *legacyConn) complain(status int, err error) *refusal.Error {
	why := refusal.Newf(refusal.BadRequest, "%v", err)
	now := c.engine.clock()
	if c.series != nil {
		c.series.Observe(&observe.Event{
			Labels: c.labels, Protocol: "http1", Status: status, GRPCStatus: -1, Start: now, MTLS: c.peer != nil, Peer: c.peer,
			Source: c.Source, Destination: c.Destination, Reason: why.Reason, Err: why,
		})
	}
	return why
}

// CloseWrite ends one direction, of an upgraded connection.
func (c *legacyConn) CloseWrite() error { return c.content.CloseWrite() }

// Close closes the connection, once.
func (c *legacyConn) Close() error {
	err := net.ErrClosed
	c.once.Do(func() {
		err = c.content.Close()
		close(c.done)
	})
	return err
}

// leave says whether the connection should take no further request: the proxy drains, or the caller's leaf is over.
func (c *legacyConn) leave(now time.Time) bool {
	return c.engine.draining.Load() || !c.expires.IsZero() && !now.Before(c.expires)
}
