// SPDX-License-Identifier: Apache-2.0

// Package http1 is HTTP/1.1 on one connection (RFC 9110 and 9112), for either side of it: a strict reader and a writer of
// messages. It blocks and starts no goroutine. One goroutine reads a connection and one writes it; they may be two.
//
// A server's loop, in short:
//
//	for conn.Wait(until) == nil {
//		if err := conn.ReadRequest(&head); err != nil { answer the *ProtocolError's status; break }
//		... conn.Peek, conn.Read ...           // content, until io.EOF; then conn.Trailer
//		conn.WriteResponse(&answer); conn.Write(p); conn.End(nil); conn.Flush()
//		if !conn.Reusable() { break }
//	}
//
// A client's: WriteRequest, Write, End, Flush; ReadResponse until the status is not 1xx; Read until io.EOF; Reusable.
//
// # Lifetimes
//
// Nothing is allocated for a message once a connection is warm. The strings of a Head, and of Trailer, point into the
// connection's buffer: they are valid until the next ReadRequest, ReadResponse, Wait or Release on that connection, and
// must be cloned to outlive that. The buffer goes back to a pool then and others write into it, so a string that is kept
// too long is not only old, it becomes something else.
//
// # Doubt
//
// What two implementations could read in two ways is refused (RFC 9112, section 11.2), in answers as in requests: see
// ProtocolError. Nothing after a message that was refused is read.
package http1

import (
	"errors"
	"strconv"
)

// ProtocolError is a message that broke HTTP, or a limit. Status is what to answer to a request before closing the
// connection; of an answer it is 502, or 504 where its head did not come to an end in time.
type ProtocolError struct {
	Status int
	Detail string // what is wrong, in words that hold nothing of the message
}

// Error implements error.
func (e *ProtocolError) Error() string { return e.Detail + " (" + strconv.Itoa(e.Status) + ")" }

// What waiting for a peer can end with, besides io.EOF and io.ErrUnexpectedEOF.
var (
	// ErrIdle says that nothing came until the deadline, of Wait or of SetDeadline. The connection is as it was.
	ErrIdle = errors.New("http1: nothing came in time")
	// ErrInterrupted says that Interrupt was called. The connection is as it was.
	ErrInterrupted = errors.New("http1: interrupted")
	// ErrLength says that the content written is not as long as its head says. The connection can only be closed.
	ErrLength = errors.New("http1: content is not as long as announced")
	// ErrField says that a head or trailer that was to be written holds what HTTP/1.1 cannot carry. Nothing was written.
	ErrField = errors.New("http1: head cannot be written")

	errShort = errors.New("http1: more is needed")
)

func bad(detail string) error { return &ProtocolError{400, detail} }
