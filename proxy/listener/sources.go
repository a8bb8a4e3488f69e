// SPDX-License-Identifier: Apache-2.0

package listener

import (
	"net/netip"
	"sync"
)

// sources counts the connections that each address has open; there are no more of them than connections.
type sources struct {
	most int // 0: nothing is counted

	mu   sync.Mutex
	open map[netip.Addr]int
}

// enter counts one more, unless the address has as many as it may.
func (s *sources) enter(from netip.Addr) bool {
	if s.most == 0 {
		return true
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.open[from] >= s.most {
		return false
	}
	if s.open == nil {
		s.open = make(map[netip.Addr]int)
	}
	s.open[from]++
	return true
}

// leave undoes enter.
func (s *sources) leave(from netip.Addr) {
	if s.most == 0 {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.open[from]--; s.open[from] == 0 {
		delete(s.open, from)
	}
}
