// SPDX-License-Identifier: Apache-2.0

package outlier

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/heddle-mesh/heddle/internal/meshconfig"
	"github.com/heddle-mesh/heddle/proxy/refusal"
)

func TestConfig(t *testing.T) {
	with := func(change func(*Config)) *Config {
		c := Defaults()
		c.Failures, c.ConnectFailures, c.SuccessRatePercent, c.MaxEjectedPercent = 0, 0, 0, 0
		change(c)
		return c
	}
	tests := map[string]struct {
		config *meshconfig.Outlier
		want   *Config
		err    string
	}{
		"nothing is the defaults": {
			nil, &Config{5, 3, 50, 0, 10 * time.Second, 50, 5 * time.Second, time.Minute, 10}, "",
		},
		"a detector that is 0 is off":      {&meshconfig.Outlier{}, with(func(*Config) {}), ""},
		"a time that is 0 has its default": {&meshconfig.Outlier{ConsecutiveFailures: 7}, with(func(c *Config) { c.Failures = 7 }), ""},
		"a long base moves an unset maximum": {
			&meshconfig.Outlier{BaseEjection: 90_000}, with(func(c *Config) { c.BaseEjection, c.MaxEjection = 90*time.Second, 90*time.Second }), "",
		},
		"disabled turns every detector off": {
			&meshconfig.Outlier{
				Disabled: true, ConsecutiveFailures: 1, ConsecutiveConnectFailures: 1, SuccessRatePercent: 1, LatencyFactor: 300, MaxEjectedPercent: 50,
			},
			with(func(c *Config) { c.MaxEjectedPercent = 50 }), "",
		},
		"everything is read": {
			&meshconfig.Outlier{
				ConsecutiveFailures: 1, ConsecutiveConnectFailures: 2, SuccessRatePercent: 3, Window: 4, MinRequests: 5, LatencyFactor: 600,
				BaseEjection: 7, MaxEjection: 8, MaxEjectedPercent: 9,
			},
			&Config{1, 2, 3, 600, 4 * time.Millisecond, 5, 7 * time.Millisecond, 8 * time.Millisecond, 9}, "",
		},
		"a share of more than all":                    {&meshconfig.Outlier{SuccessRatePercent: 101}, nil, "outlier.success_rate_percent: 101 is more"},
		"a cap of more than all":                      {&meshconfig.Outlier{MaxEjectedPercent: 200}, nil, "outlier.max_ejected_percent: 200 is more"},
		"a factor of one":                             {&meshconfig.Outlier{LatencyFactor: 100}, nil, "outlier.latency_factor: 100 hundredths"},
		"a negative window":                           {&meshconfig.Outlier{Window: -1}, nil, "outlier.window: -1 ms"},
		"an ejection that would overflow":             {&meshconfig.Outlier{BaseEjection: 1 << 62}, nil, "outlier.base_ejection: "},
		"a negative maximum":                          {&meshconfig.Outlier{MaxEjection: -5}, nil, "outlier.max_ejection: -5 ms"},
		"a maximum that is less than the first":       {&meshconfig.Outlier{BaseEjection: 10, MaxEjection: 5}, nil, "outlier.max_ejection: 5ms is less"},
		"a maximum that is less than the default one": {&meshconfig.Outlier{MaxEjection: 5}, nil, "outlier.max_ejection: 5ms is less"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			got, err := NewConfig(test.config)
			if test.err != "" {
				if err == nil || !strings.HasPrefix(err.Error(), test.err) {
					t.Fatalf("error %v, want %q", err, test.err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(test.want, got); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestOutcomes(t *testing.T) {
	tests := map[string]struct{ got, want Outcome }{
		"200 is a success":                          {OfStatus(200), Success},
		"404 is the caller's fault":                 {OfStatus(404), Success},
		"429 is a load that was shed":               {OfStatus(429), Shed},
		"500 is a failure":                          {OfStatus(500), Failure},
		"501 says what it does not do":              {OfStatus(501), Success},
		"503 is a failure":                          {OfStatus(503), Failure},
		"599 is a failure":                          {OfStatus(599), Failure},
		"OK is a success":                           {OfGRPC(0), Success},
		"CANCELLED is the caller's":                 {OfGRPC(1), Abandoned},
		"UNKNOWN is a failure":                      {OfGRPC(2), Failure},
		"NOT_FOUND is an answer":                    {OfGRPC(5), Success},
		"DEADLINE_EXCEEDED is a failure":            {OfGRPC(4), Failure},
		"RESOURCE_EXHAUSTED is a load shed":         {OfGRPC(8), Shed},
		"UNIMPLEMENTED is an answer, as 501":        {OfGRPC(12), Success},
		"INTERNAL is a failure":                     {OfGRPC(13), Failure},
		"UNAVAILABLE is a failure":                  {OfGRPC(14), Failure},
		"DATA_LOSS is a failure":                    {OfGRPC(15), Failure},
		"UNAUTHENTICATED is an answer":              {OfGRPC(16), Success},
		"what is no code is a failure":              {OfGRPC(17), Failure},
		"no connection is counted apart":            {OfReason(refusal.ConnectFailed), ConnectFailure},
		"an impostor is no endpoint":                {OfReason(refusal.PeerIdentity), ConnectFailure},
		"a reset is a failure":                      {OfReason(refusal.UpstreamFailed), Failure},
		"a try that took too long is a failure":     {OfReason(refusal.Timeout), Failure},
		"a caller that went away says nothing":      {OfReason(refusal.CallerGone), Abandoned},
		"a bound of this proxy's own says nothing":  {OfReason(refusal.Overloaded), Unrelated},
		"a proxy without certificate says nothing":  {OfReason(refusal.NotReady), Unrelated},
		"a request that was denied says nothing":    {OfReason(refusal.Denied), Unrelated},
		"a request that is malformed says nothing":  {OfReason(refusal.BadRequest), Unrelated},
		"what another proxy's policy says, nothing": {OfReason(refusal.PolicyChanged), Unrelated},
	}
	for name, test := range tests {
		if test.got != test.want {
			t.Errorf("%s: got %d, want %d", name, test.got, test.want)
		}
	}
}

func TestLength(t *testing.T) {
	c := &Config{BaseEjection: 5 * time.Second, MaxEjection: time.Minute}
	for level, want := range map[int]time.Duration{
		1: 5 * time.Second, 2: 10 * time.Second, 3: 20 * time.Second, 4: 40 * time.Second, 5: time.Minute, 6: time.Minute, 1000: time.Minute,
	} {
		longest, last := c.length(level, 0)
		if longest != want || last != (level >= 5) {
			t.Errorf("level %d: %v, last %v; want %v", level, longest, last, want)
		}
		random := seeded(uint64(level))
		for range 1000 {
			if got, _ := c.length(level, random.Uint64()); got < want*3/4 || got > want {
				t.Fatalf("level %d: %v is not between three quarters of %v and that", level, got, want)
			}
		}
	}
}
