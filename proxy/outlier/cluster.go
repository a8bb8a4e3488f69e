// SPDX-License-Identifier: Apache-2.0

package outlier

import (
	"sync"
	"sync/atomic"
	"time"
)

// Gate is what an ejected endpoint is kept out by. Package balance's State is one.
type Gate interface {
	// Eject keeps the endpoint out until a time in Unix nanoseconds, or moves the end of its ejection. False: the cap on the
	// share of ejected ones, in percent, forbids it, or the endpoint has gone.
	Eject(until int64, maxPercent int) bool
	// Restore ends an ejection.
	Restore()
	// Ejected says whether the endpoint is ejected. Its trial does not end that.
	Ejected() bool
}

// Cluster finds the outliers of one cluster. It is safe for concurrent use.
type Cluster struct {
	random func() uint64
	config atomic.Pointer[Config]

	end  atomic.Int64           // of the window
	used atomic.Pointer[Member] // those that had a request in it, linked by next

	ejections      [causes]atomic.Uint64
	capped         atomic.Uint64
	passed, failed atomic.Uint64

	mu sync.Mutex // held while somebody is ejected or restored
}

// NewCluster makes a Cluster, given a source of random bits that is safe for concurrent use.
func NewCluster(config *Config, random func() uint64) *Cluster {
	c := &Cluster{random: random}
	c.config.Store(config)
	return c
}

// Configure changes when endpoints are ejected. Those that are stay so until their trial, unless the Gate's owner ends that by
// the new cap: when this returns nobody is ejected by the old config any more.
func (c *Cluster) Configure(config *Config) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.config.Store(config)
}

// Member is what a Cluster knows of one endpoint.
type Member struct {
	// Load is what the proxy has under way towards it, for a Breaker.
	Load Load

	gate Gate

	failures, connectFailures atomic.Uint32 // since the last success

	// Of the window.
	listed                     atomic.Bool
	next                       *Member // of Cluster.used; written before listed ones are, read before they are not
	requests, failed, duration atomic.Uint64

	// Guarded by Cluster.mu.
	level           int // of the last ejection, from 1; 0: there was none that is not forgiven
	restored, until int64
	cause           Cause
}

// Add makes the record of an endpoint.
func (c *Cluster) Add(gate Gate) *Member { return &Member{gate: gate} }

// Suspect says whether the last that was seen of the endpoint was a failure.
func (m *Member) Suspect() bool {
	return m.failures.Load() > 0 || m.connectFailures.Load() > 0 || m.gate.Ejected()
}

// Report takes how a try ended. It is to be called once for every pick.
func (c *Cluster) Report(m *Member, r Result) {
	config := c.config.Load()
	if r.Trial {
		c.judgeTrial(m, &r)
		return
	}
	switch r.Outcome {
	case Success:
		m.clear()
	case Failure:
		if m.connectFailures.Load() != 0 {
			m.connectFailures.Store(0)
		}
		c.count(m, &m.failures, config.Failures, &r, ByFailures)
	case ConnectFailure:
		c.count(m, &m.connectFailures, config.ConnectFailures, &r, ByConnectFailures)
		return
	default:
		return
	}
	if config.windowed() {
		c.record(config, m, &r)
	}
}

// clear forgets what went wrong one after another. The loads keep successes from fighting for the cache line.
func (m *Member) clear() {
	if m.failures.Load() != 0 {
		m.failures.Store(0)
	}
	if m.connectFailures.Load() != 0 {
		m.connectFailures.Store(0)
	}
}

// count counts a failure and ejects at the most. While the cap forbids that it is tried again with every so many more:
// when everything fails, not every failure should wait for the lock.
func (c *Cluster) count(m *Member, n *atomic.Uint32, most uint32, r *Result, cause Cause) {
	if count := n.Add(1); most > 0 && count%most == 0 {
		c.eject(m, r.Now, cause)
	}
}

func (c *Cluster) eject(m *Member, now int64, cause Cause) {
	c.mu.Lock()
	defer c.mu.Unlock()
	config := c.config.Load() // it may have changed since
	if config.Off() || m.gate.Ejected() {
		return // by another of the failures that came together, or while they were under way
	}
	if m.level > 0 {
		m.level = max(0, m.level-int(max(0, now-m.restored)/int64(config.MaxEjection)))
	}
	if !c.punish(config, m, now) {
		c.capped.Add(1)
		return
	}
	m.cause = cause
	c.ejections[cause].Add(1)
}

// punish ejects an endpoint for longer than the last time. The lock is held.
func (c *Cluster) punish(config *Config, m *Member, now int64) bool {
	level := m.level
	if _, last := config.length(level, 0); level == 0 || !last {
		level++
	}
	length, _ := config.length(level, c.random())
	until := now + int64(length)
	if !m.gate.Eject(until, config.MaxEjectedPercent) {
		return false
	}
	m.level, m.until = level, until
	return true
}

// judgeTrial restores an endpoint or ejects it for longer. Outcomes that say nothing leave it to another trial.
func (c *Cluster) judgeTrial(m *Member, r *Result) {
	c.mu.Lock()
	defer c.mu.Unlock()
	config := c.config.Load()
	if r.Outcome > ConnectFailure && !config.Off() {
		return
	}
	if !m.gate.Ejected() {
		return // another trial has decided, because this one took too long
	}
	if r.Outcome == Success || config.Off() || !c.punish(config, m, r.Now) {
		m.clear()
		m.restored = r.Now
		c.passed.Add(1)
		m.gate.Restore()
		return
	}
	c.failed.Add(1)
}

// Counts is what a Cluster has done since it was made.
type Counts struct {
	Ejections [causes]uint64 // by Cause; those that a failed trial made longer are not counted again
	Capped    uint64         // ejections that the cap forbade
	Passed    uint64         // trials, and those that failed
	Failed    uint64
}

// Counts returns what the Cluster has done since it was made.
func (c *Cluster) Counts() Counts {
	counts := Counts{Capped: c.capped.Load(), Passed: c.passed.Load(), Failed: c.failed.Load()}
	for i := range c.ejections {
		counts.Ejections[i] = c.ejections[i].Load()
	}
	return counts
}

// Ejection is why an endpoint is ejected, and until when it is at least.
type Ejection struct {
	Cause Cause
	Level int // how many ejections there were, but for those that are forgiven; it stops where they get no longer
	Until time.Time
}

// Ejection returns that of an endpoint; ok is false when it is not ejected.
func (c *Cluster) Ejection(m *Member) (e Ejection, ok bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !m.gate.Ejected() {
		return e, false
	}
	return Ejection{m.cause, m.level, time.Unix(0, m.until)}, true
}
