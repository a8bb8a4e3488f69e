// SPDX-License-Identifier: Apache-2.0

package outlier

import (
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

// Defaults is what applies where nobody said anything: what the schema of a ServiceProfile says. The package's documentation
// gives the reasons.
func Defaults() *Config {
	return &Config{
		Failures: 5, ConnectFailures: 3,
		Window: 10 * time.Second, MinRequests: 20,
		BaseEjection: 5 * time.Second, MaxEjection: time.Minute, MaxEjectedPercent: 50,
	}
}

// maxTime bounds every duration of a Config, so that none overflows when it is multiplied.
const maxTime = 24 * time.Hour

// NewConfig reads config; of nil it makes the Defaults. Times and the number of requests that are 0 have their defaults.
// Errors name the field.
func NewConfig(m *meshconfig.Outlier) (*Config, error) {
	d := Defaults()
	if m == nil {
		return d, nil
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
		name  string
		value int64
		to    *time.Duration
	}{
		{"window", m.GetWindow(), &d.Window},
		{"base_ejection", m.GetBaseEjection(), &d.BaseEjection},
		{"max_ejection", m.GetMaxEjection(), &d.MaxEjection},
	}
	for _, t := range times {
		if t.value < 0 || t.value > maxTime.Milliseconds() {
			return nil, fmt.Errorf("outlier.%s: %d ms is not between 0 and %v", t.name, t.value, maxTime)
		}
		if t.value > 0 {
			*t.to = time.Duration(t.value) * time.Millisecond
		}
	}
	if d.MaxEjection < d.BaseEjection {
		if m.GetMaxEjection() > 0 {
			return nil, fmt.Errorf("outlier.max_ejection: %v is less than base_ejection, %v", d.MaxEjection, d.BaseEjection)
		}
		d.MaxEjection = d.BaseEjection
	}
	if n := m.GetMinRequests(); n > 0 {
		d.MinRequests = uint64(n)
	}
	d.MaxEjectedPercent = int(m.GetMaxEjectedPercent())
	d.Failures, d.ConnectFailures = m.GetConsecutiveFailures(), m.GetConsecutiveConnectFailures()
	d.SuccessRatePercent, d.LatencyFactor = uint64(m.GetSuccessRatePercent()), uint64(m.GetLatencyFactor())
	if m.GetDisabled() {
		d.Failures, d.ConnectFailures, d.SuccessRatePercent, d.LatencyFactor = 0, 0, 0, 0
	}
	return d, nil
}

// windowed says whether a detector needs the window.
func (c *Config) windowed() bool { return c.SuccessRatePercent|c.LatencyFactor != 0 }

// Off says whether nobody is ejected at all.
func (c *Config) Off() bool {
	return c.MaxEjectedPercent == 0 || c.Failures|c.ConnectFailures == 0 && !c.windowed()
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
