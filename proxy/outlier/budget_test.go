// SPDX-License-Identifier: Apache-2.0

package outlier

import (
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/heddle-mesh/heddle/internal/meshconfig"
)

func TestBudgetConfig(t *testing.T) {
	for name, test := range map[string]struct {
		config *meshconfig.RetryBudget
		want   BudgetConfig
		err    string
	}{
		"nothing is the default": {nil, BudgetConfig{20, 10}, ""},
		"zeros are no retries":   {&meshconfig.RetryBudget{}, BudgetConfig{}, ""},
		"what is said":           {&meshconfig.RetryBudget{Percent: 100, MinPerSecond: 1000}, BudgetConfig{100, 1000}, ""},
		"more than all requests": {&meshconfig.RetryBudget{Percent: 101}, BudgetConfig{}, "retry_budget.percent: "},
		"more than is kept":      {&meshconfig.RetryBudget{MinPerSecond: 1001}, BudgetConfig{}, "retry_budget.min_per_second: "},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := NewBudgetConfig(test.config)
			if test.err != "" {
				if err == nil || !strings.HasPrefix(err.Error(), test.err) {
					t.Errorf("error %v", err)
				}
			} else if err != nil || got != test.want {
				t.Errorf("%+v, %v", got, err)
			}
		})
	}
}

// ledger is what a RetryBudget must have allowed: times of requests and of repetitions.
type ledger struct{ requests, retries []int64 }

// since is how many of the times are after another.
func since(times []int64, after int64) (n int) {
	for _, t := range times {
		if t > after {
			n++
		}
	}
	return n
}

// overdrawn says whether the last repetition should not have been.
func (l *ledger) overdrawn(config BudgetConfig) bool {
	last := l.retries[len(l.retries)-1]
	most := since(l.requests, last-int64(10*time.Second))*int(config.Percent)/100 + 10*config.MinPerSecond
	return since(l.retries, last-int64(10*time.Second)) > most
}

// TestRetryBudgetUnderAnyInterleaving goes through random orders of requests and repetitions, with bursts and pauses.
func TestRetryBudgetUnderAnyInterleaving(t *testing.T) {
	for seed := range uint64(30) {
		random := seeded(seed)
		config := BudgetConfig{uint64(random.IntN(101)), random.IntN(15)}
		b, l := NewRetryBudget(config), ledger{}
		now := epoch
		for range 1500 {
			switch random.IntN(20) {
			case 0:
				now += int64(random.IntN(int(4 * time.Second)))
			case 1:
				now += int64(random.IntN(int(13 * time.Second)))
			default:
				now += int64(random.IntN(int(30 * time.Millisecond)))
			}
			if random.IntN(3) > 0 {
				b.Earn(now)
				l.requests = append(l.requests, now)
			}
			short := since(l.retries, now-int64(time.Second)) < config.MinPerSecond
			if before := since(l.retries, now-int64(11*time.Second)); b.Take(now) {
				l.retries = append(l.retries, now)
				if l.overdrawn(config) {
					t.Fatalf("seed %d: %+v is overdrawn at %v", seed, config, time.Duration(now-epoch))
				}
			} else if short && before < 10*config.MinPerSecond {
				t.Fatalf("seed %d: %+v refuses though there were fewer than the minimum", seed, config)
			}
		}
	}
}

