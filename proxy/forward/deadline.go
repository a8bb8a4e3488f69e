// SPDX-License-Identifier: Apache-2.0

package forward

import (
	"math"
	"strconv"
	"time"

	"github.com/heddle-mesh/heddle/proxy/message"
)

// grpcTimeout is the field in which a caller of gRPC says how long it waits.
const grpcTimeout = "grpc-timeout"

// heed finds out how long the request may take: as the route says, or as its caller of gRPC does if that is less.
func (x *exchange) heed() {
	route := x.choice.Route
	if x.tunnel {
		x.tryTimeout = route.TryTimeout
		return
	}
	x.timeout, x.tryTimeout, x.idle = route.RequestTimeout, route.TryTimeout, route.IdleTimeout
	if x.event.Protocol != gRPC {
		return
	}
	asked, ok := x.request.Get(grpcTimeout)
	if !ok {
		x.lowered = x.timeout > 0
		return
	}
	wait, valid := parseTimeout(asked)
	switch {
	case !valid: // the server says so
	case x.timeout == 0 || wait <= x.timeout:
		x.timeout = max(wait, 1)
	default:
		x.lowered = true
	}
}

// tellTimeout writes into the head of a request of gRPC how much time it has left, unless that is what it says already.
func (x *exchange) tellTimeout(out *message.Head) {
	spent := x.event.Attempts > 1 || x.fault != nil // which may delay it
	if x.event.Protocol != gRPC || x.timeout == 0 || !x.lowered && !spent {
		return
	}
	left := x.timeout
	if spent {
		left = max(left-x.side.Clock().Sub(x.event.Start), 0)
	}
	out.Set(grpcTimeout, formatTimeout(left))
}

// parseTimeout reads a grpc-timeout: up to eight digits and a unit
// (https://github.com/grpc/grpc/blob/master/doc/PROTOCOL-HTTP2.md).
func parseTimeout(s string) (d time.Duration, ok bool) {
	if len(s) < 2 || len(s) > 9 {
		return 0, false
	}
	n := int64(0)
	for i := range len(s) - 1 {
		if s[i] < '0' || s[i] > '9' {
			return 0, false
		}
		n = n*10 + int64(s[i]-'0')
	}
	var unit time.Duration
	switch s[len(s)-1] {
	case 'H':
		unit = time.Hour
	case 'M':
		unit = time.Minute
	case 'S':
		unit = time.Second
	case 'm':
		unit = time.Millisecond
	case 'u':
		unit = time.Microsecond
	case 'n':
		unit = time.Nanosecond
	default:
		return 0, false
	}
	if n > math.MaxInt64/int64(unit) {
		return math.MaxInt64, true
	}
	return time.Duration(n) * unit, true
}

// formatTimeout writes a grpc-timeout, rounded down, in the finest unit in which it has up to eight digits.
func formatTimeout(d time.Duration) string {
	const most = 99_999_999
	for _, u := range [...]struct {
		size time.Duration
		name byte
	}{{time.Microsecond, 'u'}, {time.Millisecond, 'm'}, {time.Second, 'S'}, {time.Minute, 'M'}} {
		if n := int64(d / u.size); n <= most {
			return string(append(strconv.AppendInt(nil, n, 10), u.name))
		}
	}
	return string(append(strconv.AppendInt(nil, int64(d/time.Hour), 10), 'H'))
}
