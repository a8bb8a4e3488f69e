// SPDX-License-Identifier: Apache-2.0

package forward

import (
	"slices"

	"github.com/heddle-mesh/heddle/proxy/message"
)

// replayable says whether the content can be sent from its start again. What is too long to be held can't while it is being
// read: some of it would be lost before there is another endpoint to take it.
func (u *upload) replayable() bool {
	if !u.runs {
		return !u.lost
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	length := u.d.request.Length
	fits := u.whole || u.to == nil || length != message.Unknown && length <= int64(u.d.side.Limits.ReplayBytes)
	return fits && !u.lost && !u.failed
}

// copy returns a copy of the whole content; it is not ok if that was too much to be held, has not all come, or has a trailer.
func (u *upload) copy() (content []byte, ok bool) {
	if u.runs {
		u.mu.Lock()
		defer u.mu.Unlock()
	}
	if !u.whole || u.lost || len(u.d.conn.Trailer()) > 0 {
		return nil, false
	}
	return slices.Clone(u.held), true
}

func (u *upload) sendHeld(up endpointConn) error {
	if len(u.held) == 0 {
		return nil
	}
	_, err := up.Write(u.held)
	return err
}

// keep holds what was read, while it fits and may be needed.
func (u *upload) keep(p []byte) {
	u.bytes += int64(len(p))
	if u.lost {
		return
	}
	side := u.d.side
	if len(u.held)+len(p) > side.Limits.ReplayBytes || !side.Budget.Take(len(p)) {
		u.forget()
		u.lost = true
		return
	}
	u.held = append(u.held, p...)
}

// forget gives up what is held.
func (u *upload) forget() {
	u.d.side.Budget.Give(len(u.held))
	if cap(u.held) > maxKept {
		u.held = nil
	}
	u.held = u.held[:0]
}

// maxKept is how much memory for content a connection keeps for its next request.
const maxKept = 4 << 10
