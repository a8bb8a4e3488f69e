// SPDX-License-Identifier: Apache-2.0

package pipeline

import (
	"flag"
	"math/rand/v2"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// seedFlag repeats a run that failed: as far as the machine lets it, since much runs at once.
var seedFlag = flag.Uint64("seed", 0, "seed of the hold-offs and of random edits; 0: another one each time")

func newSeed() uint64 {
	if *seedFlag != 0 {
		return *seedFlag
	}
	return rand.Uint64()
}

// patience is how long a test waits for what must come. It is a bound for a busy machine, not a goal.
const patience = 30 * time.Second

func check(tb testing.TB, err error) {
	tb.Helper()
	if err != nil {
		tb.Fatal(err)
	}
}

// await waits until something is so.
func await(tb testing.TB, what string, so func() bool) {
	tb.Helper()
	if !comes(so) {
		tb.Fatal("in vain: " + what)
	}
}

// comes waits until something is so, and says whether it came to be.
func comes(so func() bool) bool {
	tick := time.NewTicker(3 * time.Millisecond)
	defer tick.Stop()
	deadline := time.NewTimer(patience)
	defer deadline.Stop()
	for !so() {
		select {
		case <-tick.C:
		case <-deadline.C:
			return false
		}
	}
	return true
}
