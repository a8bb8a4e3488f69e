// SPDX-License-Identifier: Apache-2.0

package http2

import (
	"errors"
	"fmt"
)

// Code says why a stream or a connection ends (RFC 9113, section 7).
type Code uint32

// The codes of RFC 9113, section 7.
const (
	NoError            Code = 0x0
	ProtocolError      Code = 0x1
	InternalError      Code = 0x2
	FlowControlError   Code = 0x3
	SettingsTimeout    Code = 0x4
	StreamClosed       Code = 0x5
	FrameSizeError     Code = 0x6
	RefusedStream      Code = 0x7
	Cancel             Code = 0x8
	CompressionError   Code = 0x9
	ConnectError       Code = 0xa
	EnhanceYourCalm    Code = 0xb
	InadequateSecurity Code = 0xc
	HTTP11Required     Code = 0xd
)

var codeNames = [...]string{
	NoError: "NO_ERROR", ProtocolError: "PROTOCOL_ERROR", InternalError: "INTERNAL_ERROR", FlowControlError: "FLOW_CONTROL_ERROR",
	SettingsTimeout: "SETTINGS_TIMEOUT", StreamClosed: "STREAM_CLOSED", FrameSizeError: "FRAME_SIZE_ERROR",
	RefusedStream: "REFUSED_STREAM", Cancel: "CANCEL", CompressionError: "COMPRESSION_ERROR", ConnectError: "CONNECT_ERROR",
	EnhanceYourCalm: "ENHANCE_YOUR_CALM", InadequateSecurity: "INADEQUATE_SECURITY", HTTP11Required: "HTTP_1_1_REQUIRED",
}

// String returns the name that RFC 9113 gives the code.
func (c Code) String() string {
	if int(c) < len(codeNames) {
		return codeNames[c]
	}
	return fmt.Sprintf("code %#x", uint32(c))
}

// StreamError is why a stream ended before its time.
type StreamError struct {
	Code Code
	// Unprocessed says that the peer has certainly not acted on the request: it refused the stream, it is above the last
	// one of its GOAWAY, or its head was never written. It may be sent again whatever its method.
	Unprocessed bool
	// FromPeer says that the peer reset the stream. Otherwise the content or head that it sent was wrong, or the connection ended.
	FromPeer bool
	// Gone says that the whole connection is over.
	Gone bool
	// Detail is for logs and refusals: a sentence without a full stop.
	Detail string
}

func (e *StreamError) Error() string {
	if e.Detail == "" {
		return "http2: stream: " + e.Code.String()
	}
	return "http2: stream: " + e.Code.String() + ": " + e.Detail
}

// ConnError is why a connection is over: what the peer did wrong, and was told with GOAWAY, or what it said with its own.
type ConnError struct {
	Code     Code
	FromPeer bool
	Detail   string
}

func (e *ConnError) Error() string {
	who := "http2: connection: "
	if e.FromPeer {
		who = "http2: connection: the peer says "
	}
	return who + e.Code.String() + ": " + e.Detail
}

// Errors of Open. Nothing was sent.
var (
	// ErrNoRoom says that the peer's MAX_CONCURRENT_STREAMS is reached, or that its SETTINGS have not come yet.
	ErrNoRoom = errors.New("http2: no room for another stream now")
	// ErrGone says that the connection takes no new streams any more.
	ErrGone = errors.New("http2: the connection takes no new streams")
)

// Why a connection ended, besides a *ConnError and the errors of the socket.
var (
	// ErrClosed says that Close was called without a reason.
	ErrClosed = errors.New("http2: connection closed")
	// ErrSilent says that the peer did not answer a PING in time.
	ErrSilent = errors.New("http2: the peer answers no PING")
	// ErrStalled says that the peer took nothing of what was sent for too long.
	ErrStalled = errors.New("http2: the peer takes nothing of what is sent")
	// ErrPreface says that the peer does not speak HTTP/2, or did not begin in time.
	ErrPreface = errors.New("http2: no connection preface came")
)
