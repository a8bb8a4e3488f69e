// SPDX-License-Identifier: Apache-2.0

package http1

import (
	"errors"
	"io"

	"github.com/heddle-mesh/heddle/proxy/message"
)

type chunkState uint8

// Where the reader of chunks is.
const (
	chunkSize  chunkState = iota // before a size
	chunkData                    // in a chunk, or at its end
	chunkTrail                   // behind the chunk of size 0
	chunksOver
)

const (
	maxChunkLine  = 1 << 10  // bytes of the line with a chunk's size
	maxExtensions = 16 << 10 // bytes of the extensions of all chunks of a message
)

// nextChunk goes on from the end of a chunk to the next content that is here. It returns errShort where more must come,
// and io.EOF at the end of the content.
func (c *Conn) nextChunk() error {
	in, body := &c.in, &c.body
	for {
		var b []byte
		if in.buf != nil {
			b = in.buf.b[in.r:in.w]
		}
		switch body.state {
		case chunkData:
			if body.left > 0 {
				return nil
			}
			switch {
			case len(b) > 0 && b[0] != '\r', len(b) > 1 && b[1] != '\n':
				return c.refuse(bad("a chunk is longer than its size"))
			case len(b) < 2:
				return errShort
			}
			in.r += 2
			body.state = chunkSize
		case chunkSize:
			size, n, err := body.sizeLine(b)
			if errors.Is(err, errShort) {
				return err
			} else if err != nil {
				return c.refuse(err)
			}
			in.r += n
			body.left, body.state = size, chunkData
			if size == 0 {
				body.state = chunkTrail
			}
		case chunkTrail:
			return c.readTrailer(b)
		default:
			return io.EOF
		}
	}
}

// sizeLine parses "1a;name=value\r\n" and returns the size and the length of the line.
func (b *body) sizeLine(p []byte) (size int64, n int, err error) {
	for n < len(p) {
		d, ok := unhex(p[n])
		if !ok {
			break
		}
		if n == 16 || size > (1<<63-1)>>4 {
			return 0, 0, bad("a chunk's size is too large")
		}
		size = size<<4 | d
		n++
	}
	if n == len(p) {
		return 0, 0, errShort
	}
	if n == 0 {
		return 0, 0, bad("a chunk does not begin with its size")
	}
	length := 0
	if p[n] == ';' {
		length, err = extensions(p[n:min(len(p), maxChunkLine)])
		if errors.Is(err, errShort) && len(p) >= maxChunkLine {
			err = bad("chunk extensions are too long")
		}
		if err != nil {
			return 0, 0, err
		}
		n += length
		if b.extra+length > maxExtensions {
			return 0, 0, bad("chunk extensions are too long")
		}
	}
	switch {
	case n == len(p), p[n] == '\r' && n+1 == len(p):
		return 0, 0, errShort
	case p[n] != '\r' || p[n+1] != '\n':
		return 0, 0, bad("a chunk's size is not followed by the end of the line")
	}
	b.extra += length
	return size, n + 2, nil
}

func unhex(c byte) (int64, bool) {
	switch {
	case c >= '0' && c <= '9':
		return int64(c - '0'), true
	case c >= 'a' && c <= 'f':
		return int64(c-'a') + 10, true
	case c >= 'A' && c <= 'F':
		return int64(c-'A') + 10, true
	}
	return 0, false
}

// extensions returns the length of ";name=value;name..." at the front of p (RFC 9112, section 7.1.1, without bad white
// space). They go no further.
func extensions(p []byte) (n int, err error) {
	for n < len(p) && p[n] == ';' {
		n++
		name := message.TokenEnd(p[n:])
		if n += name; n == len(p) {
			break
		}
		if name == 0 {
			return 0, bad("a chunk extension without a name")
		}
		if p[n] != '=' {
			continue
		}
		if n++; n == len(p) {
			break
		}
		if p[n] == '"' {
			length, err := quoted(p[n:])
			if err != nil {
				return 0, err
			}
			n += length
			continue
		}
		value := message.TokenEnd(p[n:])
		if n += value; n < len(p) && value == 0 {
			return 0, bad("a chunk extension without a value")
		}
	}
	if n == len(p) {
		return 0, errShort
	}
	return n, nil
}

// quoted returns the length of a quoted string.
func quoted(p []byte) (int, error) {
	end := message.ControlIn(p)
	for i := 1; i < end; i++ {
		switch p[i] {
		case '"':
			return i + 1, nil
		case '\\':
			i++
		}
	}
	if end < len(p) {
		return 0, bad("a control character in a chunk extension")
	}
	return 0, errShort
}

// readTrailer parses the trailer section, once it is here.
func (c *Conn) readTrailer(b []byte) error {
	body := &c.body
	if len(b) == 0 {
		return errShort
	}
	var whole bool
	if body.scanned, whole = sectionEnd(b, body.scanned); !whole && len(b) < 2*body.parsed { // as readHead does
		return errShort
	}
	s := section{set: c.set, first: true}
	n, fields, err := s.parse(b, 0, body.trailer[:0])
	if s.over != "" {
		c.count.Exceeded(s.over)
	}
	if errors.Is(err, errShort) {
		body.parsed = len(b)
		return errShort
	} else if err != nil {
		return c.refuse(err)
	}
	for i := range fields {
		if message.ForbiddenTrailer(fields[i].Name) {
			return c.refuse(bad("a trailer field that must stand in the header"))
		}
	}
	c.in.r += n
	c.in.floor = c.in.r // its strings stay
	body.trailer, body.state = fields, chunksOver
	return io.EOF
}
