// SPDX-License-Identifier: Apache-2.0

package forward

import (
	"net/http"
	"time"

	"github.com/heddle-mesh/heddle/proxy/http2"
	"github.com/heddle-mesh/heddle/proxy/message"
	"github.com/heddle-mesh/heddle/proxy/refusal"
	"github.com/heddle-mesh/heddle/proxy/upstream"
)

// sender is the endpoint's side of a try: a stream of HTTP/2, or what makes a connection of HTTP/1.1 look like one.
type sender interface {
	SendData(p []byte, end bool) (passed int)
	SendTrailer(fields []message.Field)
	Reset(code http2.Code)
	Consumed(n int)
}

// h2try is one try of a request, and the Sink of the endpoint's stream. Its fields are guarded by the relay's lock. When
// it is not the relay's current one any more, events do nothing.
type h2try struct {
	r      *h2relay
	stream sender      // nil until it is open
	wait   waiting     // what it waits for, or nil
	owed   int         // bytes to be consumed as soon as it is open
	flown  int         // bytes of the request that are on their way in it
	whole  bool        // the request ended with its head
	slow   *time.Timer // runs until the answer begins, if the route limits that
	waited bool        // the delay of the try's fault is over
}

// waiting is what a try waits for. Cancel gives it up, and says whether nothing was sent nor will be.
type waiting interface{ Cancel() (unsent bool) }

// afterDelay is what a try waits for whose fault delays it.
type afterDelay struct{ *time.Timer }

// Cancel implements waiting.
func (d afterDelay) Cancel() bool { return d.Stop() }

// newTry makes the next try, of which the caller calls open when it holds no lock. The lock is held.
func (r *h2relay) newTry() *h2try {
	t := &r.first
	if t.r != nil {
		t = &h2try{}
	}
	t.r = r
	r.try = t
	r.outgoing(&r.out)
	r.upload.at = 0
	return t
}

