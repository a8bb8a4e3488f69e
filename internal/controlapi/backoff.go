// SPDX-License-Identifier: Apache-2.0

package controlapi

import (
	"math/rand/v2"
	"time"
)

// Backoff spaces attempts: the pauses double from Min to Max, and each is spread over half to all of itself, so that
// thousands of proxies that lost the same replica do not come back at once. The zero value of the rest is ready to use.
type Backoff struct {
	Min, Max time.Duration

	next time.Duration
}

// Next returns how long to wait before the next attempt.
func (b *Backoff) Next() time.Duration {
	b.next = min(max(b.next, b.Min), b.Max)
	pause := b.next
	b.next *= 2
	if pause <= 1 {
		return pause
	}
	return pause/2 + rand.N(pause/2) //nolint:gosec // jitter needs no secret
}

// Reset says that an attempt succeeded.
func (b *Backoff) Reset() { b.next = 0 }
