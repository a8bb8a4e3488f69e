// SPDX-License-Identifier: Apache-2.0

package balance

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"
)

// BenchmarkPick is a pick and its Done.
func BenchmarkPick(b *testing.B) {
	sizes := []int{3, 300, 30000}
	for _, n := range sizes {
		all := members(n)
		for _, policy := range []string{"RoundRobin", "LeastRequest", "PeakEWMA", "Random", "ConsistentHash"} {
			b.Run(fmt.Sprintf("%s/%d", policy, n), func(b *testing.B) {
				s := set(Options{Policy: policies[policy], PanicPercent: 50}, slices.Clone(all)...)
				now := start
				b.ReportAllocs()
				for b.Loop() {
					now += int64(10 * time.Microsecond)
					random := rand.Uint64()
					pick, _ := s.Pick(Ask{Now: now, Random: random, Hash: random, Hashed: true})
					pick.Done(Success, time.Millisecond, now)
				}
			})
		}
	}
}

// BenchmarkNext is a Set of which one endpoint has changed.
func BenchmarkNext(b *testing.B) {
	for _, n := range []int{3, 300, 30000} {
		all := members(n + 2)
		for _, policy := range []string{"LeastRequest", "ConsistentHash"} {
			b.Run(fmt.Sprintf("%s/%d", policy, n), func(b *testing.B) {
				o := Options{Policy: policies[policy], Zone: "a"}
				s := set(o, slices.Clone(all[:n])...)
				for i := 0; b.Loop(); i++ {
					s = s.Next(o, slices.Clone(all[i%2:n+i%2]), nil, start)
				}
			})
		}
	}
}
