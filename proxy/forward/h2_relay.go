// SPDX-License-Identifier: Apache-2.0

package forward

import (
	"net/http"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/heddle-mesh/heddle/internal/limits"
	"github.com/heddle-mesh/heddle/proxy/http2"
	"github.com/heddle-mesh/heddle/proxy/message"
	"github.com/heddle-mesh/heddle/proxy/refusal"
	"github.com/heddle-mesh/heddle/proxy/upstream"
)

// h2relay is one request of a caller that speaks HTTP/2, and the Sink of its stream. The stream of the endpoint has an
// h2try as its Sink.
//
// What each side sends goes to the other at once. The window that a piece of content took is given back when the other
// side has it on its way, so no more waits here than the windows that both sides were granted.
type h2relay struct {
	on     *h2conn
	caller *http2.Stream

	mu       sync.Mutex
	*h2state        // of the request while it runs; nil before and when it is over
	over     bool   // finish was called; nothing is to be done any more
	shared   bool   // the pool may be reading out, so that the state cannot be used again
	try      *h2try // what carries it now, or nil
	first    h2try
	held     *h2try // that is not to be opened before the request has ended, or nil
	stale    int    // connections in a row that ended before they took it
	ended    bool   // the answer has ended
	waiting  int    // bytes of the answer that the caller's stream holds
}

// h2state is what a request needs while it runs. It is used again, unlike the h2relay, which has to stay what it is until
// nobody knows its streams any more.
type h2state struct {
	exchange
	in, out message.Head // as it came, and as it is sent
	upload  h2upload
	alarm   *alarm      // of the timeout; or nil
	half    *time.Timer // of a tunnel that one side has ended; or nil
	pause   *time.Timer // until the next try; or nil
	idler   *time.Timer // looks whether something moves, if the route wants that; or nil
	moved   int64       // how much of both contents had come when it looked
}

// Head implements http2.Sink: the request begins.
func (r *h2relay) Head(h *message.Head, end bool) {
	state, _ := r.on.side.states.Get().(*h2state)
	fields := append(state.in.Fields[:0], h.Fields...)
	state.in = *h
	state.in.Fields = fields

	r.mu.Lock()
	r.h2state = state
	r.upload.init(r.on.side, end)
	r.begin(r.on.side, r.on.served, upstream.HTTP2, &state.in, r)
	why := r.expects()
	if why == nil {
		why = r.route()
	}
	if why == nil {
		why = r.next()
	}
	last, tunnel := r.last, r.tunnel
	var t *h2try
	switch {
	case why != nil:
		r.turnDown(why)
	case !end && h.Length == 0 && !tunnel:
		// Content that must not come would be known too late: its end, or what is wrong with it, is waited for.
		r.arm()
		r.held = r.newTry()
	default:
		r.arm()
		t = r.newTry()
	}
	r.mu.Unlock()
	if t != nil {
		t.open()
	}
	if last {
		r.on.http2.Drain()
	}
}

// expects refuses expectations that nobody knows (RFC 9110, section 10.1.1), as from callers of HTTP/1.1. The lock is held.
func (r *h2relay) expects() *refusal.Error {
	if expect, ok := r.request.Get("expect"); ok && !r.request.Expect && expect != "" {
		r.status = http.StatusExpectationFailed
		return refusal.Newf(refusal.BadRequest, "an expectation besides 100-continue")
	}
	return nil
}

// openHeld opens the try that waited for the request's end. No lock is held.
func (r *h2relay) openHeld() {
	r.mu.Lock()
	t := r.held
	r.held = nil
	r.mu.Unlock()
	if t != nil {
		t.open()
	}
}

// Data implements http2.Sink: content of the request.
func (r *h2relay) Data(p []byte, end bool) {
	if r.content(p, end) {
		r.openHeld()
	}
}

// content sends content on, or holds it. It says whether a try waited for it.
func (r *h2relay) content(p []byte, end bool) (held bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.over {
		return false
	}
	r.event.BytesIn += int64(len(p))
	r.upload.ended = r.upload.ended || end
	t := r.try
	if t == nil || t.stream == nil {
		r.upload.hold(p, true)
		return r.held != nil && end
	}
	r.upload.hold(p, false)
	r.flown(t, t.stream.SendData(p, end))
	r.settle()
	return false
}

// Trailer implements http2.Sink: the end of the request.
func (r *h2relay) Trailer(fields []message.Field) {
	if r.lastly(fields) {
		r.openHeld()
	}
}

// lastly ends the request, and says whether a try waited for that.
func (r *h2relay) lastly(fields []message.Field) (held bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.over {
		return false
	}
	fields = r.requestTrailer(fields)
	r.upload.ended = true
	t := r.try
	if r.upload.keep || t == nil || t.stream == nil {
		r.upload.trailer = append(make([]message.Field, 0, len(fields)), fields...)
	}
	if t != nil && t.stream != nil {
		t.stream.SendTrailer(fields)
	}
	r.settle()
	return r.held != nil
}