func TestRetryBudget(t *testing.T) {
	steps := func(config BudgetConfig, from time.Duration, seconds, requests int) (allowed []int) {
		b := NewRetryBudget(config)
		for s := range seconds {
			n := 0
			for i := range requests {
				now := epoch + int64(from) + int64(s)*int64(time.Second) + int64(i)*int64(time.Second)/int64(requests)
				b.Earn(now)
				if b.Take(now) {
					n++
				}
			}
			allowed = append(allowed, n)
		}
		return allowed
	}
	sum := func(n []int) (sum int) {
		for _, v := range n {
			sum += v
		}
		return sum
	}
	if got := steps(BudgetConfig{20, 10}, 0, 60, 5); sum(got) != 60*5 {
		t.Errorf("of five a second all that fail may be repeated, not %v", got)
	}
	if got := steps(BudgetConfig{20, 10}, 300*time.Millisecond, 60, 30); slices.Min(got) < 9 {
		t.Errorf("ten a second may be repeated whatever the share, not %v", got)
	}
	if got := sum(steps(BudgetConfig{20, 10}, 0, 100, 1000)[20:]); got > 80*1000/5 || got < 80*1000/5*85/100 {
		t.Errorf("%d of 80,000 were repeated: not a fifth, or much less", got)
	}
	if got := sum(steps(BudgetConfig{0, 0}, 0, 20, 100)); got != 0 {
		t.Errorf("%d were repeated without a budget", got)
	}
	if got := sum(steps(BudgetConfig{100, 0}, 0, 20, 100)); got < 20*90 {
		t.Errorf("%d of 2,000 were repeated where all may", got)
	}
}

func TestARetryBudgetThatIsChanged(t *testing.T) {
	b := NewRetryBudget(BudgetConfig{0, 1})
	if !b.Take(epoch) || b.Take(epoch+1) || b.Refused() != 1 {
		t.Error("one a second is not one a second")
	}
	b.Configure(BudgetConfig{0, 1})
	if b.Take(epoch + 2) {
		t.Error("the same config gives another one")
	}
	b.Configure(BudgetConfig{0, 0})
	if b.Take(epoch + int64(time.Minute)) {
		t.Error("none is none")
	}
}

func TestAClockThatIsSetBackDoesNotStopRetries(t *testing.T) {
	b := NewRetryBudget(BudgetConfig{20, 2})
	for i := range int64(100) {
		b.Earn(epoch + i)
		b.Take(epoch + i)
	}
	now := epoch - int64(time.Hour)
	for range 50 {
		b.Earn(now)
	}
	b.Take(now)
	if !b.Take(now + int64(time.Second)) {
		t.Error("refused a second after the clock was set back")
	}
}

// TestRetryBudgetAtOnce lets many earn and take at once while time passes. What holds of all that were allowed, whoever
// overtook whom: in 25 s there are three windows, the last of which may count requests of the one before.
func TestRetryBudgetAtOnce(t *testing.T) {
	config := BudgetConfig{20, 3}
	b := NewRetryBudget(config)
	var clock, requests, retries atomic.Int64
	clock.Store(epoch)
	var over sync.WaitGroup
	for seed := range uint64(8) {
		over.Go(func() {
			random := rand.New(rand.NewPCG(seed, 3))
			for clock.Load() < epoch+int64(25*time.Second) {
				now := clock.Add(int64(random.IntN(int(time.Millisecond))))
				b.Earn(now)
				requests.Add(1)
				for range 2 {
					if b.Take(now) {
						retries.Add(1)
					}
				}
			}
		})
	}
	over.Wait()
	most := requests.Load()*int64(config.Percent)/100*12/10 + int64(30*config.MinPerSecond)
	if n := retries.Load(); n > most || n < most/2 {
		t.Errorf("%d of %d were repeated, at most %d should be", n, requests.Load(), most)
	}
}

// TestRetryBudgetAtOneTime is exact, since all call at the same time.
func TestRetryBudgetAtOneTime(t *testing.T) {
	config := BudgetConfig{20, 10}
	for range 20 {
		b := NewRetryBudget(config)
		var over sync.WaitGroup
		allowed := make([]int, 8)
		for i := range allowed {
			over.Go(func() {
				for range 125 {
					b.Earn(epoch)
					if b.Take(epoch) {
						allowed[i]++
					}
				}
			})
		}
		over.Wait()
		sum := 0
		for _, n := range allowed {
			sum += n
		}
		if sum > 200 || sum < 10 {
			t.Fatalf("%d of 1,000 were repeated at once", sum)
		}
		for b.Take(epoch) {
			sum++
		}
		if sum != 200 {
			t.Fatalf("%d of 1,000 may be repeated, not 200", sum)
		}
	}
}
