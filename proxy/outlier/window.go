// SPDX-License-Identifier: Apache-2.0

package outlier

import (
	"cmp"
	"slices"
	"time"
)

// noise is by how much a latency must at least be above that of the peers, whatever the factor: among endpoints that
// answer in less than a millisecond a collected heap makes a factor of ten.
const noise = 5 * time.Millisecond

// record counts a result in the window, and judges the one before if that is over.
func (c *Cluster) record(config *Config, m *Member, r *Result) {
	window := int64(config.Window)
	end := c.end.Load()
	over := r.Now >= end || end-r.Now > 2*window // or a clock was set back
	if over && c.end.CompareAndSwap(end, r.Now+window) {
		samples := c.collect()
		if since := r.Now - end; since >= 0 && since < window { // otherwise it is history
			c.judge(config, r.Now, samples)
		}
	}
	m.requests.Add(1)
	if r.Outcome == Failure {
		m.failed.Add(1)
	} else if config.LatencyFactor > 0 {
		m.duration.Add(uint64(max(0, r.Latency)))
	}
	if !m.listed.Load() && m.listed.CompareAndSwap(false, true) {
		c.list(m)
	}
}

// list adds a member to those that had a request. It is in no list.
func (c *Cluster) list(m *Member) {
	for {
		head := c.used.Load()
		m.next = head
		if c.used.CompareAndSwap(head, m) {
			return
		}
	}
}

// sample is a member's window.
type sample struct {
	member             *Member
	requests, failures uint64
	duration           uint64 // of the others together, in nanoseconds
	rate, mean         float64
}

// collect begins a new window and returns the old one.
func (c *Cluster) collect() (samples []sample) {
	for m := c.used.Swap(nil); m != nil; {
		next := m.next
		m.next = nil
		m.listed.Store(false)
		// In the other order than they are added in, so that there are no failures without their requests.
		duration, failures := m.duration.Swap(0), m.failed.Swap(0)
		requests := m.requests.Swap(0)
		samples = append(samples, sample{member: m, requests: requests, failures: min(failures, requests), duration: duration})
		m = next
	}
	return samples
}

// judge ejects those that stand out of a window, the worst first since there is a cap. Who is ejected is nobody's peer.
func (c *Cluster) judge(config *Config, now int64, samples []sample) {
	samples = slices.DeleteFunc(samples, func(s sample) bool {
		return s.requests < config.MinRequests || s.member.gate.Ejected()
	})
	if config.SuccessRatePercent > 0 {
		c.judgeRates(config, now, samples)
	}
	if config.LatencyFactor > 0 {
		c.judgeLatencies(config, now, samples)
	}
}

func (c *Cluster) judgeRates(config *Config, now int64, samples []sample) {
	n := len(samples)
	if n < 2 {
		return
	}
	var sum float64
	for i := range samples {
		s := &samples[i]
		s.rate = float64(s.requests-s.failures) / float64(s.requests)
		sum += s.rate
	}
	slices.SortFunc(samples, func(a, b sample) int { return cmp.Compare(a.rate, b.rate) })
	for _, s := range samples {
		if peers := (sum - s.rate) / float64(n-1); s.rate*100 < peers*float64(config.SuccessRatePercent) {
			c.eject(s.member, now, BySuccessRate)
		}
	}
}

// judgeLatencies compares successes alone, since failures are fast or as slow as a timeout. It takes two peers: of two that
// differ nobody knows which one is usual.
func (c *Cluster) judgeLatencies(config *Config, now int64, samples []sample) {
	samples = slices.DeleteFunc(samples, func(s sample) bool { return s.requests-s.failures < config.MinRequests })
	if len(samples) < 3 {
		return
	}
	for i := range samples {
		s := &samples[i]
		s.mean = float64(s.duration) / float64(s.requests-s.failures)
	}
	slices.SortFunc(samples, func(a, b sample) int { return cmp.Compare(b.mean, a.mean) })
	for i, s := range samples {
		peers := medianBut(samples, i)
		if s.mean*100 > peers*float64(config.LatencyFactor) && s.mean > peers+float64(noise) {
			c.eject(s.member, now, ByLatency)
		}
	}
}

// medianBut is the median of the mean latencies, which are in order, of all but one.
func medianBut(samples []sample, i int) float64 {
	at := func(j int) float64 {
		if j >= i {
			j++
		}
		return samples[j].mean
	}
	n := len(samples) - 1
	return (at((n-1)/2) + at(n/2)) / 2
}