// Reset implements http2.Sink: the caller has gone, or broke HTTP.
func (r *h2relay) Reset(why *http2.StreamError) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.over {
		return
	}
	code := http2.Cancel
	switch {
	case r.ended && r.waiting == 0:
		// It has its answer, and does not want to send the rest.
	case why.FromPeer || why.Gone || why.Code == http2.Cancel: // it left, or takes nothing any more
		r.starved = r.isStarved()
		r.refuse(&refusal.Error{Reason: refusal.CallerGone, Cause: why}, nil)
	default:
		r.refuse(&refusal.Error{Reason: refusal.BadRequest, Detail: why.Detail, Cause: why}, new(message.Head))
	}
	if why.FromPeer && why.Code != http2.NoError && why.Code != http2.RefusedStream {
		code = why.Code
	}
	r.abandon(code)
	r.end()
}

// Drained implements http2.Sink: the caller takes more of the answer.
func (r *h2relay) Drained(n int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.over {
		return
	}
	r.waiting -= n
	if r.try != nil {
		r.try.consumed(n)
	}
	r.settle()
}

// cut implements cutter: a policy denies what it allowed.
func (r *h2relay) cut(why *refusal.Error) {
	go r.giveUp(func() *refusal.Error { return why }) // the list of what is carried is locked
}

// tooLate runs when the route's timeout passes.
func (r *h2relay) tooLate() { r.giveUp(func() *refusal.Error { return r.late() }) }

// giveUp ends the request unless it is over. why is called with the lock held.
func (r *h2relay) giveUp(why func() *refusal.Error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if !r.over {
		r.turnDown(why())
	}
}

// turnDown answers that the request is not carried, or breaks off the answer that has begun. It ends the request. The
// lock is held.
func (r *h2relay) turnDown(why *refusal.Error) {
	var h message.Head
	if why.Reason == refusal.Timeout {
		r.starved = r.starved || r.isStarved()
	}
	body, ok := r.refuse(why, &h)
	r.abandon(http2.Cancel)
	switch {
	case ok:
		r.caller.SendHead(&h, body == "")
		if body != "" {
			r.caller.SendData([]byte(body), true)
		}
		if !r.upload.ended {
			r.caller.Reset(http2.NoError) // the rest of the request is not wanted
		}
	case why.Reason == refusal.Timeout && r.event.Protocol == gRPC && !r.ended: // as the server says it, amid its answer
		r.event.GRPCStatus = r.refuseGRPC(why, why.Reason.Meaning().GRPC, &h)
		r.caller.SendTrailer(slices.DeleteFunc(h.Fields, func(f message.Field) bool { return !strings.HasPrefix(f.Name, "Grpc-") }))
		r.caller.Reset(http2.NoError)
	default:
		r.caller.Reset(http2.InternalError)
	}
	r.end()
}

// isStarved says whether the endpoint has all that has come, and the caller has yet to send the rest. The lock is held.
func (r *h2relay) isStarved() bool {
	t := r.try
	return r.mayStarve(r.event.BytesIn) && !r.upload.ended && t != nil && t.stream != nil && int64(t.flown) == r.event.BytesIn
}

// flown gives the caller the window back of content that is on its way, but for what was on its way in an earlier try.
// The lock is held.
func (r *h2relay) flown(t *h2try, n int) {
	t.flown += n
	if more := t.flown - r.upload.consumed; more > 0 {
		r.upload.consumed += more
		r.caller.Consumed(more)
	}
}

// settle ends the request when all of it and of the answer is on its way. The lock is held.
func (r *h2relay) settle() {
	switch {
	case r.ended && r.waiting == 0 && r.upload.ended && r.try.stream != nil:
		r.end()
	case r.tunnel && r.answered && r.ended != r.upload.ended:
		r.limitHalf()
	}
}

// limitHalf gives the side of a tunnel that is still open a time to send something. The lock is held.
func (r *h2relay) limitHalf() {
	after := r.on.side.Limits.HalfClosed
	if r.half != nil {
		r.half.Reset(after)
		return
	}
	r.half = time.AfterFunc(after, r.silent)
}

// silent runs when a tunnel that one side has ended has carried nothing for too long.
func (r *h2relay) silent() {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.over {
		return
	}
	r.on.side.Count.Exceeded(limits.HalfClosed)
	r.event.Err = os.ErrDeadlineExceeded
	r.abandon(http2.Cancel)
	r.caller.Reset(http2.Cancel)
	r.end()
}

// abandon leaves the endpoint's stream, if there is one. The lock is held.
func (r *h2relay) abandon(code http2.Code) {
	t := r.try
	if t == nil {
		return
	}
	r.try = nil
	if t.stream == nil {
		if t.wait != nil {
			t.wait.Cancel()
		}
		r.shared = true
		return
	}
	t.stream.Reset(code)
}

// end reports the request and lets go of what it holds. The lock is held.
func (r *h2relay) end() {
	r.over = true
	r.alarm = r.alarm.stop()
	if r.half != nil {
		r.half.Stop()
		r.half = nil
	}
	r.stopWaiting()
	r.sendMirror()
	r.finish()
	r.upload.release()
	state := r.h2state
	r.h2state = nil
	if !r.shared && (r.try == nil || r.try.stream != nil) {
		r.on.side.states.Put(state)
	}
	r.try = nil
}
