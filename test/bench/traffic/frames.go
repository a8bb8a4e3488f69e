// SPDX-License-Identifier: Apache-2.0

//go:build linux

package traffic

import (
	"encoding/binary"
)

// preface is what a client of HTTP/2 begins with.
const preface = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"

// Frames of RFC 9113, section 6: as much of them as the bench needs.
const (
	frameData         = 0x0
	frameHeaders      = 0x1
	frameReset        = 0x3
	frameSettings     = 0x4
	framePing         = 0x6
	frameGoAway       = 0x7
	frameWindowUpdate = 0x8
	frameContinuation = 0x9

	flagEndStream  = 0x1
	flagAck        = 0x1
	flagEndHeaders = 0x4
	flagPadded     = 0x8
	flagPriority   = 0x20

	settingStreams    = 0x3
	settingWindow     = 0x4
	frameHead         = 9
	maxFrame          = 16 << 10
	defaultWindow     = 65535
	grantedStream     = 8 << 20
	grantedConnection = 1 << 30
	replenish         = 1 << 28
)

// frame is one that came.
type frame struct {
	kind, flags byte
	stream      uint32
	payload     []byte
}

// nextFrame cuts the first frame off p. Without a whole one, ok is false.
func nextFrame(p []byte) (f frame, rest []byte, ok bool) {
	if len(p) < frameHead {
		return f, p, false
	}
	n := int(p[0])<<16 | int(p[1])<<8 | int(p[2])
	if len(p) < frameHead+n {
		return f, p, false
	}
	f = frame{p[3], p[4], binary.BigEndian.Uint32(p[5:]) & (1<<31 - 1), p[frameHead : frameHead+n]}
	return f, p[frameHead+n:], true
}

// content returns the payload without padding and priority, nil if they are wrong.
func (f frame) content() []byte {
	p := f.payload
	if f.flags&flagPadded != 0 && (f.kind == frameData || f.kind == frameHeaders) {
		if len(p) == 0 || int(p[0]) >= len(p) {
			return nil
		}
		p = p[1 : len(p)-int(p[0])]
	}
	if f.kind == frameHeaders && f.flags&flagPriority != 0 {
		if len(p) < 5 {
			return nil
		}
		p = p[5:]
	}
	return p
}

// appendFrame appends the head of a frame, of which n bytes are to follow.
func appendFrame(b []byte, kind, flags byte, stream uint32, n int) []byte {
	b = append(b, byte(n>>16), byte(n>>8), byte(n), kind, flags) //nolint:gosec // the low bytes are what is wanted
	return binary.BigEndian.AppendUint32(b, stream)
}

func appendSettings(b []byte, pairs ...uint32) []byte {
	b = appendFrame(b, frameSettings, 0, 0, len(pairs)/2*6)
	for i := 0; i < len(pairs); i += 2 {
		b = binary.BigEndian.AppendUint16(b, uint16(pairs[i])) //nolint:gosec // a setting
		b = binary.BigEndian.AppendUint32(b, pairs[i+1])
	}
	return b
}

// appendWindowUpdate gives window back to the whole connection.
func appendWindowUpdate(b []byte, n int) []byte {
	b = appendFrame(b, frameWindowUpdate, 0, 0, 4)
	return binary.BigEndian.AppendUint32(b, uint32(n)) //nolint:gosec // at most 2^31-1
}

// settings calls each with what a SETTINGS frame holds.
func (f frame) settings(each func(id uint16, value uint32)) {
	for p := f.payload; len(p) >= 6; p = p[6:] {
		each(binary.BigEndian.Uint16(p), binary.BigEndian.Uint32(p[2:]))
	}
}

// number is the payload of a WINDOW_UPDATE or RST_STREAM, or the last stream of a GOAWAY.
func (f frame) number() uint32 {
	if len(f.payload) < 4 {
		return 0
	}
	return binary.BigEndian.Uint32(f.payload) & (1<<31 - 1)
}

// frames keeps what came of a frame that isn't whole.
type frames struct{ rest []byte }

// feed hands every whole frame to each, until that returns false.
func (s *frames) feed(p []byte, each func(frame) bool) {
	if len(s.rest) > 0 {
		s.rest = append(s.rest, p...)
		p = s.rest
	}
	for {
		f, rest, ok := nextFrame(p)
		if !ok {
			// p may lie in rest: append copies forward, which is safe.
			s.rest = append(s.rest[:0], p...)
			return
		}
		p = rest
		if !each(f) {
			return
		}
	}
}
