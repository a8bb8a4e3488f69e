// SPDX-License-Identifier: Apache-2.0

package limits

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Unit is what a limit is counted in.
type Unit uint8

// The units.
const (
	Count Unit = iota // things: "250"
	Bytes             // bytes, in powers of 1024: "512", "64KiB", "16MiB"
	Time              // Go's durations: "20ms", "1m30s", "1h"
)

// Limit is one row of the table.
type Limit struct {
	Name Name
	Unit Unit
	// Default, Min and Max are in things, bytes or nanoseconds. Outside Min and Max nothing is accepted, but for 0 where it
	// is the default.
	Default, Min, Max int64
	// What is bounded, and what happens Over the limit.
	What, Over string

	number func(*Set) *int
	period func(*Set) *time.Duration
}

// table is in the order of the docs.
var table = []Limit{
	size(HeaderBytes, 128<<10, 4<<10, 1<<20, func(s *Set) *int { return &s.HeaderBytes },
		"head or trailers of a message, decompressed: names, values and 32 bytes for each field", "431; 502 for an answer"),
	count(HeaderFields, 200, 16, 10_000, func(s *Set) *int { return &s.HeaderFields },
		"fields of them", "431; 502 for an answer"),
	size(RequestLine, 32<<10, 1<<10, 1<<20, func(s *Set) *int { return &s.RequestLine },
		"method, target and version of a request", "414"),
	period(FirstByte, 10*time.Second, 100*time.Millisecond, time.Hour, func(s *Set) *time.Duration { return &s.FirstByte },
		"silence of an inbound caller that has to speak first", "the connection is closed: `no_first_byte`"),
	period(HeaderTime, 10*time.Second, 100*time.Millisecond, time.Hour, func(s *Set) *time.Duration { return &s.HeaderTime },
		"a message's head, from its first byte to its last; of a connection's first request, once its method tells that it is HTTP",
		"408 and close, 502 for an answer; GOAWAY"),
	period(Handshake, 10*time.Second, 100*time.Millisecond, time.Hour, func(s *Set) *time.Duration { return &s.Handshake },
		"the handshake of mesh TLS", "the connection is closed: `tls_failed`"),
	period(BodyIdle, time.Minute, time.Second, 24*time.Hour, func(s *Set) *time.Duration { return &s.BodyIdle },
		"silence within a request's content, on HTTP/1.1", "408 and close"),
	period(SendIdle, 5*time.Minute, time.Second, 24*time.Hour, func(s *Set) *time.Duration { return &s.SendIdle },
		"time that a peer of HTTP has to take what is sent to it in one piece, 64 KiB at most; of an HTTP/2 stream, time that it takes nothing",
		"the connection is closed; RST_STREAM"),
	period(Idle, 10*time.Minute, time.Second, 24*time.Hour, func(s *Set) *time.Duration { return &s.Idle },
		"time between requests of a caller's connection, and outbound before the first", "the connection is closed; GOAWAY"),
	period(HalfClosed, time.Hour, time.Second, 7*24*time.Hour, func(s *Set) *time.Duration { return &s.HalfClosed },
		"silence of a TCP connection, upgrade or tunnel that one side has ended", "the connection is closed; RST_STREAM"),
	period(Grace, 20*time.Millisecond, time.Nanosecond, 10*time.Second, func(s *Set) *time.Duration { return &s.Grace },
		"time that a caller has to speak, on a port that nobody declared, before its server is dialled so that it may", "the server is dialled; nothing is counted"),
	count(Pipelined, 100, 1, 100_000, func(s *Set) *int { return &s.Pipelined },
		"requests in a row that came before the answer to the one before them", "`Connection: close` with the answer"),
	count(Streams, 250, 1, 100_000, func(s *Set) *int { return &s.Streams },
		"streams open at a time, of one HTTP/2 connection", "REFUSED_STREAM"),
	count(Resets, 500, 10, 1_000_000, func(s *Set) *int { return &s.Resets },
		"streams reset by a peer, or by the proxy for the peer's fault, in 10 s of one connection", "GOAWAY with ENHANCE_YOUR_CALM"),
	count(ControlFrames, 2_000, 100, 1_000_000, func(s *Set) *int { return &s.ControlFrames },
		"frames that carry nothing in 10 s of one connection: SETTINGS, PING, PRIORITY, WINDOW_UPDATE, empty DATA", "GOAWAY with ENHANCE_YOUR_CALM"),
	count(Continuations, 16, 1, 1_000, func(s *Set) *int { return &s.Continuations },
		"CONTINUATION frames of one head", "GOAWAY with ENHANCE_YOUR_CALM"),
	size(StreamWindow, 64<<10, 16<<10, 16<<20, func(s *Set) *int { return &s.StreamWindow },
		"bytes that a peer may send on one stream before they have been passed on", "the peer waits, and nothing is counted; RST_STREAM with FLOW_CONTROL_ERROR if it does not"),
	size(ConnectionWindow, 1<<20, 64<<10, 64<<20, func(s *Set) *int { return &s.ConnectionWindow },
		"the same of all streams of a connection", "the peer waits, and nothing is counted; GOAWAY with FLOW_CONTROL_ERROR if it does not"),
	count(Connections, 10_000, 1, 1_000_000, func(s *Set) *int { return &s.Connections },
		"connections carried at a time, inbound and outbound each", "the connection is reset at once: `overloaded`"),
	count(ConnectionsPerSource, 0, 1, 1_000_000, func(s *Set) *int { return &s.ConnectionsPerSource },
		"those of them that come from one address, inbound", "the connection is reset at once: `overloaded`"),
	size(Memory, 64<<20, 1<<20, 16<<30, func(s *Set) *int { return &s.Memory },
		"bytes that wait in the proxy's buffers, of all connections", "503 `overloaded` for new requests, and no body is held for a second try"),
	size(ReplayBytes, 64<<10, 1, 16<<20, func(s *Set) *int { return &s.ReplayBytes },
		"a request's content that is held for a second try", "the request is not tried again; nothing is counted"),
}

