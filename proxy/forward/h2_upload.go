// SPDX-License-Identifier: Apache-2.0

package forward

import (
	"sync"

	"github.com/heddle-mesh/heddle/internal/limits"
	"github.com/heddle-mesh/heddle/proxy/message"
)

// h2upload is what is held of the content of a request: all of it while a second try is possible and it is not too long,
// otherwise what waits for a stream to the endpoint. The caller's window bounds the latter.
type h2upload struct {
	side     *side
	buffer   *[]byte // that held is in, or nil
	held     []byte
	at       int  // how much of held the current try was given
	keep     bool // held begins with the first byte of the content, so that it can be sent again
	ended    bool // all of the request has come
	consumed int  // bytes whose window the caller has back
	trailer  []message.Field
}

var h2buffers = sync.Pool{New: func() any {
	b := make([]byte, 0, 4<<10)
	return &b
}}

func (u *h2upload) init(s *side, end bool) {
	*u = h2upload{side: s, keep: true, ended: end}
}

// isEmpty says whether the request has ended without content or trailer.
func (u *h2upload) isEmpty() bool { return u.ended && len(u.held) == 0 && u.trailer == nil }

// rest is what the current try was not given yet. end says that the content ends with it, and no trailer follows.
func (u *h2upload) rest() (p []byte, end bool) {
	return u.held[u.at:], u.ended && u.trailer == nil
}

// hold holds content on its way to the current try, if that may be needed again; or, if it is pending, in any case.
func (u *h2upload) hold(p []byte, pending bool) {
	if len(p) == 0 || !u.keep && !pending {
		return
	}
	fits := u.keep && len(u.held)+len(p) <= u.side.Limits.ReplayBytes
	switch {
	case fits && u.side.Budget.Take(len(p)):
	case pending:
		if u.keep {
			u.keep = false
			u.forget(u.at)
		}
		u.side.Budget.Must(len(p))
	default:
		if fits {
			u.side.Count.Exceeded(limits.Memory)
		}
		u.letGo()
		return
	}
	if u.buffer == nil {
		u.buffer, _ = h2buffers.Get().(*[]byte)
		u.held = *u.buffer
	}
	u.held = append(u.held, p...)
	if !pending {
		u.at = len(u.held)
	}
}

// forget drops the first n bytes.
func (u *h2upload) forget(n int) {
	if n == 0 {
		return
	}
	u.side.Budget.Give(n)
	u.held = append(u.held[:0], u.held[n:]...)
	u.at -= n
}

// letGo says that there will be no other try.
func (u *h2upload) letGo() {
	u.keep = false
	if u.at == len(u.held) {
		u.release()
	}
}

// release drops what is held.
func (u *h2upload) release() {
	u.keep = false
	u.side.Budget.Give(len(u.held))
	if u.buffer != nil {
		if cap(u.held) <= maxReplayBuffer {
			*u.buffer = u.held[:0]
			h2buffers.Put(u.buffer)
		}
		u.buffer = nil
	}
	u.held, u.at, u.trailer = nil, 0, nil
}

// maxReplayBuffer is the largest buffer that is kept for other requests.
const maxReplayBuffer = 16 << 10
