// SPDX-License-Identifier: Apache-2.0

package forward

import (
	"errors"
	"io"
	"os"
	"sync"
	"time"

	"github.com/heddle-mesh/heddle/proxy/http1"
	"github.com/heddle-mesh/heddle/proxy/refusal"
)

// upload is a request's content on its way to the endpoint. What is here with the head is sent by the request's own
// goroutine, the rest by a second one, which then watches whether the caller stays. What was read is held for a second
// try while that may need it.
type upload struct {
	d    *h1
	work sync.WaitGroup // the second goroutine
	runs bool           // it was started; the request's goroutine alone looks at this

	flows bool // the last read filled its buffer; of the second goroutine

	mu     sync.Mutex
	wake   sync.Cond
	to     endpointConn // who gets what is read; nil while nobody does
	held   []byte       // from the start, for a second try
	lost   bool         // it is not all held any more
	whole  bool         // the content has come to its end
	sent   bool         // and nobody is writing any of it
	writes bool         // what has come is being written
	leave  bool         // the second goroutine is to end
	bytes  int64        // that have come
	failed bool         // it broke off
}

func (u *upload) init(d *h1) {
	u.d = d
	u.wake.L = &u.mu
}

// begin makes ready for a request, which may have no content.
func (u *upload) begin(some bool) {
	u.flows, u.runs, u.to, u.lost, u.writes, u.leave, u.bytes, u.failed = false, false, nil, false, false, false, 0, false
	u.whole, u.sent = !some, !some
}

// running says whether the second goroutine runs.
func (u *upload) running() bool { return u.runs }

