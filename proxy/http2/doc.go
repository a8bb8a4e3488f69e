// SPDX-License-Identifier: Apache-2.0

// Package http2 speaks HTTP/2 (RFC 9113) on one connection, as server and as client, for a proxy that joins streams.
//
// A connection has two goroutines, whatever the number of its streams: its reader, which is the caller of Serve, and its
// writer. The reader acts on each frame as it comes and tells the stream's Sink; what a sink sends on another connection
// is appended to that connection's buffer, and its writer writes all that is there at once, after the readers that can run
// have added to it. A reader never waits for anything but its own socket.
//
// Back-pressure is HTTP/2's own. SendData reports how much of the content is on its way; the rest waits in the stream for
// its window or for the socket and is reported by Drained. A relay gives just that back to the sender with Consumed, so what
// waits of a stream is never more than the window that was granted for it:
//
//	func (r *relay) Data(p []byte, end bool) { r.src.Consumed(r.dst.SendData(p, end)) } // of the sink of src
//	func (r *relay) Drained(n int)           { r.src.Consumed(n) }                      // of the sink of dst
//
// The window of the connection is given back as content arrives, so a slow stream never holds up its neighbours.
//
// All that a peer can make grow is bounded by limits.Set, and what goes beyond is counted and answered.
package http2
