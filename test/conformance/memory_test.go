// SPDX-License-Identifier: Apache-2.0

//go:build conformance

package conformance

import (
	"fmt"
	"testing"
	"time"

	"github.com/heddle-mesh/heddle/test/pair"
)

// mostGrowth is how many bytes a proxy may grow while it streams.
const mostGrowth = 4 << 20

// checkMemory ends to look, and compares.
func checkMemory(t *testing.T, what string, m *pair.Memory) {
	t.Helper()
	begun, within := time.Now(), 0
	grown, told, err := m.Stop()
	check(t, err)
	if len(grown) == 0 {
		unmeasured(t, "memory of "+what, "the pair runs in this process")
	}
	for _, n := range grown {
		if n <= mostGrowth {
			within++
		}
	}
	t.Log(told)
	score(t, fmt.Sprintf("memory of %s: at most %d MiB more", what, mostGrowth>>20), begun, within, len(grown), told)
}
