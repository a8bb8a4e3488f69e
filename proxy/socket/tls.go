// SPDX-License-Identifier: Apache-2.0

package socket

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"sync"
	"sync/atomic"

	"github.com/heddle-mesh/heddle/internal/limits"
)

// TLS is a connection of mesh TLS. It reads and writes many records per system call and holds no buffer of its own while
// it waits, though crypto/tls keeps one of the largest record that it has read.
type TLS struct {
	*tls.Conn
	records *records
	more    bool // crypto/tls may hold decrypted bytes
	one     [1]byte
	kept    bool  // one is to be read next
	failed  error // what the next read ends with, or nil

	writing sync.Mutex // held by who has records gathered
	busy    atomic.Bool
}

// Client begins mesh TLS as the one that dialled. The budget counts what buffers hold; it may be nil. Config must have
// dynamic record sizing disabled: it is for pages in browsers, and costs a system call and a seal for each packet here.
func Client(c net.Conn, config *tls.Config, budget *limits.Budget) *TLS {
	r := newRecords(c, budget)
	return &TLS{Conn: tls.Client(r, config), records: r}
}

// Server begins mesh TLS as the one that was dialled.
func Server(c net.Conn, config *tls.Config, budget *limits.Budget) *TLS {
	r := newRecords(c, budget)
	return &TLS{Conn: tls.Server(r, config), records: r}
}

// Read implements net.Conn. It reads the whole records that are here, as far as they fit. An end without close_notify is
// io.ErrUnexpectedEOF: somebody may have cut it short (RFC 8446, 6.1), which crypto/tls lets pass between records.
func (t *TLS) Read(b []byte) (int, error) {
	if t.kept && len(b) > 0 {
		t.kept = false
		return copy(b, t.one[:]), nil // and more is true
	}
	if t.failed != nil && len(b) > 0 {
		return 0, t.failed
	}
	n, err := t.Conn.Read(b)
	for more := err == nil; more && t.records.fits(len(b)-n); {
		var next int
		next, t.failed = t.readDry(b[n:])
		n, more = n+next, next > 0
	}
	t.more = n > 0 && n == len(b)
	if err != nil {
		err = t.cutShort(err)
	}
	return n, err
}

// readDry reads what is here, without waiting.
func (t *TLS) readDry(b []byte) (int, error) {
	t.records.dry = true
	n, err := t.Conn.Read(b)
	t.records.dry = false
	if errors.Is(err, errDry) {
		err = nil
	}
	return n, err
}

func (t *TLS) cutShort(err error) error {
	if t.records.ended && errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}

// tells says whether a read gives something without reading from below.
func (t *TLS) tells() bool { return t.more || t.failed != nil }

// wait waits until a read gives something, or something has come that crypto/tls has to see.
func (t *TLS) wait() error {
	if t.tells() {
		return nil
	}
	if err := t.records.wait(); err != nil {
		return t.cutShort(err)
	}
	return nil
}

// Quiet says whether nothing is there to be read, no end and no error either: whether the connection is good for another
// request when its peer owes nothing. It does not wait and does not allocate.
func (t *TLS) Quiet() bool {
	return t.failed == nil && t.records.here() == 0 && !t.holds() && t.records.source.quiet()
}

// holds says whether crypto/tls holds decrypted bytes.
func (t *TLS) holds() bool {
	if t.more && !t.kept {
		n, _ := t.readDry(t.one[:]) // what it fails with comes again
		t.more, t.kept = n > 0, n > 0
	}
	return t.more
}

// Write implements net.Conn. More than a record leaves in as few system calls as it takes. When it fails, the peer may have
// as many bytes as it says, or fewer; none only if it has none.
func (t *TLS) Write(b []byte) (int, error) {
	if len(b) <= recordPlaintext {
		return t.Conn.Write(b)
	}
	if err := t.HandshakeContext(context.Background()); err != nil { // it would wait for an answer to what is gathered
		return 0, err
	}
	t.writing.Lock()
	defer t.writing.Unlock()
	t.busy.Store(true)
	defer t.busy.Store(false)
	t.records.begin()
	n, err := t.Conn.Write(b)
	sent, end := t.records.end()
	if !sent {
		n = 0
	}
	return n, cmp.Or(err, end)
}

// Close implements net.Conn. A Write that waits is broken off, as crypto/tls does with its own.
func (t *TLS) Close() error {
	if t.busy.Load() {
		return t.records.Close()
	}
	return t.Conn.Close()
}
