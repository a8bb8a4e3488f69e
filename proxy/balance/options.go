// SPDX-License-Identifier: Apache-2.0

package balance

import (
	"fmt"
	"math"
	"time"

	"github.com/heddle-mesh/heddle/internal/meshconfig"
)

// Options say how a cluster is balanced. The zero value is LeastRequest without zones, slow start and panic. A request that
// has a key goes by ConsistentHash to the endpoint that the key belongs to, however new or far that is.
type Options struct {
	Policy    meshconfig.BalancingPolicy
	SlowStart time.Duration // how long a new endpoint takes to its full share
	Zone      string        // the caller's; empty: zones do not matter
	// PanicPercent is the share of eligible endpoints below which all are called.
	PanicPercent int
	// Attach makes what a new State holds for its owner; or nil. It is called under a lock that the State's methods take.
	Attach func(*State) any
}

// NewOptions reads config, either part of which may be nil: then it is meshconfig's default. An error names the field.
func NewOptions(b *meshconfig.Balancing, o *meshconfig.Outlier, zone string) (Options, error) {
	if _, ok := meshconfig.BalancingPolicy_name[int32(b.GetPolicy())]; !ok {
		return Options{}, fmt.Errorf("balancing.policy: %d is none that is known", b.GetPolicy())
	}
	if ms := b.GetSlowStart(); ms < 0 || ms > math.MaxInt64/int64(time.Millisecond) {
		return Options{}, fmt.Errorf("balancing.slow_start: %d ms is no duration", ms)
	}
	for i, key := range b.GetHash() {
		if err := checkKey(key); err != nil {
			return Options{}, fmt.Errorf("balancing.hash[%d].%w", i, err)
		}
	}
	if o == nil {
		o = meshconfig.DefaultOutlier()
	}
	if o.GetPanicPercent() > 100 {
		return Options{}, fmt.Errorf("outlier.panic_percent: %d is more than 100", o.GetPanicPercent())
	}
	if b.GetIgnoreLocality() {
		zone = ""
	}
	return Options{
		Policy: b.GetPolicy(), SlowStart: time.Duration(b.GetSlowStart()) * time.Millisecond, Zone: zone,
		PanicPercent: int(o.GetPanicPercent()),
	}, nil
}

func checkKey(key *meshconfig.HashKey) error {
	switch key.GetBy() {
	case meshconfig.HashKey_BY_HEADER, meshconfig.HashKey_BY_COOKIE, meshconfig.HashKey_BY_QUERY:
		if key.GetName() == "" {
			return fmt.Errorf("name: is empty")
		}
	case meshconfig.HashKey_BY_SOURCE_IP:
	default:
		return fmt.Errorf("by: %d is none that is known", key.GetBy())
	}
	return nil
}