// open asks for a stream to the endpoint.
func (t *h2try) open() {
	r := t.r
	r.mu.Lock()
	if r.try != t {
		r.mu.Unlock()
		return
	}
	if t.slow == nil && r.tryTimeout > 0 {
		t.slow = time.AfterFunc(r.tryTimeout, t.tooSlow)
	}
	if r.fault != nil {
		if t.suffer() {
			return
		}
		r.tellTimeout(&r.out) // it is less after a delay
	}
	endpoint, out, end := r.pick.Endpoint, &r.out, r.upload.isEmpty()
	t.whole = end
	version, timeout := r.upstreamVersion(), r.connectTimeout()
	if version == upstream.HTTP1 && r.request.Protocol != "" && !message.EqualFold(r.request.Protocol, protocolWebSocket) {
		r.status = http.StatusNotImplemented // RFC 9220, section 3
		r.turnDown(refusal.Newf(refusal.BadRequest, "an extended CONNECT to a server of HTTP/1.1 can be for WebSocket only"))
		r.mu.Unlock()
		return
	}
	if version == upstream.HTTP1 {
		if failure := r.connect(); failure != nil {
			r.mu.Unlock()
			t.failed(failure, nil)
			return
		}
	}
	r.mu.Unlock()
	if version == upstream.HTTP1 {
		t.translate(endpoint, out, end, timeout)
		return
	}
	wait := endpoint.Open(out, end, t, timeout)
	if wait == nil {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	switch {
	case r.try != t:
		wait.Cancel()
	case t.stream == nil:
		t.wait = wait
		if failure := r.queue(); failure != nil {
			t.fail(failure, nil) // it is not tried again
		}
	}
}

// suffer lets the try's fault have its way. It says whether the try is over, or is opened again after a delay; then the
// lock, which is held, is let go.
func (t *h2try) suffer() (over bool) {
	r := t.r
	if f := r.fault; f.Delay > 0 && !t.waited {
		t.waited = true
		t.wait = afterDelay{time.AfterFunc(f.Delay, t.open)}
		r.mu.Unlock()
		return true
	}
	t.wait = nil
	failure := r.abort()
	if failure == nil {
		return false
	}
	r.mu.Unlock()
	t.failed(failure, nil)
	return true
}

// queue counts that the try waits for a connection, or says why it must not.
func (t *h2try) queue() *upstream.Failure {
	t.r.mu.Lock()
	defer t.r.mu.Unlock()
	if t.r.try != t {
		return nil
	}
	return t.r.queue()
}

// tooSlow runs when the route's timeout of a try passes.
func (t *h2try) tooSlow() {
	r := t.r
	r.mu.Lock()
	if r.try != t || r.answered {
		r.mu.Unlock()
		return
	}
	failure := &upstream.Failure{Reason: refusal.Timeout, Err: errSlow}
	r.starved = r.isStarved()
	switch {
	case t.stream != nil:
		t.stream.Reset(http2.Cancel)
	case t.wait != nil:
		_, delayed := t.wait.(afterDelay) // as if the endpoint were slow
		failure.Undelivered = t.wait.Cancel() && !delayed
		t.wait = nil
	default: // a stream is being opened just now
		t.slow.Reset(time.Millisecond)
		r.mu.Unlock()
		return
	}
	next := t.fail(failure, nil)
	r.mu.Unlock()
	if next != nil {
		next.open()
	}
}

// Source tells package http2 whose events send most of what is sent.
func (t *h2try) Source() *http2.Conn { return t.r.on.http2 }

// Opened implements upstream.Opener.
func (t *h2try) Opened(s *http2.Stream, failure *upstream.Failure) {
	if failure != nil {
		t.failed(failure, nil)
		return
	}
	t.r.caller.Pair(s.Conn())
	t.opened(s)
}

// opened sends what of the request is here.
func (t *h2try) opened(s sender) {
	r := t.r
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.try != t {
		s.Reset(http2.Cancel)
		return
	}
	t.stream, t.wait = s, nil
	r.queued()
	if t.owed > 0 {
		s.Consumed(t.owed)
	}
	if !t.whole {
		t.catchUp()
	}
	r.settle()
}

// catchUp sends what has come of the request. The relay's lock is held.
func (t *h2try) catchUp() {
	u := &t.r.upload
	if p, end := u.rest(); len(p) > 0 || end {
		u.at = len(u.held)
		t.r.flown(t, t.stream.SendData(p, end))
	}
	if u.trailer != nil {
		t.stream.SendTrailer(u.trailer)
	}
	if !u.keep {
		u.release()
	}
}

// consumed gives window back to the endpoint. The lock is held.
func (t *h2try) consumed(n int) {
	if t.stream == nil {
		t.owed += n
		return
	}
	if n > 0 {
		t.stream.Consumed(n)
	}
}

// Head implements http2.Sink: an answer, or an interim one.
func (t *h2try) Head(h *message.Head, end bool) {
	r := t.r
	var next *h2try
	r.mu.Lock()
	switch {
	case r.try != t:
	case h.Status < 200:
		r.inform(h)
		r.caller.SendHead(h, false)
	case r.mayEnd(h, end):
		t.answer(h, end)
	default:
		var again bool
		if next, again = r.tryAgain(nil, h); !again {
			t.answer(h, end)
		} else if t.stream != nil {
			t.stream.Reset(http2.Cancel)
		}
	}
	r.mu.Unlock()
	if next != nil {
		next.open()
	}
}

// answer begins the answer. The relay's lock is held.
func (t *h2try) answer(h *message.Head, end bool) {
	r := t.r
	if why := r.answer(h); why != nil {
		r.turnDown(why)
		return
	}
	if t.slow != nil {
		t.slow.Stop()
	}
	r.sendMirror()
	r.upload.letGo()
	r.caller.SendHead(h, end)
	r.ended = end
	r.settle()
}

// Data implements http2.Sink: content of the answer.
func (t *h2try) Data(p []byte, end bool) {
	r := t.r
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.try != t {
		return
	}
	r.event.BytesOut += int64(len(p))
	r.flows()
	passed := r.caller.SendData(p, end)
	r.waiting += len(p) - passed
	t.consumed(passed)
	r.ended = end
	r.settle()
}

// Trailer implements http2.Sink: the end of the answer.
func (t *h2try) Trailer(fields []message.Field) {
	r := t.r
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.try != t {
		return
	}
	r.caller.SendTrailer(r.trailer(fields))
	r.ended = true
	r.settle()
}

// Drained implements http2.Sink: the endpoint takes more of the request.
func (t *h2try) Drained(n int) {
	r := t.r
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.try == t {
		r.flown(t, n)
	}
}

// Reset implements http2.Sink: the endpoint broke the stream off, or HTTP, or its connection.
func (t *h2try) Reset(why *http2.StreamError) {
	t.failed(&upstream.Failure{
		Reason: refusal.UpstreamFailed, Undelivered: why.Unprocessed, Err: why,
	}, why)
}

// failed ends a try: another one begins, or the caller is told. Reset is how the stream ended, if there was one.
func (t *h2try) failed(failure *upstream.Failure, reset *http2.StreamError) {
	r := t.r
	r.mu.Lock()
	next := t.fail(failure, reset)
	r.mu.Unlock()
	if next != nil {
		next.open()
	}
}

// fail is failed, but for opening the next try, which it returns. The relay's lock is held.
func (t *h2try) fail(failure *upstream.Failure, reset *http2.StreamError) (next *h2try) {
	r := t.r
	byPeer := reset != nil && reset.FromPeer
	switch {
	case r.try != t:
		return nil
	case r.ended:
		// The answer is whole: the endpoint does not want the rest of the request.
		r.caller.Reset(http2.NoError)
		r.end()
		return nil
	case r.answered:
	case reset != nil && reset.Unprocessed && !byPeer && r.stale < maxStale && r.upload.keep:
		// The connection ended, as idle ones do, and this was on its way.
		r.stale++
		next = r.newTry()
		next.waited = true
		return next
	default:
		if next, again := r.tryAgain(failure, nil); again {
			return next
		}
	}
	why := r.why(failure)
	if !byPeer {
		r.turnDown(why)
		return nil
	}
	code := reset.Code
	if code == http2.NoError {
		code = http2.InternalError // there was no answer to which that would belong
	}
	r.refuse(why, new(message.Head))
	r.caller.Reset(code)
	r.end()
	return nil
}
