// SPDX-License-Identifier: Apache-2.0

package evaluate

import (
	"strings"
	"testing"
	"time"

	"github.com/heddle-mesh/heddle/internal/identity"
	"github.com/heddle-mesh/heddle/internal/meshconfig"
)

// limited has a limit of everything, of a caller, of a path, of a method, and of both caller and path.
func limited() *meshconfig.PortPolicy {
	from := []*meshconfig.Caller{{Identities: []string{web.String()}}}
	login := []*meshconfig.Operation{{Methods: []string{"POST"}, Paths: []string{"/login/*"}}}
	limit := func(name string, from []*meshconfig.Caller, to ...*meshconfig.Operation) *meshconfig.RateLimit {
		return &meshconfig.RateLimit{Name: name, Requests: 5, Interval: 1000, Burst: 10, PerCaller: name == "web", From: from, To: to}
	}
	return &meshconfig.PortPolicy{Port: 80, RateLimits: []*meshconfig.RateLimit{
		limit("all", nil), limit("web", from), limit("login", nil, login...),
		limit("reads", nil, &meshconfig.Operation{Methods: []string{"GET"}}), limit("web logs in", from, login...),
	}}
}

func TestRateLimitsCount(t *testing.T) {
	limits, err := NewRateLimits(limited())
	if err != nil {
		t.Fatal(err)
	}
	if got := limits.Limits[1]; got != (RateLimit{Name: "web", Requests: 5, Burst: 10, Interval: time.Second, PerCaller: true}) {
		t.Errorf("got %+v", got)
	}
	request := func(method, path string) Op { return Op{Port: 80, HTTP: true, Method: method, Path: path} }
	cases := map[string]struct {
		caller identity.ID
		op     Op
		want   string
	}{
		"anybody":                         {nobody, request("PUT", "/"), "all"},
		"a caller":                        {web, request("PUT", "/"), "all, web"},
		"another caller":                  {job, request("PUT", "/"), "all"},
		"a method":                        {nobody, request("GET", "/login"), "all, reads"},
		"a method and a path":             {nobody, request("POST", "/login/x"), "all, login"},
		"a caller, a method and a path":   {web, request("POST", "/login"), "all, web, login, web logs in"},
		"another spelling of a path":      {nobody, request("POST", "/login%2Fx"), "all, login"},
		"another case of a method":        {nobody, request("get", "/x"), "all, reads"},
		"a connection that is not HTTP":   {nobody, Op{Port: 80}, "all, login, reads"},
		"a request without a path at all": {nobody, request("POST", "*"), "all, login"},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			var got []string
			mask := limits.Matching(c.caller, c.op)
			for i, l := range limits.Limits {
				if mask>>i&1 != 0 {
					got = append(got, l.Name)
				}
			}
			if got := strings.Join(got, ", "); got != c.want || mask>>len(limits.Limits) != 0 {
				t.Errorf("got %s (%b), want %s", got, mask, c.want)
			}
		})
	}
	none, err := NewRateLimits(&meshconfig.PortPolicy{})
	if err != nil || none.Matching(web, request("GET", "/")) != 0 {
		t.Errorf("no limits count: %v", err)
	}
}

func TestNewRateLimitsRefuses(t *testing.T) {
	cases := map[string]struct {
		change func(*meshconfig.RateLimit)
		want   string
	}{
		"no requests":       {func(l *meshconfig.RateLimit) { l.Requests = 0 }, "want each above 0"},
		"no interval":       {func(l *meshconfig.RateLimit) { l.Interval = 0 }, "want each above 0"},
		"no burst":          {func(l *meshconfig.RateLimit) { l.Burst = 0 }, "want each above 0"},
		"negative interval": {func(l *meshconfig.RateLimit) { l.Interval = -1 }, "interval: -1"},
		"an empty caller":   {func(l *meshconfig.RateLimit) { l.From = []*meshconfig.Caller{{}} }, "from[0]: neither"},
		"a broken path":     {func(l *meshconfig.RateLimit) { l.To = []*meshconfig.Operation{{Paths: []string{"x"}}} }, "to[0]: path"},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			p := limited()
			c.change(p.RateLimits[2])
			if _, err := NewRateLimits(p); err == nil || !strings.Contains(err.Error(), `port 80: rate limit "login": `) || !strings.Contains(err.Error(), c.want) {
				t.Errorf("got error %v, want one that holds %q", err, c.want)
			}
		})
	}
	p := &meshconfig.PortPolicy{RateLimits: make([]*meshconfig.RateLimit, 65)}
	if _, err := NewRateLimits(p); err == nil || !strings.Contains(err.Error(), "at most 64") {
		t.Errorf("65 limits: got error %v", err)
	}
}
