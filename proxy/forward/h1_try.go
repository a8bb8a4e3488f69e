// SPDX-License-Identifier: Apache-2.0

package forward

import (
	"errors"
	"io"
	"net/http"
	"time"

	"github.com/heddle-mesh/heddle/proxy/http1"
	"github.com/heddle-mesh/heddle/proxy/refusal"
	"github.com/heddle-mesh/heddle/proxy/upstream"
)

// maxStale is how many connections in a row may turn out to have been closed by the server while they were idle.
const maxStale = 3

// send sends the request to an endpoint, to a second one if the first did not get it, and relays the answer.
func (d *h1) send() *refusal.Error {
	x := &d.x
	if x.timeout > 0 {
		d.deadline = time.Now().Add(x.timeout)
	}
	x.outgoing(&d.out)
	for {
		failure := d.try()
		if why := d.over(); why != nil {
			return why
		}
		if failure == nil && !x.isUndelivered(&d.reply) {
			return d.relay()
		}
		answer := &d.reply
		if failure != nil {
			answer = nil
		}
		if !x.again(failure, answer, d.content.replayable()) {
			if failure == nil {
				return d.relay()
			}
			return x.why(failure)
		}
		if failure == nil {
			d.letGo()
		} else {
			d.drop()
		}
	}
}

// try sends the request to the endpoint that was picked and reads the head of its answer.
func (d *h1) try() *upstream.Failure {
	for stale := 0; ; stale++ {
		up, failure := d.borrow(stale == maxStale)
		if failure != nil {
			return failure
		}
		if !d.hold(up) {
			return &upstream.Failure{Reason: refusal.CallerGone, Undelivered: true, Err: errStopped}
		}
		err := d.ask(up)
		if err == nil {
			return nil
		}
		failure, again := up.Failed(err)
		if !again || stale == maxStale || !d.content.replayable() || d.over() != nil {
			return failure
		}
		d.drop()
	}
}

// errStopped is what a try fails with because its request must end.
var errStopped = errors.New("the request was given up")

// borrow borrows a connection to the endpoint. With fresh it is a new one, if that can be had.
func (d *h1) borrow(fresh bool) (endpointConn, *upstream.Failure) {
	if d.x.upstreamVersion() == upstream.HTTP2 {
		return d.translated()
	}
	e := d.x.pick.Endpoint
	if !fresh {
		if c := e.Reuse(d.x.event.Start); c != nil {
			return c, nil
		}
	}
	cancel := make(chan struct{})
	d.mu.Lock()
	if d.stopped != nil {
		close(cancel)
	} else {
		d.cancel = cancel
	}
	d.mu.Unlock()
	c, failure := e.Connect(d.deadline, cancel, 0)
	if failure != nil {
		return nil, failure
	}
	return c, nil
}

// ask sends the request, as far as it is here, and reads the head of the final answer.
func (d *h1) ask(up endpointConn) error {
	if err := up.WriteRequest(&d.out); err != nil {
		return err
	}
	waits, err := d.content.send(up)
	if err != nil {
		return err
	}
	d.patience(up)
	for err = d.first(up, waits); ; err = up.ReadResponse(&d.reply, &d.out) {
		if err != nil {
			if d.waitOn(up, err) {
				continue
			}
			return err
		}
		if s := d.reply.Status; s >= 200 || s == http.StatusSwitchingProtocols {
			return nil
		}
		d.x.inform(&d.reply)
		if d.conn.WriteInterim(&d.reply) != nil || d.conn.Flush() != nil {
			d.cut(&refusal.Error{Reason: refusal.CallerGone})
			return errStopped
		}
		d.written = d.conn.Written()
	}
}

// first reads the head of the first answer. If the request waits to be sent then it is, in the same breath.
func (d *h1) first(up endpointConn, waits bool) error {
	if c, ok := up.(*upstream.Conn1); ok && waits {
		return c.Ask(&d.reply, &d.out)
	}
	if waits {
		if err := up.Flush(); err != nil {
			return err
		}
	}
	return up.ReadResponse(&d.reply, &d.out)
}

// Whether the caller is still there is looked after when an answer takes longer than this. It is a bit more or less, so
// that a busy connection's deadline is seldom set.
const (
	patience = int(100 * time.Millisecond)
	grain    = int(64 * time.Millisecond)
)

// patience has the next reads from the endpoint end when it is time to see whether the caller is still there.
func (d *h1) patience(up endpointConn) {
	if d.content.running() {
		up.SetDeadline(d.deadline) // who sends the content sees it
		return
	}
	now := d.x.event.Start
	until := time.Unix(now.Unix(), int64(now.Nanosecond()/grain*grain+grain+patience))
	if !d.deadline.IsZero() && d.deadline.Before(until) {
		until = d.deadline
	}
	up.SetDeadline(until)
}

// waitOn says whether to go on waiting for the endpoint after a read has ended with an error.
func (d *h1) waitOn(up endpointConn, err error) bool {
	if !errors.Is(err, http1.ErrIdle) || d.over() != nil {
		return false
	}
	d.content.watch()
	up.SetDeadline(d.deadline)
	return true
}

// broken says what it means that the answer broke off with an error.
func (d *h1) broken(err error) *refusal.Error {
	if why := d.over(); why != nil {
		return why
	}
	if errors.Is(err, io.EOF) {
		err = io.ErrUnexpectedEOF
	}
	return &refusal.Error{Reason: refusal.UpstreamFailed, Detail: d.x.event.Endpoint.String(), Cause: err}
}
