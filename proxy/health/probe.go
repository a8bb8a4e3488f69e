// SPDX-License-Identifier: Apache-2.0

package health

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"slices"
	"time"

	"github.com/heddle-mesh/heddle/proxy/message"
	"github.com/heddle-mesh/heddle/proxy/upstream"
)

// onceHTTP asks for the path by HTTP/1.1, on a connection that is there or a new one.
func (c *Check) onceHTTP(ctx context.Context, e *upstream.Endpoint) error {
	until, _ := ctx.Deadline()
	for {
		conn := e.Reuse(time.Now())
		if conn == nil {
			var why *upstream.Failure
			if conn, why = e.Connect(until, ctx.Done(), c.connect); why != nil {
				return why
			}
		}
		stale, err := c.ask(ctx, conn, c.request(e))
		if !stale || ctx.Err() != nil {
			return err
		}
	}
}

// ask asks on a connection, and gives it back. Stale says that it was the connection alone that was not good any more.
func (c *Check) ask(ctx context.Context, conn *upstream.Conn1, request *message.Head) (stale bool, err error) {
	stop := context.AfterFunc(ctx, func() { conn.Close() })
	var answer message.Head
	err = errors.Join(conn.WriteRequest(request), conn.End(nil), conn.Flush())
	for err == nil && answer.Status < 200 {
		err = conn.ReadResponse(&answer, request)
	}
	if err != nil {
		stop()
		failure, old := conn.Failed(err)
		conn.Close()
		return old, failure
	}
	ended, err := c.judge(conn, answer.Status)
	if stop() && ended {
		conn.Put(time.Now())
	} else {
		conn.Close()
	}
	return false, err
}

// judge judges an answer by its status and the begin of its body. Ended says that this was all of it.
func (c *Check) judge(body io.Reader, status int) (ended bool, err error) {
	var buf [maxBody]byte
	n := 0
	for n < len(buf) && err == nil { // not io.ReadFull, to which a body that is cut is one that is short
		var more int
		more, err = body.Read(buf[n:])
		n += more
	}
	ended = errors.Is(err, io.EOF)
	if err != nil && !ended {
		return false, fmt.Errorf("reading the body: %w", err)
	}
	return ended, c.accepts(status, buf[:n])
}

// accepts says what is wrong with an answer, given the begin of its body.
func (c *Check) accepts(status int, body []byte) error {
	switch {
	case len(c.codes) == 0 && !isWell(status),
		len(c.codes) > 0 && !slices.Contains(c.codes, uint32(status)):
		return fmt.Errorf("it answers %d", status)
	case c.body != nil && !c.body.Match(body):
		return errors.New("the body does not match")
	}
	return nil
}

// isWell says whether a status is healthy where nobody said which are. 429 is: who sheds load is there, and is to get less of
// it, not none. The limits of its own proxy answer it, too.
func isWell(status int) bool {
	return status >= http.StatusOK && status < http.StatusBadRequest || status == http.StatusTooManyRequests
}

// settle is how long a connection to another proxy must hold. That proxy is reached before its application is, and closes
// the connection if that is not there.
const settle = 200 * time.Millisecond

// onceTCP connects.
func (c *Check) onceTCP(ctx context.Context, e *upstream.Endpoint) error {
	conn, err := e.Dial(ctx, upstream.ALPNTCP, c.connect)
	if err != nil {
		return err
	}
	defer conn.Close()
	if !e.MTLS() {
		return nil
	}
	if err := conn.SetReadDeadline(time.Now().Add(min(settle, c.Timeout/2))); err != nil {
		return err
	}
	stop := context.AfterFunc(ctx, func() { _ = conn.SetReadDeadline(time.Unix(1, 0)) })
	defer stop()
	if _, err = conn.Read(make([]byte, 1)); err == nil || errors.Is(err, os.ErrDeadlineExceeded) {
		return ctx.Err()
	}
	return fmt.Errorf("it closes the connection: %w", err)
}
