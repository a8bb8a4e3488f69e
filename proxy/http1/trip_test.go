// SPDX-License-Identifier: Apache-2.0

package http1

import (
	"bytes"
	"errors"
	"io"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/heddle-mesh/heddle/proxy/message"
)

// random makes messages that HTTP allows.
type random struct{ *rand.Rand }

func (r random) word(most int) string {
	const letters = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789!#$%&'*+-.^_`|~"
	b := make([]byte, 1+r.IntN(most))
	for i := range b {
		b[i] = letters[r.IntN(len(letters))]
	}
	return string(b)
}

func (r random) value() string {
	b := make([]byte, r.IntN(100))
	for i := range b {
		for b[i] = byte(r.IntN(256)); b[i] < ' ' && b[i] != '\t' || b[i] == 0x7f; {
			b[i] = byte(r.IntN(256))
		}
	}
	return string(bytes.Trim(b, " \t"))
}

func (r random) fields() []field {
	var fields []field
	for range r.IntN(20) {
		f := field{Name: "x-" + r.word(30), Value: r.value()}
		if r.IntN(50) == 0 {
			f.Value = strings.Repeat("v", r.IntN(30<<10))
		}
		fields = append(fields, f)
	}
	return fields
}

// message makes content, framing and fields. Content has up to 100 kB, seldom.
func (r random) message(h *message.Head) told {
	m := told{head: *h}
	m.head.Fields = append(m.head.Fields, r.fields()...)
	switch r.IntN(3) {
	case 0:
		m.content = strings.Repeat("c", r.IntN([]int{10, 1000, 30000, 100000}[r.IntN(4)]))
		m.head.Length = message.Unknown
		for _, f := range r.fields() {
			m.trailer = append(m.trailer, f)
			if len(f.Value) > 1000 {
				break
			}
		}
	case 1:
		m.content = strings.Repeat("c", 1+r.IntN([]int{10, 1000, 30000, 100000}[r.IntN(4)]))
		m.head.Length = int64(len(m.content))
		m.head.Add("Content-Length", strconv.Itoa(len(m.content)))
	}
	return m
}

func (r random) request() told {
	h := &message.Head{Method: r.word(10), Authority: "a.example:" + strconv.Itoa(r.IntN(65536)), Path: "/" + r.word(200)}
	h.Path = strings.ReplaceAll(h.Path, "#", "?")
	h.Add("Host", h.Authority)
	return r.message(h)
}

func (r random) answer() told {
	m := r.message(&message.Head{Status: 200 + r.IntN(400)})
	if s := m.head.Status; s == 204 || s == 304 {
		m.head.Status = 200
	}
	if m.head.Length == 0 {
		m.head.Add("Content-Length", "0")
	}
	return m
}

// write writes a message in random pieces.
func (r random) write(c *Conn, m *told) error {
	write := c.WriteRequest
	if m.head.Status != 0 {
		write = c.WriteResponse
	}
	err := write(&m.head)
	for left := m.content; len(left) > 0; {
		n := min(len(left), 1+r.IntN([]int{100, 40000}[r.IntN(2)]))
		_, werr := c.Write([]byte(left[:n]))
		err = errors.Join(err, werr)
		if left = left[n:]; r.IntN(3) == 0 {
			err = errors.Join(err, c.Flush())
		}
	}
	return errors.Join(err, c.End(m.trailer), c.Flush())
}

// read reads a message in random pieces and looks at the head last, when all of it has been read.
func (r random) read(c *Conn, request *message.Head) (told, error) {
	var h message.Head
	var err error
	if request == nil {
		err = c.ReadRequest(&h)
	} else {
		err = c.ReadResponse(&h, request)
	}
	if err != nil {
		return told{}, err
	}
	var b strings.Builder
	for err == nil {
		var here []byte
		if here, err = c.Peek(); err != nil {
			break
		}
		if len(here) > 0 && r.IntN(2) == 0 {
			n := 1 + r.IntN(len(here))
			b.Write(here[:n])
			c.Discard(n)
			continue
		}
		p := make([]byte, 1+r.IntN([]int{100, 40000}[r.IntN(2)]))
		var n int
		n, err = c.Read(p)
		b.Write(p[:n])
	}
	if !errors.Is(err, io.EOF) {
		return told{}, err
	}
	return told{clone(&h), b.String(), cloneFields(c.Trailer())}, nil
}

// TestRoundTrip has many messages written to a connection in a row and read from it, in random pieces.
func TestRoundTrip(t *testing.T) {
	r := random{rand.New(rand.NewPCG(1, 2))}
	for round := range 15 {
		out, in := &memory{}, &memory{}
		client, server := New(out, &defaults, nil), New(in, &defaults, nil)
		var requests, answers []told
		for range 30 {
			requests, answers = append(requests, r.request()), append(answers, r.answer())
			if err := r.write(client, &requests[len(requests)-1]); err != nil {
				t.Fatal(err)
			}
		}
		in.in, in.piece = slices.Clone(out.out), 1+r.IntN([]int{3, 1000, 100000}[round%3])
		if in.piece < 4 {
			in.in = in.in[:min(len(in.in), 5000)] // they take their time
		}
		for i := range requests {
			got, err := r.read(server, nil)
			if err != nil || got.content != requests[i].content {
				if in.piece < 4 && len(in.in) == 0 {
					break
				}
				t.Fatalf("request %d: %d bytes of content, want %d; %v", i, len(got.content), len(requests[i].content), err)
			}
			sameRequest(t, &requests[i], &got)
			if err := r.write(server, &answers[i]); err != nil {
				t.Fatal(err)
			}
		}
		out.in, out.piece = in.out, 1+r.IntN([]int{3000, 100000}[round%2])
		for i := range answers {
			got, err := r.read(client, get)
			if err != nil && len(out.in) == 0 && in.piece < 4 {
				break
			}
			want := answers[i]
			if err != nil || got.content != want.content || got.head.Status != want.head.Status || got.head.Length != want.head.Length ||
				!slices.Equal(carried(got.head.Fields), carried(want.head.Fields)) || !slices.Equal(got.trailer, want.trailer) {
				t.Fatalf("answer %d is %.300v, %v\nwant %.300v", i, got, err, want)
			}
		}
	}
}
