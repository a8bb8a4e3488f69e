// SPDX-License-Identifier: Apache-2.0

//go:build !race

package evaluate

import (
	"testing"

	"github.com/heddle-mesh/heddle/internal/meshconfig"
)

func TestMatchDoesNotAllocate(t *testing.T) {
	for _, cases := range []map[string]matchCase{queryCases(), hostCases(), callerCases()} {
		for name, c := range cases {
			t.Run(name, func(t *testing.T) {
				m, err := NewMatcher(c.match)
				if err != nil {
					t.Fatal(err)
				}
				if n := testing.AllocsPerRun(50, func() { m.Match(&c.request) }); n != 0 {
					t.Errorf("%v allocations", n)
				}
			})
		}
	}
}

func TestDecisionsDoNotAllocate(t *testing.T) {
	port := fullPort()
	port.Faults = []*meshconfig.Fault{{Name: "f", Matches: []*meshconfig.Match{path(prefix, "/")}, Percent: 50, HttpStatus: 503, ExpiresAt: epoch.UnixMilli() + 1}}
	sticky := map[string]*meshconfig.Stickiness{
		"no stickiness":   nil,
		"by cookie":       {By: meshconfig.Stickiness_BY_COOKIE, Name: "user"},
		"by a new cookie": {By: meshconfig.Stickiness_BY_COOKIE, Name: "absent"},
		"by header":       {By: meshconfig.Stickiness_BY_HEADER, Name: "x-user"},
		"by identity":     {By: meshconfig.Stickiness_BY_SOURCE_IDENTITY},
		"by address":      {By: meshconfig.Stickiness_BY_SOURCE_IP},
	}
	keys, err := NewKeys([]*meshconfig.HashKey{
		{By: meshconfig.HashKey_BY_HEADER, Name: "absent"},
		{By: meshconfig.HashKey_BY_QUERY, Name: "absent"},
		{By: meshconfig.HashKey_BY_COOKIE, Name: "user"},
	})
	if err != nil {
		t.Fatal(err)
	}
	limits, err := NewRateLimits(limited())
	if err != nil {
		t.Fatal(err)
	}
	for name, s := range sticky {
		t.Run(name, func(t *testing.T) {
			port.Stickiness = s
			router, err := NewRouter(port)
			if err != nil {
				t.Fatal(err)
			}
			request := &Request{
				Method: "POST", Path: "/cart/items/1", Authority: "cart", Query: "a=%20b", Caller: &web, Source: address,
				Headers: &HeaderList{{"Cookie", "a=b; user=ann"}, {"X-User", "ann"}},
			}
			outcome := Outcome{Status: 503}
			random := uint64(1)
			next := func() uint64 { random = mix(random); return random }
			if n := testing.AllocsPerRun(100, func() {
				choice := router.Route(request)
				choice.Pick(request, next())
				router.Fault(request, epoch, next)
				keys.Hash(request)
				limits.Matching(web, Op{Port: 80, HTTP: true, Method: "POST", Path: "/login"})
				if r := choice.Route.Retry; r.Wants(outcome) && r.Safe(outcome, request) {
					_, _ = r.Backoff(1, next(), ReadAdvice(request.Headers, epoch))
				}
			}); n != 0 {
				t.Errorf("%v allocations", n)
			}
		})
	}
}
