// SPDX-License-Identifier: Apache-2.0

package ratelimit

import (
	"strconv"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/heddle-mesh/heddle/internal/evaluate"
	"github.com/heddle-mesh/heddle/internal/identity"
	"github.com/heddle-mesh/heddle/internal/meshconfig"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var start = time.Unix(1_800_000_000, 0)

var nobody identity.ID

func caller(i int) identity.ID {
	return identity.ID{TrustDomain: "cluster.local", Namespace: "shop", ServiceAccount: "a" + strconv.Itoa(i)}
}

// perSecond is a limit of so many requests a second.
func perSecond(name string, requests, burst uint64) *meshconfig.RateLimit {
	return &meshconfig.RateLimit{Name: name, Requests: requests, Interval: 1000, Burst: burst}
}

// perCaller makes a limit one per caller.
func perCaller(l *meshconfig.RateLimit) *meshconfig.RateLimit {
	l.PerCaller = true
	return l
}

func compile(t *testing.T, limits ...*meshconfig.RateLimit) *evaluate.RateLimits {
	t.Helper()
	compiled, err := evaluate.NewRateLimits(&meshconfig.PortPolicy{Port: 80, RateLimits: limits})
	if err != nil {
		t.Fatal(err)
	}
	return compiled
}

// newLimits makes limits, and says which bits are all of them.
func newLimits(t *testing.T, limits ...*meshconfig.RateLimit) (l *Limits, all uint64) {
	t.Helper()
	l = Buckets{}.Limits(compile(t, limits...), nil)
	return l, l.Matching(nobody, evaluate.Op{Port: 80})
}

// admitted asks n times and returns how often it was admitted.
func admitted(l *Limits, matching uint64, who identity.ID, at time.Time, n int) (ok int) {
	for range n {
		if yes, _, _ := l.Allow(matching, who, at); yes {
			ok++
		}
	}
	return ok
}
