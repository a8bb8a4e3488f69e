// SPDX-License-Identifier: Apache-2.0

package socket

import (
	"encoding/binary"
	"errors"
	"io"
	"net"
	"os"
	"sync"

	"github.com/heddle-mesh/heddle/internal/limits"
)

// Of RFC 8446, 5.1 and 5.2.
const (
	recordHeader    = 5
	recordPlaintext = 1 << 14
	recordMost      = recordHeader + recordPlaintext + 256
	recordSealed    = 1 + 16 // in its body, the type and the tag of the algorithms that crypto/tls has
)

// records is the connection under crypto/tls. It reads what there is, many records at a time, and hands it on record by
// record, so that crypto/tls never holds back one that Wait does not know of. It writes many records at a time, while it
// is told to gather them.
type records struct {
	net.Conn

	source *source

	// Of the goroutine that reads.
	head   [recordHeader]byte // of the record that is being handed on,
	headed int                // as far as it has been
	body   int                // bytes of it that are left
	ended  bool               // the connection, and not by close_notify
	dry    bool               // nothing is to be waited for: it is as if a deadline had passed

	mu     sync.Mutex // held while something is written that was gathered
	gather bool
	sent   bool   // something has left since it began to
	out    []byte // borrowed while it holds something
	used   int    // of out
}

// errDry is what reading ends with that does not wait: crypto/tls takes it for a deadline, after which it can go on.
var errDry error = &net.OpError{Op: "read", Err: os.ErrDeadlineExceeded}

func newRecords(c net.Conn, budget *limits.Budget) *records {
	return &records{Conn: c, source: newSource(c, large, budget)}
}

// Read implements net.Conn, for crypto/tls.
func (r *records) Read(p []byte) (int, error) {
	if r.dry && r.here() == 0 {
		return 0, errDry
	}
	if err := r.wait(); err != nil {
		return 0, err
	}
	return r.source.take(func(in []byte) int { return r.align(p, in) }), nil
}

// wait waits until there is something to be handed on. Nothing is held before.
func (r *records) wait() error {
	err := r.source.fill()
	if errors.Is(err, io.EOF) {
		r.ended = true
	}
	return err
}

// align copies what is there of the record that is being handed on.
func (r *records) align(p, in []byte) (n int) {
	if r.headed < recordHeader {
		n = copy(p[:min(len(p), recordHeader-r.headed)], in)
		copy(r.head[r.headed:], p[:n])
		if r.headed += n; r.headed < recordHeader {
			return n
		}
		r.body = int(binary.BigEndian.Uint16(r.head[3:]))
	}
	body := copy(p[n:min(len(p), n+r.body)], in[n:])
	if r.body -= body; r.body == 0 {
		r.headed = 0
	}
	return n + body
}

// here says how much is here and not handed on.
func (r *records) here() (n int) {
	r.source.take(func(in []byte) int {
		n = len(in)
		return 0
	})
	return n
}

// fits says whether a whole record is here and has fewer bytes of the application than that.
func (r *records) fits(space int) (whole bool) {
	r.source.take(func(in []byte) int {
		if r.headed == 0 && len(in) > recordHeader {
			size := int(binary.BigEndian.Uint16(in[3:]))
			whole = len(in) >= recordHeader+size && size-recordSealed < space
		}
		return 0
	})
	return whole
}

// Write implements net.Conn, for crypto/tls, which writes a record at a time.
func (r *records) Write(p []byte) (int, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if !r.gather {
		return r.Conn.Write(p)
	}
	if r.out == nil {
		r.out = borrow(r.source.budget)
	}
	if len(r.out)-r.used < len(p) {
		if err := r.flush(); err != nil {
			return 0, err
		}
	}
	if len(r.out) < len(p) {
		n, err := r.Conn.Write(p)
		r.sent = r.sent || n > 0
		return n, err
	}
	r.used += copy(r.out[r.used:], p)
	return len(p), nil
}

// flush writes what was gathered. r.mu is held.
func (r *records) flush() error {
	if r.used == 0 {
		return nil
	}
	n, err := r.Conn.Write(r.out[:r.used])
	r.used, r.sent = 0, r.sent || n > 0
	return err
}

// begin has what is written gathered until end.
func (r *records) begin() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.gather, r.sent = true, false
}

// end writes what was gathered, and says whether anything has left since begin.
func (r *records) end() (sent bool, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.gather = false
	err = r.flush()
	if r.out != nil {
		giveBack(r.source.budget, r.out)
		r.out = nil
	}
	return r.sent, err
}

// Close implements net.Conn.
func (r *records) Close() error {
	err := r.Conn.Close()
	r.source.close()
	return err
}
