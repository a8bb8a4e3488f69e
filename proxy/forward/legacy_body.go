// SPDX-License-Identifier: Apache-2.0

package forward

import (
	"errors"
	"io"
	"net/http"
	"sync"
	"sync/atomic"
	"time"
)

// replay gives a request's body to several tries, as long as what was read of it fits into a bounded buffer. A try may
// still be reading when the next begins: what it gets is kept for the next one, too.
type replay struct {
	request *http.Request // the caller's
	limit   int
	read    atomic.Int64 // bytes of the body that have come
	final   atomic.Bool  // there will be no other try

	lost  atomic.Bool // there was more than fits
	whole atomic.Bool // it has come to its end

	mu     sync.Mutex // held while reading from the caller
	held   []byte     // from the start
	failed error      // what ended the body: io.EOF, or why it did not arrive
}

// errNotReplayable is what a later try gets when the body's start is lost.
var errNotReplayable = errors.New("the request's body is not held any more")

// attempt is the body as one try sees it.
type attempt struct {
	body    *replay
	trailer http.Header // of the request that is sent; filled at the end
	at      int
}

func newReplay(r *http.Request, limit int) *replay {
	return &replay{request: r, limit: limit}
}

// empty says whether there is no body.
func (b *replay) empty() bool { return b.request.Body == nil || b.request.Body == http.NoBody }

// try returns the body for one more try, or nil if there is none, and its trailer.
func (b *replay) try() (io.ReadCloser, http.Header) {
	if b.empty() {
		return nil, nil
	}
	a := &attempt{body: b, trailer: make(http.Header, len(b.request.Trailer))}
	for name := range b.request.Trailer {
		a.trailer[name] = nil
	}
	dropOwnOld(a.trailer, true)
	return a, a.trailer
}

// again returns the body for a try that goes on with the trailer of another.
func (b *replay) again(trailer http.Header) (io.ReadCloser, error) {
	if !b.replayable() {
		return nil, errNotReplayable
	}
	return &attempt{body: b, trailer: trailer}, nil
}

// replayable says whether another try would get the body whole. A try that is reading now may still spoil that: then the
// next one fails with errNotReplayable.
func (b *replay) replayable() bool { return b.empty() || !b.lost.Load() }

// release gives up holding the body: there will be no other try.
func (b *replay) release() {
	b.final.Store(true)
	if b.mu.TryLock() { // otherwise whoever reads now lets go
		b.lose()
		b.mu.Unlock()
	}
}

// ended says whether the body has come to its end.
func (b *replay) ended() bool { return b.empty() || b.whole.Load() }

// drain reads what is left of the body and is here already, when no try reads it any more.
func (b *replay) drain(control *http.ResponseController) {
	const wait, most = 20 * time.Millisecond, 64 << 10
	b.release()
	if b.ended() || b.request.Header.Get("Expect") != "" || !b.mu.TryLock() {
		return
	}
	defer b.mu.Unlock()
	if control.SetReadDeadline(time.Now().Add(wait)) != nil {
		return
	}
	if _, err := io.CopyN(io.Discard, b.request.Body, most); errors.Is(err, io.EOF) {
		b.whole.Store(true)
	}
	control.SetReadDeadline(time.Time{}) //nolint:errcheck // it could be set before
}

// cause returns why the body did not arrive whole, or nil.
func (b *replay) cause() error {
	if b.empty() || !b.mu.TryLock() {
		return nil
	}
	defer b.mu.Unlock()
	if errors.Is(b.failed, io.EOF) {
		return nil
	}
	return b.failed
}

// Read implements io.Reader.
func (a *attempt) Read(p []byte) (int, error) {
	b := a.body
	b.mu.Lock()
	defer b.mu.Unlock()
	if a.at < len(b.held) {
		n := copy(p, b.held[a.at:])
		a.at += n
		return n, nil
	}
	if int64(a.at) < b.read.Load() {
		return 0, errNotReplayable
	}
	if b.failed == nil {
		n, err := b.request.Body.Read(b.clip(p))
		b.keep(p[:n])
		a.at += n
		b.failed = err
		b.whole.Store(err == io.EOF)
		if n > 0 {
			return n, nil
		}
		if err == nil {
			return 0, nil
		}
	}
	if errors.Is(b.failed, io.EOF) {
		a.fillTrailer()
	}
	return 0, b.failed
}

// clip makes a read fill what can be held before one loses it.
func (b *replay) clip(p []byte) []byte {
	if room := b.limit - len(b.held); !b.lost.Load() && room > 0 && room < len(p) {
		return p[:room]
	}
	return p
}

// keep holds what was read, while it fits.
func (b *replay) keep(p []byte) {
	b.read.Add(int64(len(p)))
	if b.lost.Load() || b.final.Load() || len(b.held)+len(p) > b.limit {
		b.lose()
		return
	}
	b.held = append(b.held, p...)
}

func (b *replay) lose() {
	b.lost.Store(true)
	b.held = nil
}

// fillTrailer copies the trailer, which net/http knows when the body has ended.
func (a *attempt) fillTrailer() {
	for name, values := range a.body.request.Trailer {
		if !isOwn(name) && !isCallerIdentity(name) {
			a.trailer[name] = values
		}
	}
}

// Close implements io.Closer. The caller's body stays open: another try may need it.
func (a *attempt) Close() error { return nil }
