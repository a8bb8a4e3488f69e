// SPDX-License-Identifier: Apache-2.0

package outlier

import (
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/heddle-mesh/heddle/internal/meshconfig"
)

// BudgetConfig says how many repetitions a RetryBudget allows.
type BudgetConfig struct {
	Percent      uint64 // of the requests of the last ten seconds
	MinPerSecond int    // though it be more than that
}

// maxPerSecond bounds MinPerSecond, since the time of each is kept.
const maxPerSecond = 1000

// NewBudgetConfig reads config; of nil it makes the default: 20 %, at least 10 a second. Errors name the field.
func NewBudgetConfig(m *meshconfig.RetryBudget) (BudgetConfig, error) {
	if m == nil {
		return BudgetConfig{Percent: 20, MinPerSecond: 10}, nil
	}
	if m.GetPercent() > 100 {
		return BudgetConfig{}, fmt.Errorf("retry_budget.percent: %d is more than 100", m.GetPercent())
	}
	if m.GetMinPerSecond() > maxPerSecond {
		return BudgetConfig{}, fmt.Errorf("retry_budget.min_per_second: %d is more than %d", m.GetMinPerSecond(), maxPerSecond)
	}
	return BudgetConfig{Percent: uint64(m.GetPercent()), MinPerSecond: int(m.GetMinPerSecond())}, nil
}

// budgetSeconds is the time over which requests and repetitions are compared.
const budgetSeconds = 10

// RetryBudget bounds a proxy's repetitions of requests to one service, so that they never make an outage of a stumble. A
// repetition is allowed
//
//   - by the share: while those of the last ten seconds are fewer than so many percent of their requests; or
//   - by the floor: while those of the last second are fewer than the minimum.
//
// In either case those of the last ten seconds, itself included, are never more than the share plus ten times the
// minimum. Requests are counted by seconds and the last ten begun ones are taken, repetitions are looked at over eleven, so
// what is rounded is rounded down. It is safe for concurrent use: Earn takes no lock, Take does.
type RetryBudget struct {
	// requests holds, of each of the last seconds, its number above its count. A power of two of them.
	requests [16]atomic.Uint64
	refused  atomic.Uint64

	mu      sync.Mutex
	config  BudgetConfig
	retries [16]struct{ second, count int64 }
	latest  int64   // of the times that Take was called at
	last    []int64 // when the last MinPerSecond were allowed, a ring
	next    int     // the oldest of them
}

// NewRetryBudget makes a RetryBudget.
func NewRetryBudget(config BudgetConfig) *RetryBudget {
	b := &RetryBudget{}
	b.Configure(config)
	return b
}

// Configure changes how many are allowed. What was allowed stays counted, but for the floor.
func (b *RetryBudget) Configure(config BudgetConfig) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if config == b.config {
		return
	}
	b.config, b.next = config, 0
	b.last = make([]int64, min(max(0, config.MinPerSecond), maxPerSecond))
	for i := range b.last {
		b.last[i] = -int64(time.Second)
	}
}

// Earn counts a request, not its repetitions, at a time in Unix nanoseconds.
func (b *RetryBudget) Earn(now int64) {
	second := uint64(now / int64(time.Second))
	slot := &b.requests[second%uint64(len(b.requests))]
	for {
		old := slot.Load()
		fresh := old + 1
		if at := old >> 32; at != second {
			if at > second && at-second == uint64(len(b.requests)) {
				return // whoever read the clock has waited for a round
			}
			fresh = second<<32 | 1
		}
		if slot.CompareAndSwap(old, fresh) {
			return
		}
	}
}

// Take says whether a request may be repeated now, in Unix nanoseconds, and counts it if so.
func (b *RetryBudget) Take(now int64) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	now = b.order(now)
	second := now / int64(time.Second)
	requests, retries := uint64(0), int64(0)
	for i := range b.requests {
		v := b.requests[i].Load()
		if age := second - int64(v>>32); age >= 0 && age < budgetSeconds {
			requests += v & (1<<32 - 1)
		}
		if r := &b.retries[i]; second-r.second <= budgetSeconds {
			retries += r.count
		}
	}
	share := int64(requests * b.config.Percent / 100)
	most := share + int64(budgetSeconds*len(b.last))
	if retries >= most || retries >= share && now-b.last[b.next] < int64(time.Second) {
		b.refused.Add(1)
		return false
	}
	slot := &b.retries[uint64(second)%uint64(len(b.retries))]
	if slot.second != second {
		slot.second, slot.count = second, 0
	}
	slot.count++
	if len(b.last) > 0 {
		b.last[b.next] = now
		b.next = (b.next + 1) % len(b.last)
	}
	return true
}

// order makes the times of calls that overtook each other ascend. With a clock that was set back by more than a minute all
// begins anew. The lock is held.
func (b *RetryBudget) order(now int64) int64 {
	if b.latest-now > int64(time.Minute) {
		b.retries = [len(b.retries)]struct{ second, count int64 }{}
		for i := range b.last {
			b.last[i] = now
		}
		b.latest = now
	}
	b.latest = max(b.latest, now)
	return b.latest
}

// Refused is how many repetitions were not allowed.
func (b *RetryBudget) Refused() uint64 { return b.refused.Load() }
