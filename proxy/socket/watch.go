// SPDX-License-Identifier: Apache-2.0

package socket

import (
	"net"
	"sync"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// vanishTime is Watch.After where there is none.
const vanishTime = time.Minute

// Watch resets connections whose peer has vanished while something was on its way to it: TCP would send that again for a
// quarter of an hour, and its keep-alive is for connections on which nothing is under way. Whoever reads or writes there
// gets net.ErrClosed. A peer that is there but takes nothing answers the probes of its window, so that it has not
// vanished. The zero value is ready, and finds it out within 75 s. It is safe for concurrent use.
type Watch struct {
	// After is how long a peer may acknowledge nothing; 0 is a minute.
	After time.Duration

	mu     sync.Mutex
	conns  map[*net.TCPConn]struct{}
	timer  *time.Timer // runs while there are conns
	closed bool
}

// Add watches a connection until it is removed. One that is not TCP below is not watched. After Close it is closed instead.
func (w *Watch) Add(c net.Conn) {
	tcp := underneath(c)
	if tcp == nil {
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.closed {
		tcp.Close()
		return
	}
	if w.conns == nil {
		w.conns = make(map[*net.TCPConn]struct{})
	}
	w.conns[tcp] = struct{}{}
	if w.timer == nil {
		w.timer = time.AfterFunc(w.silence()/looksPerSilence, w.look)
	}
}

// Remove undoes Add.
func (w *Watch) Remove(c net.Conn) {
	if tcp := underneath(c); tcp != nil {
		w.mu.Lock()
		defer w.mu.Unlock()
		delete(w.conns, tcp)
	}
}

// Close closes all that are watched, and those that would be. Each is still to be removed.
func (w *Watch) Close() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.closed = true
	for c := range w.conns {
		c.Close()
	}
}

// looksPerSilence is how often connections are looked at in the time that a peer may be silent.
const looksPerSilence = 4

func (w *Watch) silence() time.Duration {
	if w.After > 0 {
		return w.After
	}
	return vanishTime
}

// look resets what has no peer any more, and comes back while something is left.
func (w *Watch) look() {
	w.mu.Lock()
	all := make([]*net.TCPConn, 0, len(w.conns))
	for c := range w.conns {
		all = append(all, c)
	}
	silence := w.silence()
	w.mu.Unlock()
	var info unix.TCPInfo
	for _, c := range all {
		if vanished(c, silence, &info) {
			Reset(c)
		}
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.timer = nil; len(w.conns) > 0 {
		w.timer = time.AfterFunc(silence/looksPerSilence, w.look)
	}
}

// vanished says whether nothing was acknowledged for some time, although it was sent again and again: the time alone would
// be that of a connection which was idle until now.
func vanished(c *net.TCPConn, silence time.Duration, info *unix.TCPInfo) bool {
	const first = 200 * time.Millisecond // TCP waits so long at least before it sends again, and then twice as long each time
	var again uint8
	for wait := first; wait < silence/2; wait *= 2 {
		again++
	}
	raw, err := c.SyscallConn()
	if err != nil {
		return false
	}
	gone := false
	err = raw.Control(func(fd uintptr) {
		// unix.GetsockoptTCPInfo would make one for each connection: enough garbage for an idle proxy to collect it for ever.
		*info = unix.TCPInfo{}
		size := uint32(unix.SizeofTCPInfo)
		_, _, errno := unix.RawSyscall6(unix.SYS_GETSOCKOPT, fd, unix.IPPROTO_TCP, unix.TCP_INFO,
			uintptr(unsafe.Pointer(info)), uintptr(unsafe.Pointer(&size)), 0)
		gone = errno == 0 && info.Unacked > 0 && info.Retransmits >= again && int64(info.Last_ack_recv) >= silence.Milliseconds()
	})
	return err == nil && gone
}

// underneath returns the TCP connection below others, or nil.
func underneath(c net.Conn) *net.TCPConn {
	for {
		switch at := c.(type) {
		case *net.TCPConn:
			return at
		case *records:
			c = at.Conn
		case interface{ NetConn() net.Conn }:
			c = at.NetConn()
		default:
			return nil
		}
	}
}
