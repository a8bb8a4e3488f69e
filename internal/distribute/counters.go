// SPDX-License-Identifier: Apache-2.0

package distribute

import (
	"maps"
	"sync"

	"github.com/heddle-mesh/heddle/internal/meshconfig"
)

// Counters count since the process started. Kinds and reasons are bounded, so that they fit for labels.
type Counters struct {
	Encoded    uint64 // sections of Publish that were encoded because their message changed
	Evaluated  uint64 // sections on demand that were encoded, changed or not
	Signed     map[meshconfig.Kind]uint64
	Tombstones uint64                     // of what was signed
	Failed     uint64                     // sections that could not be signed
	Sent       map[meshconfig.Kind]uint64 // envelopes
	Acked      uint64
	Nacked     uint64
	Refused    map[Refusal]uint64 // streams that were turned away or ended for what they did
	Ahead      uint64             // streams that hold config of a later term than the leader's
	Stale      uint64             // envelopes that a relay got below what it has
	Invalid    uint64             // envelopes that a relay could not use
}

// counters are the Counters of a node while it runs.
type counters struct {
	mu sync.Mutex
	c  Counters
}

func newCounters() *counters {
	return &counters{c: Counters{
		Signed: make(map[meshconfig.Kind]uint64), Sent: make(map[meshconfig.Kind]uint64), Refused: make(map[Refusal]uint64),
	}}
}

func (c *counters) update(f func(*Counters)) {
	c.mu.Lock()
	defer c.mu.Unlock()
	f(&c.c)
}

func (c *counters) snapshot() Counters {
	c.mu.Lock()
	defer c.mu.Unlock()
	out := c.c
	out.Signed, out.Sent, out.Refused = maps.Clone(out.Signed), maps.Clone(out.Sent), maps.Clone(out.Refused)
	return out
}
