// SPDX-License-Identifier: Apache-2.0

package evaluate

import (
	"math/bits"
	"net/http"
	"time"
)

// MaxRetryAfter is the longest that a request is held because a server asks for it. If it asks for more, the caller gets
// its answer at once, and decides.
const MaxRetryAfter = 10 * time.Second

// Advice is what an answer says about sending the request again.
type Advice struct {
	After time.Duration // not earlier
	Never bool          // not at all
}

// ReadAdvice reads the head of an answer, of which headers may be nil: grpc-retry-pushback-ms (gRFC A6), which must be
// there once and be a number of milliseconds, otherwise it means never; or Retry-After (RFC 9110, section 10.2.3), seconds
// or a date, without notice of what is neither.
func ReadAdvice(headers Headers, now time.Time) Advice {
	if headers == nil {
		return Advice{}
	}
	if pushback, ok := headers.Value("grpc-retry-pushback-ms", 0); ok {
		_, twice := headers.Value("grpc-retry-pushback-ms", 1)
		n, valid := digits(pushback)
		return Advice{After: time.Duration(n) * time.Millisecond, Never: twice || !valid}
	}
	value, ok := headers.Value("retry-after", 0)
	if !ok {
		return Advice{}
	}
	if n, valid := digits(value); valid {
		return Advice{After: time.Duration(n) * time.Second}
	}
	if date, err := http.ParseTime(value); err == nil {
		return Advice{After: max(0, date.Sub(now))}
	}
	return Advice{}
}

// maxDigits is what a number of seconds or milliseconds is cut off at: 31 years of seconds, 11 days of milliseconds.
const maxDigits = 1_000_000_000

// digits reads a decimal number without sign.
func digits(s string) (n int64, ok bool) {
	for i := range len(s) {
		if s[i] < '0' || s[i] > '9' {
			return 0, false
		}
		n = min(n*10+int64(s[i]-'0'), maxDigits)
	}
	return n, s != ""
}

// Backoff returns how long to wait before retry n, counted from 1, given 64 random bits and what the last answer advises:
// what that asks for, and up to base x 2^(n-1), but not more than the maximum, at random on top ("full jitter"). It is not
// ok if the server forbids a retry, or asks for more than MaxRetryAfter.
func (r *Retry) Backoff(n int, random uint64, advice Advice) (wait time.Duration, ok bool) {
	if advice.Never || advice.After > MaxRetryAfter {
		return 0, false
	}
	limit := uint64(r.backoffBase)
	for i := 1; i < n && limit < uint64(r.backoffMax); i++ {
		limit *= 2
	}
	jitter, _ := bits.Mul64(random, min(limit, uint64(r.backoffMax))+1)
	return advice.After + time.Duration(jitter), true
}
