// SPDX-License-Identifier: Apache-2.0

package issue

import (
	"fmt"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

type metrics struct {
	requests *prometheus.CounterVec
	duration *prometheus.HistogramVec
}

func newMetrics(into prometheus.Registerer, roots *Roots) (*metrics, error) {
	m := &metrics{
		requests: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "heddle_identity_requests_total",
			Help: "Certificates that workloads asked for, by result: issued, or the reason of the refusal.",
		}, []string{"result"}),
		duration: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name:    "heddle_identity_request_duration_seconds",
			Help:    "How long a workload waited for its certificate or for its refusal.",
			Buckets: []float64{.01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 25},
		}, []string{"issued"}),
	}
	// All series exist from the start, so that an alert on a rise sees the first one.
	m.requests.WithLabelValues(resultIssued)
	for reason := range codes {
		m.requests.WithLabelValues(string(reason))
	}
	expiry := prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "heddle_workload_ca_expiry_timestamp_seconds",
		Help: "When the first of the CA certificates that sign workloads now expires, in Unix seconds; 0 while there is none.",
	}, roots.expiry)
	for _, c := range []prometheus.Collector{m.requests, m.duration, expiry} {
		if err := into.Register(c); err != nil {
			return nil, fmt.Errorf("register the metrics of the identity service: %w", err)
		}
	}
	return m, nil
}

func (m *metrics) done(result string, took time.Duration) {
	m.requests.WithLabelValues(result).Inc()
	issued := "false"
	if result == resultIssued {
		issued = "true"
	}
	m.duration.WithLabelValues(issued).Observe(took.Seconds())
}
