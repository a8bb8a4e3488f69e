// SPDX-License-Identifier: Apache-2.0

// Package limits is the one table of what bounds a proxy: the names, defaults and ranges of its limits, how a list of them
// is read, and how memory that many connections share is counted. The proxy obeys the list and the injector checks it, so
// it is shared and knows neither. docs/limits.md lists the same; a test compares.
package limits

import "time"

// Name is a limit's name, in lists of limits and as label of `heddle_limit_exceeded_total`.
type Name string

// The names.
const (
	HeaderBytes          Name = "header-bytes"
	HeaderFields         Name = "header-fields"
	RequestLine          Name = "request-line"
	FirstByte            Name = "first-byte"
	HeaderTime           Name = "header-time"
	Handshake            Name = "handshake"
	BodyIdle             Name = "body-idle"
	SendIdle             Name = "send-idle"
	Idle                 Name = "idle"
	HalfClosed           Name = "half-closed"
	Grace                Name = "grace"
	Pipelined            Name = "pipelined"
	Streams              Name = "streams"
	Resets               Name = "resets"
	ControlFrames        Name = "control-frames"
	Continuations        Name = "continuations"
	StreamWindow         Name = "stream-window"
	ConnectionWindow     Name = "connection-window"
	Connections          Name = "connections"
	ConnectionsPerSource Name = "connections-per-source"
	Memory               Name = "memory"
	ReplayBytes          Name = "replay-bytes"
)

// Set has a value for every limit. Counts and sizes in bytes are int. A field that is zero means its default, see
// WithDefaults; of ConnectionsPerSource that is no limit.
type Set struct {
	HeaderBytes  int           // of one head or trailer section: names, values and 32 for each field (RFC 9113, 6.5.2)
	HeaderFields int           // field lines of one head or trailer section
	RequestLine  int           // bytes of method, target and version of a request
	FirstByte    time.Duration // until an inbound caller that has to speak first does
	HeaderTime   time.Duration // from the first byte of a head to its last
	Handshake    time.Duration // of mesh TLS
	BodyIdle     time.Duration // between bytes of a request's content on HTTP/1.1
	SendIdle     time.Duration // that a peer has to take what is sent to it in one piece
	Idle         time.Duration // between requests of a connection
	HalfClosed   time.Duration // without a byte, of TCP that one side has ended
	Grace        time.Duration // that a caller on an undeclared port has to speak before its server is dialled

	Pipelined int // requests in a row that were here before the answer to the one before was sent

	Streams          int // open at a time, of one connection
	Resets           int // of streams, by the peer or for its fault, in ten seconds of one connection
	ControlFrames    int // that carry nothing, in ten seconds of one connection
	Continuations    int // CONTINUATION frames of one head
	StreamWindow     int // bytes that a peer may send on a stream before they have been passed on
	ConnectionWindow int // the same of all streams of a connection

	Connections          int // carried at a time, of each direction
	ConnectionsPerSource int // of them, from one address; 0 is no limit
	Memory               int // bytes that wait in buffers, of all connections
	ReplayBytes          int // of a request's content that are held for a second try
}

// Default returns the defaults.
func Default() Set { return Set{}.WithDefaults() }

// WithDefaults returns the set with the default in place of each zero.
func (s Set) WithDefaults() Set {
	for i := range table {
		if l := &table[i]; l.Of(&s) == 0 {
			l.set(&s, l.Default)
		}
	}
	return s
}

// Counter counts what went over a limit. It must be safe for concurrent use.
type Counter interface{ Exceeded(Name) }

// Nop is a Counter that counts nothing.
type Nop struct{}

// Exceeded implements Counter.
func (Nop) Exceeded(Name) {}
