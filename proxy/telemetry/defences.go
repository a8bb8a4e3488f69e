// SPDX-License-Identifier: Apache-2.0

package telemetry

import (
	"github.com/prometheus/client_golang/prometheus"

	"github.com/heddle-mesh/heddle/proxy/observe"
)

// defences are the metrics of each defence. Label is what its kinds are called; empty: it has none.
var defences = [observe.Defences]struct{ name, label, help string }{
	observe.Ejections:       {"ejections_total", "cause", "Endpoints that were ejected because they answered badly."},
	observe.CappedEjections: {"ejections_capped_total", "", "Ejections that the cap on the ejected share forbade."},
	observe.Trials:          {"ejection_trials_total", "result", "Requests that decided whether an endpoint stays ejected."},
	observe.Checks:          {"health_checks_total", "result", "Active health checks, and those that were left out because there are too many."},
	observe.BreakerRefusals: {"breaker_refused_total", "bound", "Requests, connections and repetitions that a circuit breaker has refused."},
	observe.ExhaustedBudget: {"retry_budget_exhausted_total", "", "Requests that were not sent again because the retry budget was used up."},
	observe.EndpointsOut:    {"endpoints_out", "why", "Ready endpoints that get no requests now, by port."},
}

// tallies collects what defences have done. Services beyond the most are counted together.
type tallies struct {
	read  func() []observe.Tally
	most  int
	descs [observe.Defences]*prometheus.Desc
}

// WatchDefences registers the metrics of defences, once, given what tells how often each has acted. It must be safe for
// concurrent use, and its counts must not fall while a service is in use.
func (m *Metrics) WatchDefences(read func() []observe.Tally) {
	t := &tallies{read: read, most: m.max}
	for i, d := range defences {
		labels := []string{"service"}
		if d.label != "" {
			labels = append(labels, d.label)
		}
		t.descs[i] = prometheus.NewDesc("heddle_"+d.name, d.help, labels, nil)
	}
	m.registry.MustRegister(t)
}

// Describe implements prometheus.Collector.
func (t *tallies) Describe(to chan<- *prometheus.Desc) {
	for _, d := range t.descs {
		to <- d
	}
}

// Collect implements prometheus.Collector.
func (t *tallies) Collect(to chan<- prometheus.Metric) {
	sums := make(map[observe.Tally]uint64) // by all but N
	services := make(map[string]bool)
	for _, tally := range t.read() {
		n := tally.N
		tally.N = 0
		if defences[tally.Of].label == "" {
			tally.Kind = ""
		}
		if !services[tally.Service] && len(services) >= t.most {
			tally.Service = Overflow
		} else {
			services[tally.Service] = true
		}
		sums[tally] += n
	}
	for tally, n := range sums {
		kind, labels := prometheus.CounterValue, []string{tally.Service}
		if tally.Of == observe.EndpointsOut {
			kind = prometheus.GaugeValue
		}
		if defences[tally.Of].label != "" {
			labels = append(labels, tally.Kind)
		}
		to <- prometheus.MustNewConstMetric(t.descs[tally.Of], kind, float64(n), labels...)
	}
}
