// SPDX-License-Identifier: Apache-2.0

package signedconfig

import (
	"cmp"
	"fmt"
	"strconv"
	"strings"
)

// Serial orders the versions of a section: by epoch, then term, then counter. It is a fencing token: Term counts the
// leaders, so that an old leader can turn nobody back. The zero Serial is below every one that is signed.
type Serial struct {
	Epoch   uint32 // changed only by a command, after a restore from backup
	Term    uint64 // leaseTransitions of the leader's Lease
	Counter uint64 // counts what the leader signed in its term, from 1
}

// Compare returns -1, 0 or +1 as s is lower than, equal to or higher than other.
func (s Serial) Compare(other Serial) int {
	return cmp.Or(cmp.Compare(s.Epoch, other.Epoch), cmp.Compare(s.Term, other.Term), cmp.Compare(s.Counter, other.Counter))
}

// IsZero says whether the serial is none.
func (s Serial) IsZero() bool { return s == Serial{} }

// String returns "<epoch>.<term>.<counter>", such as "0.3.17".
func (s Serial) String() string { return fmt.Sprintf("%d.%d.%d", s.Epoch, s.Term, s.Counter) }

// ParseSerial reads what String wrote, and nothing else.
func ParseSerial(text string) (Serial, error) {
	fail := fmt.Errorf("serial %q: want <epoch>.<term>.<counter>, such as 0.3.17", text)
	parts := strings.Split(text, ".")
	if len(parts) != 3 {
		return Serial{}, fail
	}
	epoch, errE := strconv.ParseUint(parts[0], 10, 32)
	term, errT := strconv.ParseUint(parts[1], 10, 64)
	counter, errC := strconv.ParseUint(parts[2], 10, 64)
	s := Serial{Epoch: uint32(epoch), Term: term, Counter: counter}
	if errE != nil || errT != nil || errC != nil || s.String() != text {
		return Serial{}, fail
	}
	return s, nil
}
