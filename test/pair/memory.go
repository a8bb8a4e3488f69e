// SPDX-License-Identifier: Apache-2.0

package pair

import (
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"
)

// Memory looks at the resident memory of processes, ten times a second.
type Memory struct {
	of    []Process
	from  []int64
	peaks []int64
	err   error
	stop  chan struct{}
	group sync.WaitGroup
}

// WatchMemory begins to look.
func WatchMemory(of ...Process) *Memory {
	m := &Memory{of: of, from: make([]int64, len(of)), peaks: make([]int64, len(of)), stop: make(chan struct{})}
	for i, p := range of {
		n, err := p.Resident()
		m.from[i], m.err = n, errors.Join(m.err, err)
	}
	m.group.Go(func() {
		tick := time.NewTicker(100 * time.Millisecond)
		defer tick.Stop()
		for {
			select {
			case <-tick.C:
				m.look()
			case <-m.stop:
				return
			}
		}
	})
	return m
}

func (m *Memory) look() {
	for i, p := range m.of {
		n, err := p.Resident()
		m.peaks[i] = max(m.peaks[i], n)
		m.err = errors.Join(m.err, err)
	}
}

// Stop ends it, and tells by how many bytes each process grew at most.
func (m *Memory) Stop() (grown []int64, told string, err error) {
	close(m.stop)
	m.group.Wait()
	m.look()
	var lines strings.Builder
	for i, from := range m.from {
		grown = append(grown, m.peaks[i]-from)
		fmt.Fprintf(&lines, "process %d: %.1f MiB, then at most %.1f MiB more\n", m.of[i].PID, mib(from), mib(grown[i]))
	}
	return grown, lines.String(), m.err
}

func mib(bytes int64) float64 { return float64(bytes) / (1 << 20) }
