// SPDX-License-Identifier: Apache-2.0

//go:build !race

package http2

import (
	"runtime"
	"testing"
)

// A stream costs at most four allocations where it is relayed: two streams and what joins them. Caller and endpoint, which
// are of this package too, cost one each.
func TestARelayedStreamCostsFourAllocations(t *testing.T) {
	run := relayed(t, 1, 8)
	run(5000) // warm
	const n = 20_000
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	run(n)
	runtime.ReadMemStats(&after)
	// The endpoint allocates its sink and its stream, the caller its stream.
	if each := float64(after.Mallocs-before.Mallocs)/n - 3; each > 4 {
		t.Errorf("%.2f allocations", each)
	} else {
		t.Logf("%.2f allocations", each)
	}
}
