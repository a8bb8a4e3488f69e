// SPDX-License-Identifier: Apache-2.0

package forward

import (
	"context"
	"time"

	"github.com/heddle-mesh/heddle/internal/identity"
	"github.com/heddle-mesh/heddle/proxy/http1"
	"github.com/heddle-mesh/heddle/proxy/observe"
	"github.com/heddle-mesh/heddle/proxy/refusal"
	"github.com/heddle-mesh/heddle/proxy/table"
	"github.com/heddle-mesh/heddle/proxy/upstream"
)

// served is a caller's connection on which HTTP is spoken: what all of its requests have in common.
type served struct {
	*Conn
	content  Peeker // the connection, or what is inside its mesh TLS
	protocol Protocol

	// Of one direction each; nil when every request is refused.
	destination *table.Destination
	app         *upstream.Endpoint
	policy      *table.PortPolicy

	peer *identity.ID // who called over mesh TLS, or nil
	// identity is what the application is told of the peer; or empty.
	identity string
	expires  time.Time      // when the peer's leaf expires; zero without mesh TLS
	refused  *refusal.Error // why every request of it is refused, or nil
	series   *observe.Bound // of what fails before a request is understood

	self *identity.ID // the workload's own; outbound, once it was asked for and there was one

	live liveConn // what is being carried on it inbound
	over func()   // lets go of what is held for it; or nil
	done func()   // says that it is served no more

	// Of HTTP/1.1.
	side  *side
	one   *http1.Conn
	until time.Time // how long a request is waited for
}

// serve carries a connection. Open finds out what it is, carries what is not HTTP, and returns what is.
func (s *side) serve(ctx context.Context, c *Conn, open func(context.Context, *Conn) *served) (rest Rest) {
	done, ok := s.begin(c)
	if !ok {
		c.Close()
		return nil
	}
	var h *served
	defer func() {
		switch {
		case rest != nil:
		case h != nil:
			h.finish()
		default:
			done()
			c.Close()
		}
	}()
	if h = open(ctx, c); h != nil {
		h.done = done
		rest = s.http(h)
	}
	return rest
}

// finish ends it.
func (c *served) finish() {
	if c.one != nil {
		c.one.Free()
	}
	if c.content != c.Peeker {
		c.content.Close()
	}
	if c.over != nil {
		c.over()
	}
	c.done()
	c.Close()
}

// own is the identity of the workload that calls, or nil before its binding has come. It never changes. One goroutine
// begins a connection's requests.
func (c *served) own(tables *table.Store) *identity.ID {
	if c.self == nil {
		c.self = ownIdentity(tables)
	}
	return c.self
}

func ownIdentity(tables *table.Store) *identity.ID {
	text := tables.Policy().Identity
	if text == "" {
		return nil
	}
	id, err := identity.Parse(text)
	if err != nil {
		return nil
	}
	return &id
}

// leave says whether the connection should take no further request: the proxy drains, or the caller's leaf is over.
func (s *side) leave(c *served, now time.Time) bool {
	return s.leaving.Load() || !c.expires.IsZero() && !now.Before(c.expires)
}

// http speaks HTTP with a caller until its connection ends or rests.
func (s *side) http(c *served) Rest {
	if c.protocol == HTTP1 {
		return s.serveHTTP1(c)
	}
	s.serveHTTP2(c)
	return nil
}