func count(n Name, def, least, most int64, field func(*Set) *int, what, over string) Limit {
	return Limit{Name: n, Unit: Count, Default: def, Min: least, Max: most, What: what, Over: over, number: field}
}

func size(n Name, def, least, most int64, field func(*Set) *int, what, over string) Limit {
	return Limit{Name: n, Unit: Bytes, Default: def, Min: least, Max: most, What: what, Over: over, number: field}
}

func period(n Name, def, least, most time.Duration, field func(*Set) *time.Duration, what, over string) Limit {
	return Limit{
		Name: n, Unit: Time, Default: int64(def), Min: int64(least), Max: int64(most), What: what, Over: over, period: field,
	}
}

// All returns the table in the order of the docs.
func All() []Limit { return slices.Clone(table) }

// Of returns the limit's value in a set.
func (l *Limit) Of(s *Set) int64 {
	if l.Unit == Time {
		return int64(*l.period(s))
	}
	return int64(*l.number(s))
}

func (l *Limit) set(s *Set, value int64) {
	if l.Unit == Time {
		*l.period(s) = time.Duration(value)
		return
	}
	*l.number(s) = int(value)
}

// Format spells a value of the limit as a list has it.
func (l *Limit) Format(value int64) string {
	switch l.Unit {
	case Time:
		text := time.Duration(value).String()
		if cut, ok := strings.CutSuffix(text, "m0s"); ok {
			text = cut + "m"
		}
		if cut, ok := strings.CutSuffix(text, "h0m"); ok {
			text = cut + "h"
		}
		return text
	case Bytes:
		for _, suffix := range suffixes {
			if value > 0 && value%suffix.bytes == 0 {
				return strconv.FormatInt(value/suffix.bytes, 10) + suffix.name
			}
		}
	case Count:
	}
	return strconv.FormatInt(value, 10)
}

var suffixes = []struct {
	name  string
	bytes int64
}{{"GiB", 1 << 30}, {"MiB", 1 << 20}, {"KiB", 1 << 10}}

// Over says, for whoever is refused, which limit it was and where it is set.
func (s *Set) Over(name Name) string {
	for i := range table {
		if l := &table[i]; l.Name == name {
			return fmt.Sprintf("limit %s=%s: %s; it can be raised with annotation heddle.io/proxy-limits", name, l.Format(l.Of(s)), l.What)
		}
	}
	return "limit " + string(name)
}
