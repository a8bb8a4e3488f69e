// SPDX-License-Identifier: Apache-2.0

//go:build !race

package health

import (
	"testing"
	"testing/synctest"
)

func TestUseAllocatesNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFleet(t, 1)
		f.begin(t, NewPace(PerSecond))
		if n := testing.AllocsPerRun(1000, f.Use); n != 0 {
			t.Errorf("%v allocations", n)
		}
	})
}
