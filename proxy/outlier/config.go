// SPDX-License-Identifier: Apache-2.0

package outlier

import (
	"cmp"
	"fmt"
	"time"

	"github.com/heddle-mesh/heddle/internal/meshconfig"
)

// Config says when an endpoint is ejected. A detector whose number is 0 is off.
type Config struct {
	Failures        uint32 // one after another
	ConnectFailures uint32 // one after another

	SuccessRatePercent uint64 // of the mean of the peers' rates of success, below which an endpoint is ejected
	LatencyFactor      uint64 // of the median of the peers' mean latencies, above which it is; in hundredths
	Window             time.Duration
	MinRequests        uint64 // in a window, to be judged and to be a peer

	BaseEjection, MaxEjection time.Duration
	MaxEjectedPercent         int // 0: nobody is ejected
}

// Defaults is what applies where nobody said anything: meshconfig.DefaultOutlier. The package's documentation gives the
// reasons.
func Defaults() *Config {
	c, _ := NewConfig(nil) // has no error: there is nothing to refuse
	return c
}

// maxTime bounds every duration of a Config, so that none overflows when it is multiplied.
const maxTime = 24 * time.Hour

// NewConfig reads config; of nil it makes the Defaults. Times and the number of requests that are 0 have their defaults.
// Errors name the field.
func NewConfig(m *meshconfig.Outlier) (*Config, error) {
	defaults, c := meshconfig.DefaultOutlier(), &Config{}
	if m == nil {
		m = defaults
	}
	percents := []struct {
		name  string
		value uint32
	}{
		{"success_rate_percent", m.GetSuccessRatePercent()},
		{"max_ejected_percent", m.GetMaxEjectedPercent()},
	}
	for _, p := range percents {
		if p.value > 100 {
			return nil, fmt.Errorf("outlier.%s: %d is more than 100", p.name, p.value)
		}
	}
	if f := m.GetLatencyFactor(); f > 0 && f <= 100 {
		return nil, fmt.Errorf("outlier.latency_factor: %d hundredths would eject endpoints that are as fast as their peers", f)
	}
	times := []struct {
		name             string
		value, otherwise int64 // milliseconds
		to               *time.Duration
	}{
		{"window", m.GetWindow(), defaults.GetWindow(), &c.Window},
		{"base_ejection", m.GetBaseEjection(), defaults.GetBaseEjection(), &c.BaseEjection},
		{"max_ejection", m.GetMaxEjection(), defaults.GetMaxEjection(), &c.MaxEjection},
	}
	for _, t := range times {
		if t.value < 0 || t.value > maxTime.Milliseconds() {
			return nil, fmt.Errorf("outlier.%s: %d ms is not between 0 and %v", t.name, t.value, maxTime)
		}
		*t.to = time.Duration(cmp.Or(t.value, t.otherwise)) * time.Millisecond
	}
	if c.MaxEjection < c.BaseEjection {
		if m.GetMaxEjection() > 0 {
			return nil, fmt.Errorf("outlier.max_ejection: %v is less than base_ejection, %v", c.MaxEjection, c.BaseEjection)
		}
		c.MaxEjection = c.BaseEjection
	}
	c.MinRequests = uint64(cmp.Or(m.GetMinRequests(), defaults.GetMinRequests()))
	c.MaxEjectedPercent = int(m.GetMaxEjectedPercent())
	if !m.GetDisabled() {
		c.Failures, c.ConnectFailures = m.GetConsecutiveFailures(), m.GetConsecutiveConnectFailures()
		c.SuccessRatePercent, c.LatencyFactor = uint64(m.GetSuccessRatePercent()), uint64(m.GetLatencyFactor())
	}
	return c, nil
}

// windowed says whether a detector needs the window.
func (c *Config) windowed() bool { return c.SuccessRatePercent|c.LatencyFactor != 0 }

// Off says whether nobody is ejected at all.
func (c *Config) Off() bool {
	return c.MaxEjectedPercent == 0 || c.Failures|c.ConnectFailures == 0 && !c.windowed()
}

// Cap is how many percent of the endpoints may be ejected: 0 when nobody is.
func (c *Config) Cap() int {
	if c.Off() {
		return 0
	}
	return c.MaxEjectedPercent
}

// length is how long the ejection of a level, from 1, lasts, given 64 random bits; last says that a higher level's would
// not be longer.
func (c *Config) length(level int, random uint64) (length time.Duration, last bool) {
	length = c.BaseEjection
	for range level - 1 {
		if length >= c.MaxEjection {
			break
		}
		length *= 2
	}
	last = length >= c.MaxEjection
	length = min(length, c.MaxEjection)
	return length - time.Duration(random%uint64(length/4+1)), last
}
