// SPDX-License-Identifier: Apache-2.0

package http2

import "encoding/binary"

// preface is what a client sends first (RFC 9113, section 3.4).
const preface = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"

// The types of frames (RFC 9113, section 6).
const (
	frameData         = 0x0
	frameHeaders      = 0x1
	framePriority     = 0x2
	frameReset        = 0x3
	frameSettings     = 0x4
	framePush         = 0x5
	framePing         = 0x6
	frameGoAway       = 0x7
	frameWindow       = 0x8
	frameContinuation = 0x9
)

// Flags of frames.
const (
	flagEndStream  = 0x1
	flagAck        = 0x1
	flagEndHeaders = 0x4
	flagPadded     = 0x8
	flagPriority   = 0x20
)

// Settings (RFC 9113, section 6.5.2, and RFC 8441).
const (
	settingTableSize       = 0x1
	settingPush            = 0x2
	settingStreams         = 0x3
	settingWindow          = 0x4
	settingFrameSize       = 0x5
	settingHeadSize        = 0x6
	settingExtendedConnect = 0x8
)

const (
	frameHead     = 9                 // bytes before a frame's payload
	frameMost     = 1 << 14           // of payload: what everybody takes, and all that we take
	windowDefault = 1<<16 - 1         // of a stream and of the connection, before anybody says otherwise
	windowMost    = 1<<31 - 1         // flow-control window
	streamMost    = 1<<31 - 1         // stream number
	tableMost     = 4096              // bytes of an HPACK table: the default
	goAwaySize    = frameHead + 8     // without a text
	resetSize     = frameHead + 4     //
	pingSize      = frameHead + 8     //
	sixteenMost   = 1<<24 - 1         // MAX_FRAME_SIZE
	headSizeExtra = 32                // what a field counts beyond its strings (RFC 7541, section 4.1)
	pseudoMost    = len(":authority") //
)

// frame is the head of a frame.
type frame struct {
	length int
	kind   byte
	flags  byte
	stream uint32
}

// parseFrame reads the head of a frame from its nine bytes.
func parseFrame(b []byte) frame {
	_ = b[frameHead-1]
	return frame{
		length: int(b[0])<<16 | int(b[1])<<8 | int(b[2]),
		kind:   b[3],
		flags:  b[4],
		stream: binary.BigEndian.Uint32(b[5:]) & streamMost,
	}
}

func (f *frame) has(flag byte) bool { return f.flags&flag != 0 }

// appendFrame appends the head of a frame.
func appendFrame(b []byte, length int, kind, flags byte, stream uint32) []byte {
	return append(b, byte(length>>16), byte(length>>8), byte(length), kind, flags,
		byte(stream>>24), byte(stream>>16), byte(stream>>8), byte(stream))
}

// putLength writes a frame's length into its head, when it is known.
func putLength(b []byte, length int) {
	b[0], b[1], b[2] = byte(length>>16), byte(length>>8), byte(length)
}

func appendReset(b []byte, stream uint32, code Code) []byte {
	b = appendFrame(b, 4, frameReset, 0, stream)
	return binary.BigEndian.AppendUint32(b, uint32(code))
}

func appendWindow(b []byte, stream uint32, n int) []byte {
	b = appendFrame(b, 4, frameWindow, 0, stream)
	return binary.BigEndian.AppendUint32(b, uint32(n))
}

func appendPing(b []byte, flags byte, data uint64) []byte {
	b = appendFrame(b, 8, framePing, flags, 0)
	return binary.BigEndian.AppendUint64(b, data)
}

func appendGoAway(b []byte, last uint32, code Code, text string) []byte {
	b = appendFrame(b, 8+len(text), frameGoAway, 0, 0)
	b = binary.BigEndian.AppendUint32(b, last)
	b = binary.BigEndian.AppendUint32(b, uint32(code))
	return append(b, text...)
}

func appendSetting(b []byte, id uint16, value int) []byte {
	b = binary.BigEndian.AppendUint16(b, id)
	return binary.BigEndian.AppendUint32(b, uint32(value))
}
