// SPDX-License-Identifier: Apache-2.0

package health

import (
	"sync"
	"time"
)

// PerSecond is how many checks a proxy makes.
const PerSecond = 50

// Pace bounds the checks of all clusters of a proxy. It is safe for concurrent use.
type Pace struct {
	each time.Duration // between two checks, on the mean
	most int           // at once

	mu   sync.Mutex
	next time.Time // when the next would be due if none could be made at once
}

// NewPace makes a Pace of so many checks a second, that many of them at once.
func NewPace(perSecond int) *Pace {
	return &Pace{each: time.Second / time.Duration(max(1, perSecond)), most: max(1, perSecond)}
}

// take says whether a check may be made now.
func (p *Pace) take(now time.Time) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.next.Before(now) {
		p.next = now
	}
	if p.next.Sub(now) > p.each*time.Duration(p.most-1) {
		return false
	}
	p.next = p.next.Add(p.each)
	return true
}
