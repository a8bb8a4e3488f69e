// SPDX-License-Identifier: Apache-2.0

package http1

import (
	"errors"
	"io"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/heddle-mesh/heddle/internal/limits"
	"github.com/heddle-mesh/heddle/proxy/message"
)

var defaults = limits.Default()

// memory is a connection in memory: what is read from it was given, what is written to it is kept.
type memory struct {
	net.Conn
	in      []byte
	piece   int // bytes of one read; 0 is all
	last    error
	out     []byte
	reads   int
	writes  int
	discard bool
	full    bool // the last read got all that it asked for
}

func (m *memory) Read(p []byte) (int, error) {
	m.reads++
	if len(m.in) == 0 {
		if m.last != nil {
			return 0, m.last
		}
		return 0, io.EOF
	}
	in := m.in
	if m.piece > 0 {
		in = in[:min(m.piece, len(in))]
	}
	n := copy(p, in)
	m.in, m.full = m.in[n:], n == len(p)
	return n, nil
}

func (m *memory) Write(p []byte) (int, error) {
	m.writes++
	if !m.discard {
		m.out = append(m.out, p...)
	}
	return len(p), nil
}

func (*memory) SetReadDeadline(time.Time) error  { return nil }
func (*memory) SetWriteDeadline(time.Time) error { return nil }

// counted counts what goes over limits.
type counted struct {
	mu sync.Mutex
	of map[limits.Name]int
}

func (c *counted) Exceeded(name limits.Name) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.of == nil {
		c.of = map[limits.Name]int{}
	}
	c.of[name]++
}

// told is a message as it was read.
type told struct {
	head    message.Head
	content string
	trailer []message.Field
}

// clone makes what points into a buffer outlive it.
func clone(h *message.Head) message.Head {
	c := *h
	c.Fields = cloneFields(h.Fields)
	for _, s := range []*string{&c.Method, &c.Authority, &c.Path, &c.Scheme, &c.Upgrade} {
		*s = strings.Clone(*s)
	}
	return c
}

func cloneFields(fields []message.Field) []message.Field {
	var clones []message.Field
	for _, f := range fields {
		clones = append(clones, message.Field{Name: strings.Clone(f.Name), Value: strings.Clone(f.Value)})
	}
	return clones
}

// content reads the content of a message.
func content(c *Conn) (string, []message.Field, error) {
	b, err := io.ReadAll(c)
	return string(b), cloneFields(c.Trailer()), err
}

// readRequest reads one request with its content.
func readRequest(c *Conn) (told, error) {
	var h message.Head
	if err := c.ReadRequest(&h); err != nil {
		return told{}, err
	}
	t := told{head: clone(&h)}
	var err error
	t.content, t.trailer, err = content(c)
	return t, err
}

// readResponse reads one answer with its content.
func readResponse(c *Conn, request *message.Head) (told, error) {
	var h message.Head
	if err := c.ReadResponse(&h, request); err != nil {
		return told{}, err
	}
	t := told{head: clone(&h)}
	var err error
	t.content, t.trailer, err = content(c)
	return t, err
}

// crlf writes what tests show: lines of a raw string end with CRLF.
func crlf(s string) string { return strings.ReplaceAll(s, "\n", "\r\n") }

// statusOf returns the status of a ProtocolError, or 0.
func statusOf(err error) int {
	var broken *ProtocolError
	if errors.As(err, &broken) {
		return broken.Status
	}
	return 0
}

func mustFail(t *testing.T, err error, status int) {
	t.Helper()
	if statusOf(err) != status {
		t.Errorf("got %v, want status %d", err, status)
	}
}

// again returns a connection from which what was written comes.
func (m *memory) again() *memory { return &memory{in: m.out} }
