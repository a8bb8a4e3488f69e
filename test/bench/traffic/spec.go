// SPDX-License-Identifier: Apache-2.0

//go:build linux

package traffic

import (
	"net/netip"
	"time"
)

// Protocols of a Load.
const (
	HTTP1    = "http1"
	Post     = "post" // HTTP/1.1, with content of 1 KiB
	HTTP2    = "http2"
	Unary    = "unary"    // gRPC, a message each way
	Messages = "messages" // gRPC, streams of 100 messages, each answered before the next
	Download = "download" // TCP, from the origin
	Echo     = "echo"     // TCP, a KiB there and back
)

// Load is what one run of the generator sends.
type Load struct {
	Target      netip.AddrPort `json:"target"`
	Protocol    string         `json:"protocol"`
	Size        string         `json:"size"`   // of Sizes
	Query       string         `json:"query"`  // of the paths, but for gRPC's; or empty
	Cookie      string         `json:"cookie"` // that requests bring, but for gRPC's; or empty
	Connections int            `json:"connections"`
	Streams     int            `json:"streams"` // of each connection, at once
	// Active is how many requests are under way at once: all slots take turns. 0 is all of them.
	Active int `json:"active"`
	// Rate is how many a second are meant to be sent, whether or not the answers come. 0 sends on every answer instead.
	Rate     float64       `json:"rate"`
	Seed     uint64        `json:"seed"`
	Warmup   time.Duration `json:"warmup"`
	Duration time.Duration `json:"duration"`
	// Processes are those whose processor time is taken at the beginning and at the end: the proxies, and others.
	Processes []int `json:"processes"`
	Others    []int `json:"others"`
	// Credentials are for Handshakes.
	Credentials Credentials `json:"credentials"`
}

// Result is what came of a Load, of the time after the warm-up alone.
type Result struct {
	Requests int64         `json:"requests"`
	Errors   int64         `json:"errors"`
	Error    string        `json:"error,omitempty"` // the first
	Bytes    int64         `json:"bytes"`
	Elapsed  time.Duration `json:"elapsed"`
	// Unfinished are those that were meant to be sent in time and had no answer at the end. Latency counts them as if it
	// had come then.
	Unfinished int64 `json:"unfinished"`
	// Latencies count from when a request was meant to be sent.
	P50  time.Duration `json:"p50"`
	P99  time.Duration `json:"p99"`
	P999 time.Duration `json:"p999"`
	// Processor time of Load.Processes and Load.Others.
	Processor time.Duration `json:"processor"`
	Other     time.Duration `json:"other"`
	// Foreign is the processor time of everybody else on the machine, to within 20 ms.
	Foreign time.Duration `json:"foreign"`
	// Resident is the most memory, in bytes, that Load.Processes held together, each page of a process counted.
	Resident int64 `json:"resident"`
}
