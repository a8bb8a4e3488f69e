// SPDX-License-Identifier: Apache-2.0

package http2

import "github.com/heddle-mesh/heddle/proxy/message"

// Sink gets what comes on a stream. It is called by the connection's reader alone, but for Drained, one call at a time,
// with no lock of this package held. It must not block. Nothing comes after Reset, after both sides have ended, or after
// the Stream's own Reset has returned, but for a Drained or another call that is under way just then.
type Sink interface {
	// Head is the head of a request, or of an answer; interim answers (1xx) come the same way, before the final one. Its
	// strings may be kept, h and h.Fields are valid during the call only. end says that there is no content. Host is not
	// among the fields: it is h.Authority. h.Length is that of content-length, 0 if end, otherwise message.Unknown.
	Head(h *message.Head, end bool)
	// Data is a piece of the content, valid during the call only. len(p) bytes of the stream's window are taken until they
	// are Consumed. p may be empty when end is true.
	Data(p []byte, end bool)
	// Trailer ends the stream's content. Strings may be kept, the slice may not.
	Trailer(fields []message.Field)
	// Reset is the last event of a stream that did not end well, but not of one that Stream.Reset has ended.
	Reset(why *StreamError)
	// Drained says that n more bytes are on their way which SendData did not report as passed. The connection's writer
	// calls it, perhaps while another event is under way.
	Drained(n int)
}

// Stream is one request and its answer. Its methods may be called from any goroutine; they never block and never call a
// sink. After the end of the stream they do nothing. What is sent goes out in the order of the calls.
type Stream struct {
	conn *Conn
	id   uint32
}

// Conn returns the stream's connection.
func (s *Stream) Conn() *Conn { return s.conn }

// ID returns the stream's number.
func (s *Stream) ID() uint32 { return s.id }

// Pair says that most of what is sent on s is sent by events of o's connection: the writer is then woken once for all that
// o's connection had at hand, instead of at the first frame of it.
func (s *Stream) Pair(o *Conn) {}

// SendHead sends an answer's head, interim ones too. Connection-specific fields and Host are left out (RFC 9113, section
// 8.2.2), names are put in lower case. Strings and Fields are not kept. h.Length is not looked at: only a content-length among the fields is sent.
func (s *Stream) SendHead(h *message.Head, end bool) {}

// SendData sends content, which it copies, and with end the end of it. passed bytes are on their way; the others wait for
// the peer's windows or for the socket, and are reported by Sink.Drained.
func (s *Stream) SendData(p []byte, end bool) (passed int) { return 0 }

// SendTrailer sends trailer fields after the content, and ends it. Without fields it is the end alone.
func (s *Stream) SendTrailer(fields []message.Field) {}

// Reset ends the stream at once and drops what waits; the sink gets nothing more. NoError after this side's end was sent
// waits for all that is queued (RFC 9113, section 8.1).
func (s *Stream) Reset(code Code) {}

// Consumed gives n bytes of window back to the peer, in batches. What is consumed must have come by Data.
func (s *Stream) Consumed(n int) {}
