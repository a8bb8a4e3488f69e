// SPDX-License-Identifier: Apache-2.0

package controllers

import (
	"fmt"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/heddle-mesh/heddle/internal/compile"
	"github.com/heddle-mesh/heddle/internal/distribute"
	"github.com/heddle-mesh/heddle/internal/meshconfig"
	"github.com/heddle-mesh/heddle/internal/signedconfig"
	"github.com/heddle-mesh/heddle/internal/snapshot"
)

// metrics of compiling. All of them are written by the leader.
type metrics struct {
	duration *prometheus.HistogramVec
	objects  *prometheus.GaugeVec
	sections prometheus.Gauge
	lastGood prometheus.Gauge
	missing  prometheus.Gauge
	networks prometheus.Gauge
}

func newMetrics(into prometheus.Registerer) (*metrics, error) {
	m := &metrics{
		duration: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "heddle_operator_compile_duration_seconds",
			Help: "How long each step of one compilation took.", Buckets: prometheus.ExponentialBuckets(0.0005, 2, 16),
		}, []string{"step"}),
		objects: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "heddle_operator_objects", Help: "Objects that the last compilation read.",
		}, []string{"kind"}),
		sections: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "heddle_operator_sections", Help: "Sections that the last compilation made.",
		}),
		lastGood: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "heddle_operator_objects_on_last_good", Help: "Objects whose last good spec is in force in place of the one they have.",
		}),
		missing: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "heddle_operator_kinds_missing",
			Help: "Kinds of mesh.heddle.io that the API server does not serve, so that their last set stays in force.",
		}),
		networks: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "heddle_operator_mesh_networks",
			Help: "Networks that proxies take for the mesh's own. With none, an address that nobody knows is called in plaintext.",
		}),
	}
	for _, c := range []prometheus.Collector{m.duration, m.objects, m.sections, m.lastGood, m.missing, m.networks} {
		if err := into.Register(c); err != nil {
			return nil, fmt.Errorf("register the metrics of compiling: %w", err)
		}
	}
	return m, nil
}

func (m *metrics) compiled(s *snapshot.Snapshot, r *compile.Result, collect, compile, publish time.Duration) {
	for step, took := range map[string]time.Duration{"collect": collect, "compile": compile, "publish": publish} {
		m.duration.WithLabelValues(step).Observe(took.Seconds())
	}
	for kind, n := range map[string]int{
		"Node": len(s.Nodes), "Service": len(s.Services), "EndpointSlice": len(s.EndpointSlices), "Pod": len(s.Pods),
		"TrafficSplit": len(s.TrafficSplits), "ServiceProfile": len(s.ServiceProfiles), "MeshPolicy": len(s.MeshPolicies),
	} {
		m.objects.WithLabelValues(kind).Set(float64(n))
	}
	m.sections.Set(float64(len(r.Sections)))
	m.lastGood.Set(float64(len(r.LastGood)))
	m.missing.Set(float64(len(s.Missing)))
	m.networks.Set(float64(meshNetworks(r)))
}

// meshNetworks is how many networks proxies take for the mesh's own.
func meshNetworks(r *compile.Result) int {
	mesh, _ := r.Sections[meshconfig.MeshName].(*meshconfig.Mesh)
	return len(mesh.GetNetworks())
}

// nodeCollector reports what a node has counted, when it is asked.
type nodeCollector struct {
	node       *distribute.Node
	leadership *Leadership
	signers    *Signers
	clock      func() time.Time
}

func describe(name, help string, labels ...string) *prometheus.Desc {
	return prometheus.NewDesc("heddle_operator_"+name, help, labels, nil)
}

var (
	descLeader     = describe("leader", "1 on the replica that leads.")
	descTerm       = describe("term", "Term of what this leader signs.")
	descSignerEnds = describe("signer_expiry_timestamp_seconds", "When the config signer's certificate expires; on the leader.")
	descHeartbeat  = describe("heartbeat_age_seconds", "How long ago the newest heartbeat was signed that this replica has.")
	descStreams    = describe("streams", "Open streams.", "peer")
	descEncoded    = describe("sections_encoded_total", "Sections encoded because their message changed.")
	descEvaluated  = describe("sections_evaluated_total", "Sections on demand that were looked at again.")
	descSigned     = describe("sections_signed_total", "Sections signed, tombstones included.", "kind")
	descTombstones = describe("tombstones_signed_total", "Tombstones signed.")
	descFailed     = describe("sections_failed_total", "Sections that could not be signed; they keep their last version.")
	descSent       = describe("envelopes_sent_total", "Envelopes sent to proxies and replicas.", "kind")
	descAcks       = describe("acks_total", "Envelopes that proxies of this replica accepted.")
	descNacks      = describe("nacks_total", "Envelopes that proxies of this replica refused.")
	descRefused    = describe("streams_refused_total", "Streams turned away, or ended for what they did.", "reason")
	descAhead      = describe("streams_ahead_total", "Streams that hold config of a later term than the leader's.")
	descStale      = describe("envelopes_stale_total", "Envelopes that this relay got below what it has.")
	descUnusable   = describe("envelopes_unusable_total", "Envelopes that this relay could not use.")
)

// Describe implements prometheus.Collector.
func (c *nodeCollector) Describe(out chan<- *prometheus.Desc) { prometheus.DescribeByCollect(c, out) }

// Collect implements prometheus.Collector.
func (c *nodeCollector) Collect(out chan<- prometheus.Metric) {
	gauge := func(d *prometheus.Desc, v float64, labels ...string) {
		out <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, labels...)
	}
	counter := func(d *prometheus.Desc, v uint64, labels ...string) {
		out <- prometheus.MustNewConstMetric(d, prometheus.CounterValue, float64(v), labels...)
	}
	leads := 0.0
	if p := c.leadership.Publisher(); p != nil {
		leads = 1
		gauge(descTerm, float64(p.Term().Term))
		if s := c.signers.Current(); s != nil {
			gauge(descSignerEnds, float64(s.NotAfter().Unix()))
		}
	}
	gauge(descLeader, leads)
	if age, ok := c.heartbeatAge(); ok {
		gauge(descHeartbeat, age.Seconds())
	}
	proxies, replicas := c.node.Streams()
	gauge(descStreams, float64(proxies), "proxy")
	gauge(descStreams, float64(replicas), "replica")

	n := c.node.Counters()
	for kind, v := range n.Signed {
		counter(descSigned, v, string(kind))
	}
	for kind, v := range n.Sent {
		counter(descSent, v, string(kind))
	}
	for reason, v := range n.Refused {
		counter(descRefused, v, string(reason))
	}
	for d, v := range map[*prometheus.Desc]uint64{
		descEncoded: n.Encoded, descEvaluated: n.Evaluated, descTombstones: n.Tombstones, descFailed: n.Failed,
		descAcks: n.Acked, descNacks: n.Nacked, descAhead: n.Ahead, descStale: n.Stale, descUnusable: n.Invalid,
	} {
		counter(d, v)
	}
}

// heartbeatAge reads the newest heartbeat that the node has, signed here or relayed.
func (c *nodeCollector) heartbeatAge() (time.Duration, bool) {
	entry := c.node.Hub().Get(meshconfig.HeartbeatName)
	if entry == nil {
		return 0, false
	}
	e, err := signedconfig.Decode(entry.Envelope)
	if err != nil {
		return 0, false
	}
	return c.clock().Sub(e.IssuedAt), true
}
