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

// send sends the request to an endpoint, to others while it may and the ones before did not help, and relays the answer.
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
		if failure == nil && x.mayEnd(&d.reply, false) {
			return d.relay()
		}
		answer := &d.reply
		if failure != nil {
			answer = nil
		}
		wait, again := x.again(failure, answer, d.content.replayable())
		if !again {
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
		if wait > 0 {
			d.pause(wait)
			if why := d.over(); why != nil {
				return why
			}
			if why := x.next(); why != nil {
				return why
			}
		}
	}
}

// pause waits, unless the request has to end: that its caller goes away, too, is seen.
func (d *h1) pause(wait time.Duration) {
	d.content.watch()
	timer := time.NewTimer(wait)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-d.cancelled():
	}
}

// cancelled returns a channel that is closed when the request must end. The next call of hold or cancelled is the end of it.
func (d *h1) cancelled() <-chan struct{} {
	cancel := make(chan struct{})
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.stopped != nil {
		close(cancel)
	} else {
		d.cancel = cancel
	}
	return cancel
}

// try sends the request to the endpoint that was picked and reads the head of its answer.
func (d *h1) try() *upstream.Failure {
	x := &d.x
	d.begunTry()
	if x.fault != nil {
		if failure := d.suffer(); failure != nil {
			return failure
		}
	}
	if x.upstreamVersion() == upstream.HTTP1 {
		if failure := x.connect(); failure != nil {
			return failure
		}
	}
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
			d.headCame(up)
			return nil
		}
		if errors.Is(err, http1.ErrIdle) {
			x.starved = d.content.isStarved()
			s, translates := up.(*streamed)
			return &upstream.Failure{Reason: refusal.Timeout, Undelivered: translates && s.giveUp(), Err: errSlow}
		}
		failure, again := up.Failed(err)
		if !again || stale == maxStale || !d.content.replayable() || d.over() != nil {
			return failure
		}
		d.drop()
	}
}

// begunTry notes until when the try may take.
func (d *h1) begunTry() {
	d.limit = d.deadline
	if d.x.tryTimeout > 0 {
		d.limit = earlier(d.deadline, time.Now().Add(d.x.tryTimeout))
	}
	if d.x.idle > 0 {
		d.moved, d.active = d.content.count(), time.Now()
	}
}

// headCame notes that the answer has begun, which is all that a try is limited for.
func (d *h1) headCame(up endpointConn) {
	if d.x.tryTimeout == 0 {
		return
	}
	d.limit = d.deadline
	if s, ok := up.(*streamed); ok {
		s.extend(d.deadline)
	}
}

// suffer waits for the delay of the try's fault, and returns how that ends the try; nil: it goes on.
func (d *h1) suffer() *upstream.Failure {
	wait := d.x.fault.Delay
	if !d.limit.IsZero() {
		wait = min(wait, time.Until(d.limit))
	}
	if wait > 0 {
		d.pause(wait)
	}
	if !d.limit.IsZero() && !time.Now().Before(d.limit) {
		return &upstream.Failure{Reason: refusal.Timeout, Err: errSlow} // as if the endpoint were slow
	}
	return d.x.abort()
}

// errSlow is what a try fails with that takes longer than the route allows.
var errSlow = errors.New("no answer came in time")

// earlier returns the first of two times, of which the zero one never comes.
func earlier(a, b time.Time) time.Time {
	if a.IsZero() || !b.IsZero() && b.Before(a) {
		return b
	}
	return a
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
	if failure := d.x.queue(); failure != nil {
		return nil, failure
	}
	c, failure := e.Connect(d.limit, d.cancelled(), d.x.connectTimeout())
	d.x.queued()
	if failure != nil {
		if d.x.tryTimeout > 0 && failure.Reason == refusal.Overloaded && !time.Now().Before(d.limit) {
			failure.Reason, failure.Err = refusal.Timeout, errSlow
		}
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
		up.SetDeadline(d.until()) // who sends the content sees it
		return
	}
	now := d.x.event.Start
	until := time.Unix(now.Unix(), int64(now.Nanosecond()/grain*grain+grain+patience))
	up.SetDeadline(earlier(d.until(), until))
}

// waitOn says whether to go on waiting for the endpoint after a read has ended with an error.
func (d *h1) waitOn(up endpointConn, err error) bool {
	if !errors.Is(err, http1.ErrIdle) || d.over() != nil || d.late() {
		return false
	}
	d.content.watch()
	up.SetDeadline(d.until())
	return true
}

// until is when to look again whether something takes too long; or zero.
func (d *h1) until() time.Time {
	if d.x.idle == 0 {
		return d.limit
	}
	return earlier(d.limit, d.active.Add(d.x.idle))
}

// late says whether the try, or the time without a byte of content, has taken too long. The latter ends the request.
func (d *h1) late() bool {
	now := time.Now()
	if d.x.idle > 0 {
		if moved := d.content.count() + d.x.event.BytesOut; moved != d.moved {
			d.moved, d.active = moved, now
		}
		if now.Sub(d.active) >= d.x.idle {
			d.cut(d.x.quiet())
			return true
		}
	}
	return !d.limit.IsZero() && !now.Before(d.limit)
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
