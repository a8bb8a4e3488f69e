// SPDX-License-Identifier: Apache-2.0

package forward

import (
	"slices"
	"time"

	"github.com/heddle-mesh/heddle/proxy/message"
	"github.com/heddle-mesh/heddle/proxy/upstream"
)

// arm starts the route's timeouts. The lock is held.
func (r *h2relay) arm() {
	if r.timeout > 0 {
		r.alarm = r.alarm.set(r)
	}
	if r.idle > 0 {
		r.moved = 0
		r.idler = time.AfterFunc(r.idle, r.look)
	}
}

// alarm runs when a request's timeout passes. It is used again: callers of gRPC give every request a timeout.
type alarm struct {
	timer *time.Timer
	relay *h2relay // whose it is; nil while it is not set
}

// set sets it, or a new one if it is nil.
func (a *alarm) set(r *h2relay) *alarm {
	if a == nil {
		a = &alarm{relay: r}
		a.timer = time.AfterFunc(r.timeout, a.ring)
		return a
	}
	a.relay = r
	a.timer.Reset(r.timeout)
	return a
}

func (a *alarm) ring() { a.relay.tooLate() }

// stop returns it for the next request, or nil if it is ringing.
func (a *alarm) stop() *alarm {
	if a == nil || a.relay == nil {
		return a
	}
	if !a.timer.Stop() {
		return nil
	}
	a.relay = nil
	return a
}

// look runs when nothing may have moved for as long as the route allows. What has moved since it last ran is not timed, so
// it may take twice as long.
func (r *h2relay) look() {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.over || r.try == nil { // or it waits for another try
		return
	}
	if moved := r.event.BytesIn + r.event.BytesOut; moved != r.moved {
		r.moved = moved
		r.idler.Reset(r.idle)
		return
	}
	r.turnDown(r.quiet())
}

// tryAgain begins another try, after the last has failed or was answered, if there is to be one: now, then it is to be
// opened when the lock is not held any more, or later. The lock is held.
func (r *h2relay) tryAgain(failure *upstream.Failure, answer *message.Head) (now *h2try, again bool) {
	wait, again := r.again(failure, answer, r.upload.keep)
	switch {
	case !again:
		return nil, false
	case wait == 0:
		return r.newTry(), true
	}
	r.try, r.upload.at = nil, 0
	r.pause = time.AfterFunc(wait, r.resume)
	if r.idler != nil {
		r.idler.Stop() // nothing is to move
	}
	return nil, true
}

// resume runs when it is time for another try.
func (r *h2relay) resume() {
	r.mu.Lock()
	if r.over {
		r.mu.Unlock()
		return
	}
	var t *h2try
	if why := r.next(); why != nil {
		r.turnDown(why)
	} else {
		t = r.newTry()
		if r.idler != nil {
			r.idler.Reset(r.idle)
		}
	}
	r.mu.Unlock()
	if t != nil {
		t.open()
	}
}

// sendMirror sends a copy of the request, if it is to have one, its content was held to the end and it has no trailer. The
// lock is held.
func (r *h2relay) sendMirror() {
	if r.mirror == nil || r.event.Attempts == 0 || !r.upload.keep || !r.upload.ended || r.upload.trailer != nil {
		return
	}
	r.event.CopyDropped = !r.on.side.mirrors.send(r.copyTo(&r.out, slices.Clone(r.upload.held)))
	r.mirror = nil
}

// stopWaiting stops the timers of another try and of what moves. The lock is held.
func (r *h2relay) stopWaiting() {
	if r.pause != nil {
		r.pause.Stop()
		r.pause = nil
	}
	if r.idler != nil {
		r.idler.Stop()
		r.idler = nil
	}
}
