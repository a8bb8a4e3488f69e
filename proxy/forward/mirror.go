// SPDX-License-Identifier: Apache-2.0

package forward

import (
	"context"
	"errors"
	"io"
	"math/rand/v2"
	"net/http"
	"sync"
	"time"

	"github.com/heddle-mesh/heddle/proxy/balance"
	"github.com/heddle-mesh/heddle/proxy/message"
	"github.com/heddle-mesh/heddle/proxy/outlier"
	"github.com/heddle-mesh/heddle/proxy/table"
	"github.com/heddle-mesh/heddle/proxy/upstream"
)

const (
	// mirrorField marks a copy, so that an application can tell. The host stays what it is: what serves the copies of a
	// virtual host is mostly another version of what serves the host.
	mirrorField = "X-Heddle-Mirror"
	// maxMirrors is how many copies may be under way. Who answers too slowly for that gets fewer.
	maxMirrors = 64
	// mirrorTime is how long one may take.
	mirrorTime = 15 * time.Second
)

// mirrors sends copies of requests, each on a goroutine of its own, and drops the answers. Nobody waits for them.
type mirrors struct {
	mu     sync.Mutex
	ctx    context.Context //nolint:containedctx // of all copies: they belong to nobody's request
	end    context.CancelFunc
	under  int
	closed bool
	work   sync.WaitGroup
}

// copied is a request that is sent once more.
type copied struct {
	side    *side
	to      *table.Backend
	head    message.Head
	content []byte
	hash    uint64
	hashed  bool
	version upstream.Version // of the request
	// choose is the version to be spoken to an endpoint.
	choose func(*upstream.Endpoint) upstream.Version
}

// copyTo makes a copy of the request as it was sent to its endpoint.
func (x *exchange) copyTo(out *message.Head, content []byte) *copied {
	c := &copied{side: x.side, to: x.mirror, head: cloneHead(out), content: content, version: x.version}
	protocol, port, version := x.event.Protocol, x.port, x.version
	c.choose = func(e *upstream.Endpoint) upstream.Version {
		other := exchange{side: c.side, port: port, version: version}
		other.event.Protocol = protocol
		return other.versionFor(e)
	}
	if keys := x.mirror.Cluster.Keys(); keys != nil {
		c.hash, c.hashed = keys.Hash(&x.asks)
	}
	c.head.Expect = false
	c.head.Del("expect")
	c.head.Del("trailer")
	c.head.Length = int64(len(content))
	c.head.Add(mirrorField, "true")
	return c
}

// send sends a copy, unless there are too many. It does not wait.
func (m *mirrors) send(c *copied) (sent bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.closed || m.under >= maxMirrors {
		return false
	}
	if m.ctx == nil {
		m.ctx, m.end = context.WithCancel(context.Background())
	}
	m.under++
	m.work.Go(func() {
		c.run(m.ctx)
		m.mu.Lock()
		defer m.mu.Unlock()
		m.under--
	})
	return true
}

// close gives up what is under way, and takes nothing more.
func (m *mirrors) close() {
	m.mu.Lock()
	m.closed = true
	if m.end != nil {
		m.end()
	}
	m.mu.Unlock()
	m.work.Wait()
}

// run sends the copy, and reads the answer to its end. What becomes of it says nothing of the endpoint.
func (c *copied) run(ctx context.Context) {
	cluster, now := c.to.Cluster, c.side.Clock()
	pick, ok := cluster.Endpoints().Pick(balance.Ask{
		Now: balance.Nanos(now), Random: rand.Uint64(), Hash: c.hash, Hashed: c.hashed, Copy: true,
	})
	if !ok {
		return
	}
	cluster.Use()
	defer func() {
		at := balance.Nanos(c.side.Clock())
		report(cluster, &pick, outlier.Unrelated, 0, at)
		pick.Done(balance.Neutral, 0, at)
	}()
	deadline := time.Now().Add(mirrorTime)
	ctx, cancel := context.WithDeadline(ctx, deadline)
	defer cancel()
	up := c.borrow(ctx, pick.Endpoint, deadline)
	if up == nil {
		return
	}
	up.SetDeadline(deadline)
	stop := context.AfterFunc(ctx, func() { up.Close() }) // it may be written to, of which the deadline knows nothing
	if err := c.exchange(up); !stop() || err != nil {
		up.Close()
		return
	}
	up.Put(c.side.Clock())
}

// borrow borrows a connection, or what looks like one, in the endpoint's version.
func (c *copied) borrow(ctx context.Context, e *upstream.Endpoint, deadline time.Time) endpointConn {
	timeout := c.to.Cluster.ConnectTimeout()
	if c.choose(e) == upstream.HTTP2 {
		s := &streamed{endpoint: e, budget: c.side.Budget, deadline: deadline, timeout: timeout}
		s.changed.L = &s.mu
		return s
	}
	if c.version == upstream.HTTP2 {
		toHTTP1(&c.head, len(c.content) == 0)
	}
	if conn := e.Reuse(c.side.Clock()); conn != nil {
		return conn
	}
	conn, failure := e.Connect(deadline, ctx.Done(), timeout)
	if failure != nil {
		return nil
	}
	return conn
}

// exchange sends the copy on a connection and reads the answer.
func (c *copied) exchange(up endpointConn) error {
	if err := up.WriteRequest(&c.head); err != nil {
		return err
	}
	if len(c.content) > 0 {
		if _, err := up.Write(c.content); err != nil {
			return err
		}
	}
	if err := up.End(nil); err != nil {
		return err
	}
	if err := up.Flush(); err != nil {
		return err
	}
	var answer message.Head
	for answer.Status < http.StatusOK {
		if err := up.ReadResponse(&answer, &c.head); err != nil {
			return err
		}
		if answer.Status == http.StatusSwitchingProtocols {
			return errors.New("it switches protocols")
		}
	}
	buf := takeBuffer()
	defer buf.give()
	for {
		if _, err := up.Read(buf[:]); err != nil {
			if errors.Is(err, io.EOF) {
				return nil
			}
			return err
		}
	}
}