// ended says whether the content has come to its end.
func (u *upload) ended() bool {
	if !u.runs {
		return u.whole
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.whole
}

// wasSent says whether all of the content was written.
func (u *upload) wasSent() bool {
	if !u.runs {
		return u.whole
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.whole && u.sent
}

// isStarved says whether the endpoint has all that has come, and the caller has yet to send the rest.
func (u *upload) isStarved() bool {
	if !u.runs {
		return false
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.d.x.mayStarve(u.bytes) && !u.whole && u.to != nil && !u.writes
}

// count is how many bytes of it have come.
func (u *upload) count() int64 {
	if !u.runs {
		return u.bytes
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.bytes
}

// send sends what is here of the request, from its start, and has the rest follow. The head is written already. Waits says
// that all of it was written and has yet to be flushed.
func (u *upload) send(up endpointConn) (waits bool, err error) {
	if u.runs {
		return false, u.sendAgain(up)
	}
	if err := u.sendHeld(up); err != nil {
		return false, err
	}
	if err := u.sendHere(up); err != nil || u.whole {
		return true, err
	}
	if err := up.Flush(); err != nil {
		return false, err
	}
	if !u.d.x.retry {
		u.forget() // it was for a connection that turns out to be closed
		u.lost = true
	}
	u.to = up
	u.start()
	return false, nil
}

// sendAgain sends what has come of the content while the second goroutine reads the rest, which it sends after that.
func (u *upload) sendAgain(up endpointConn) error {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.lost {
		return errStopped
	}
	if err := u.sendHeld(up); err != nil {
		return err
	}
	if u.whole {
		if err := up.End(u.d.x.requestTrailer(u.d.conn.Trailer())); err != nil {
			return err
		}
	}
	u.to = up
	u.wake.Signal()
	return up.Flush()
}

// sendHere writes what has come with the head, and the end if that is all. Nobody else reads yet.
func (u *upload) sendHere(up endpointConn) error {
	for !u.whole {
		p, err := u.d.conn.Peek()
		if err != nil {
			u.note(err)
			if !u.whole {
				return errStopped
			}
			break
		}
		if len(p) == 0 {
			return nil
		}
		u.keep(p)
		if _, err := up.Write(p); err != nil {
			return err
		}
		u.d.conn.Discard(len(p))
	}
	u.sent = true
	return up.End(u.d.x.requestTrailer(u.d.conn.Trailer()))
}

// note notes that the content has ended, or why it broke off.
func (u *upload) note(err error) {
	if errors.Is(err, io.EOF) {
		u.whole = true
		return
	}
	u.failed = true
	var broken *http1.ProtocolError
	switch {
	case errors.Is(err, http1.ErrInterrupted):
	case errors.As(err, &broken):
		u.d.x.status = broken.Status
		u.d.cut(&refusal.Error{Reason: refusal.BadRequest, Detail: "the request's content: " + broken.Detail})
	default:
		u.d.cut(&refusal.Error{Reason: refusal.CallerGone, Cause: err})
	}
}

// watch has the caller's going away seen, when all of its request has come.
func (u *upload) watch() {
	if !u.runs {
		u.start()
	}
}

func (u *upload) start() {
	u.runs = true
	u.work.Add(1)
	go u.run()
}

// run sends content on until it has ended, then waits for the caller to go away.
func (u *upload) run() {
	defer u.work.Done()
	for u.pass() {
	}
	u.mu.Lock()
	watch := u.whole && !u.leave
	u.mu.Unlock()
	if !watch {
		return
	}
	if err := u.d.conn.Watch(); err != nil && !errors.Is(err, http1.ErrInterrupted) {
		u.d.cut(&refusal.Error{Reason: refusal.CallerGone, Cause: err})
	}
}

// pass reads some content and passes it on. It returns false when there is no more.
func (u *upload) pass() bool {
	u.mu.Lock()
	for u.to == nil && !u.leave && !u.whole {
		u.wake.Wait()
	}
	stop := u.leave || u.whole
	u.mu.Unlock()
	if stop {
		return false
	}
	conn := u.d.conn
	p, err := conn.Peek()
	peeked := len(p)
	if peeked == 0 && err == nil && !u.flows {
		err = conn.Await() // no memory waits with it
	}
	if peeked == 0 && err == nil {
		buf := takeBuffer()
		defer buf.give()
		var n int
		n, err = conn.Read(buf[:])
		p, u.flows = buf[:n], n == len(buf)
	}
	if err == nil && conn.Remaining() == int64(peeked) {
		err = io.EOF // known before the endpoint can answer
	}
	to, more := u.took(p, err)
	ok := true
	if to != nil {
		_, err = to.Write(p)
	}
	conn.Discard(peeked)
	if to != nil {
		if err == nil {
			err = u.follow(to, more)
		}
		if errors.Is(err, os.ErrDeadlineExceeded) {
			to.Interrupt() // who takes nothing may never answer either
		}
		ok = err == nil
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	if !ok && u.to == to {
		u.to = nil // until there is another try
	}
	u.sent, u.writes = !more, false
	return more
}

// took notes what was read. It returns to whom that goes, and whether there may be more.
func (u *upload) took(p []byte, err error) (to endpointConn, more bool) {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.keep(p)
	if err != nil {
		u.note(err)
		if !u.whole {
			return nil, false
		}
	}
	u.writes = u.to != nil
	return u.to, err == nil
}

// follow sends what was written, unless more goes with it, and the end of the content if that was it.
func (u *upload) follow(to endpointConn, more bool) error {
	if !more {
		if err := to.End(u.d.x.requestTrailer(u.d.conn.Trailer())); err != nil {
			return err
		}
	} else if here, _ := u.d.conn.Peek(); len(here) > 0 {
		return nil
	}
	return to.Flush()
}

// end stops the second goroutine, if it runs, and gives up what is held. It says whether the content has come to its end.
func (u *upload) end() (whole bool) {
	if u.runs {
		u.mu.Lock()
		u.leave = true
		u.wake.Signal()
		whole, sent := u.whole, u.sent
		u.mu.Unlock()
		u.d.conn.Interrupt()
		if !whole {
			u.d.drop() // it may be writing to an endpoint that does not read
		}
		u.finish(whole && !sent)
		u.d.conn.Resume()
		u.runs = false
	}
	if len(u.held) > 0 {
		u.forget()
	}
	u.lost = true
	return u.whole
}

// finish waits for the second goroutine. One that is writing the last of the content has a moment for it: the endpoint has
// answered and may not read any more.
func (u *upload) finish(writes bool) {
	const moment = 100 * time.Millisecond
	up := u.d.up
	if !writes || up == nil {
		u.work.Wait()
		return
	}
	late := time.AfterFunc(moment, func() { up.Close() })
	u.work.Wait()
	if !late.Stop() {
		u.d.drop()
	}
}

// drain reads what is left of the content and is here already, so that a connection can go on after a refusal. It says
// whether that was all. A caller that waits for 100 has not begun, and is not asked to.
func (u *upload) drain() bool {
	const wait, most = 20 * time.Millisecond, 64 << 10
	if u.whole || u.failed || u.d.request.Expect {
		return u.whole
	}
	buf := takeBuffer()
	defer buf.give()
	conn := u.d.conn
	conn.SetDeadline(time.Now().Add(wait))
	defer conn.SetDeadline(time.Time{})
	for total := 0; total < most; {
		n, err := conn.Read(buf[:])
		total += n
		u.bytes += int64(n)
		if err != nil {
			u.whole = errors.Is(err, io.EOF)
			return u.whole
		}
	}
	return false
}
