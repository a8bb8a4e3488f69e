// SPDX-License-Identifier: Apache-2.0

package http2

import (
	"bytes"
	"errors"
	"io"
	"net"
	"os"
	"sync"
	"testing"
	"time"

	xhttp2 "golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

// script is a connection on which one side has said all that it will ever say, in pieces of a size, and reads nothing.
type script struct {
	mu    sync.Mutex
	input []byte
	piece int
	wrote int
}

func (s *script) Read(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.input) == 0 {
		return 0, io.EOF
	}
	n := copy(p[:min(len(p), s.piece)], s.input)
	s.input = s.input[n:]
	return n, nil
}

func (s *script) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.wrote += len(p)
	return len(p), nil
}
func (s *script) Close() error                     { return nil }
func (s *script) LocalAddr() net.Addr              { return nil }
func (s *script) RemoteAddr() net.Addr             { return nil }
func (s *script) SetReadDeadline(time.Time) error  { return nil }
func (s *script) SetWriteDeadline(time.Time) error { return nil }
func (s *script) SetDeadline(time.Time) error      { return nil }

// corpus are conversations to begin with.
func corpus() [][]byte {
	var all [][]byte
	for _, say := range []func(p *raw){
		func(p *raw) { p.head(1, true, get...) },
		func(p *raw) {
			p.head(1, false, post...)
			_ = p.WriteDataPadded(1, true, []byte("abc"), make([]byte, 9))
		},
		func(p *raw) { p.head(1, false, post...); p.head(1, true, "x-a: b") },
		func(p *raw) { split(p, 1, true, p.block(get...)); _ = p.WriteRSTStream(1, 8) },
		func(p *raw) {
			p.head(1, false, post...)
			_ = p.WriteWindowUpdate(1, 9)
			_ = p.WritePing(false, [8]byte{})
		},
		func(p *raw) { p.head(1, true, ":status: 200"); _ = p.WriteGoAway(0, 0, nil) },
		func(p *raw) {
			p.head(1, false, ":status: 100")
			p.head(1, false, ":status: 200")
			_ = p.WriteData(1, true, []byte("x"))
		},
		func(p *raw) {
			_ = p.WriteSettings(initialWindow(0), xhttp2.Setting{ID: 1, Val: 0})
			p.head(1, true, get...)
		},
	} {
		var b bytes.Buffer
		p := &raw{Framer: xhttp2.NewFramer(&b, nil)}
		p.AllowIllegalWrites = true
		p.enc = hpack.NewEncoder(&p.buf)
		_ = p.WriteSettings()
		_ = p.WriteSettingsAck()
		say(p)
		all = append(all, b.Bytes())
	}
	return all
}

// finish ends a fuzzed connection and checks that nothing is left of it.
func finish(t *testing.T, c *Conn) {
	t.Helper()
	err := c.Serve()
	var told *ConnError
	if err != nil && !errors.As(err, &told) && !errors.Is(err, ErrPreface) && !errors.Is(err, io.ErrUnexpectedEOF) &&
		!errors.Is(err, os.ErrDeadlineExceeded) {
		t.Fatalf("%v", err)
	}
	if len(c.streams) != 0 || c.in != nil {
		t.Fatal("something is left")
	}
	if c.dec.size > tableMost || c.enc.size > tableMost {
		t.Fatal("a table is too large")
	}
}

// Whatever a client sends, a server that mirrors it neither panics nor hangs, and every stream's last event comes.
func FuzzServer(f *testing.F) {
	for _, input := range corpus() {
		f.Add(input, uint16(len(input)))
		f.Add(input, uint16(1))
	}
	f.Fuzz(func(t *testing.T, input []byte, piece uint16) {
		budget := &Config{Limits: tight(), ExtendedConnect: true}
		conn := &script{input: append([]byte(preface), input...), piece: max(1, int(piece))}
		finish(t, Server(conn, budget, mirroring))
	})
}

// The same of what a server sends to a client that has asked three questions.
func FuzzClient(f *testing.F) {
	for _, input := range corpus() {
		f.Add(input, uint16(len(input)))
		f.Add(input, uint16(1))
	}
	f.Fuzz(func(t *testing.T, input []byte, piece uint16) {
		var once sync.Once
		var ears []*ear
		c := Client(&script{input: input, piece: max(1, int(piece))}, &Config{Limits: tight()}, func(c *Conn) {
			if c.Room() < 3 {
				return
			}
			once.Do(func() {
				for range 3 {
					e := newEar(nil)
					e.take = false
					s, err := c.Open(&question, false, e)
					if err != nil {
						return
					}
					s.SendData([]byte("question"), true)
					ears = append(ears, e)
				}
			})
		})
		finish(t, c)
		for _, e := range ears {
			last := false
			for _, s := range e.heard() {
				if last && s.what != "drained" {
					t.Fatalf("%+v after the end", s)
				}
				last = last || s.end || s.what == "reset"
			}
			if !last {
				t.Fatalf("a stream without an end: %+v", e.heard())
			}
		}
	})
}
