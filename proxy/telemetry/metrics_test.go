// SPDX-License-Identifier: Apache-2.0

package telemetry

import (
	"fmt"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/heddle-mesh/heddle/internal/identity"
	"github.com/heddle-mesh/heddle/internal/limits"
	"github.com/heddle-mesh/heddle/proxy/listener"
	"github.com/heddle-mesh/heddle/proxy/observe"
	"github.com/heddle-mesh/heddle/proxy/refusal"
)

var (
	_ observe.Observer = (*Metrics)(nil)
	_ listener.Events  = (*Connections)(nil)
	_ limits.Counter   = (*Metrics)(nil)
	_                  = map[bool]int{false: 0, notRedirected == listener.NotRedirected: 1} // they are equal
)

// page is /metrics.
func page(t *testing.T, m *Metrics) string {
	t.Helper()
	var b strings.Builder
	if err := Write(&b, m.Gatherer()); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

func expect(t *testing.T, m *Metrics, lines ...string) {
	t.Helper()
	got := page(t, m)
	for _, line := range lines {
		if !strings.Contains(got, line+"\n") {
			name, _, _ := strings.Cut(line, "{")
			var similar strings.Builder
			for l := range strings.Lines(got) {
				if strings.HasPrefix(l, name) {
					similar.WriteString(l)
				}
			}
			t.Errorf("no line %s; there are\n%s", line, similar.String())
		}
	}
}

func checkout(d observe.Direction) observe.Labels {
	return observe.Labels{Direction: d, Service: "checkout.shop", Route: "buy", Backend: "v2", Workload: "checkout-v2"}
}

func watched() *Metrics {
	m := New(Options{Version: "v1"})
	yes, no := func() bool { return true }, func() bool { return false }
	m.Watch(State{
		Clock:             func() time.Time { return time.Unix(1000, 0) },
		Serial:            func() (uint32, uint64, uint64) { return 1, 2, 3 },
		Heartbeat:         func() time.Time { return time.Unix(970, 0) },
		CertificateExpiry: func() time.Time { return time.Unix(5000, 0) },
		Connected:         yes, Ready: yes, Draining: no,
	})
	m.WatchDefences(func() (list []observe.Tally) {
		for d := range observe.Defences {
			list = append(list, observe.Tally{Of: d, Service: "checkout.shop", Kind: "k", N: 1})
		}
		return list
	})
	return m
}

func TestLimitsAreCounted(t *testing.T) {
	m := New(Options{})
	m.Exceeded(limits.Streams)
	m.Exceeded(limits.Streams)
	m.Exceeded("none of them")
	expect(t, m, `heddle_limit_exceeded_total{limit="streams"} 2`, `heddle_limit_exceeded_total{limit="memory"} 0`)
	if strings.Contains(page(t, m), "none of them") {
		t.Error("a label that is no limit")
	}
}

func TestRequestsAreCounted(t *testing.T) {
	m := New(Options{})
	s := m.Bind(checkout(observe.Outbound))
	for _, e := range []observe.Event{
		{Protocol: "http1", Status: 200, MTLS: true, Duration: 3 * time.Millisecond, Attempts: 1},
		{Protocol: "http2", Status: 204, MTLS: true, Duration: 300 * time.Millisecond, Attempts: 3, Panic: true, Fault: "shop/cart/drill", CopyDropped: true},
		{Protocol: "http1", Status: 503, Reason: refusal.NoEndpoints},
		{Protocol: "grpc", Status: 200, GRPCStatus: 0, Attempts: 1},
		{Protocol: "grpc", Status: 200, GRPCStatus: 14, Attempts: 1},
		{Protocol: "http1", Reason: "no reason that anybody knows"},
	} {
		s.Observe(&e)
	}
	labels := `backend="v2",direction="outbound",mtls="%s",response_class="%s",route="buy",service="checkout.shop",workload="checkout-v2"`
	request := func(mtls, class string, n int) string {
		return fmt.Sprintf("heddle_requests_total{"+labels+"} %d", mtls, class, n)
	}
	expect(t, m,
		request("true", "2xx", 2), request("false", "5xx", 1), request("false", "ok", 1), request("false", "error", 1),
		request("false", "refused", 1),
		`heddle_request_duration_seconds_count{direction="outbound",route="buy",service="checkout.shop"} 6`,
		`heddle_request_duration_seconds_bucket{direction="outbound",route="buy",service="checkout.shop",le="0.005"} 5`,
		`heddle_retries_total{direction="outbound",service="checkout.shop"} 2`,
		`heddle_panic_picks_total{direction="outbound",service="checkout.shop"} 1`,
		`heddle_faults_injected_total{direction="outbound",service="checkout.shop"} 1`,
		`heddle_mirror_dropped_total{direction="outbound",service="checkout.shop"} 1`,
		`heddle_refused_total{direction="outbound",reason="no_endpoints"} 1`,
		`heddle_refused_total{direction="outbound",reason="other"} 1`,
		`heddle_refused_total{direction="inbound",reason="denied"} 0`,
	)
}

func TestDefencesAreCounted(t *testing.T) {
	m := New(Options{MaxSeries: 2})
	m.WatchDefences(func() []observe.Tally {
		return []observe.Tally{
			{Of: observe.Ejections, Service: "a.shop", Kind: "latency", N: 2},
			{Of: observe.Ejections, Service: "a.shop", Kind: "success_rate", N: 1},
			{Of: observe.EndpointsOut, Service: "a.shop", Kind: "ejected"},
			{Of: observe.ExhaustedBudget, Service: "b.shop", N: 5},
			{Of: observe.BreakerRefusals, Service: "c.shop", Kind: "maxRequests", N: 3},
			{Of: observe.BreakerRefusals, Service: "d.shop", Kind: "maxRequests", N: 4},
			{Of: observe.Checks, Service: "a.shop", Kind: "skipped", N: 6},
		}
	})
	expect(t, m,
		`heddle_ejections_total{cause="latency",service="a.shop"} 2`,
		`heddle_ejections_total{cause="success_rate",service="a.shop"} 1`,
		`heddle_endpoints_out{service="a.shop",why="ejected"} 0`,
		`heddle_retry_budget_exhausted_total{service="b.shop"} 5`,
		`heddle_breaker_refused_total{bound="maxRequests",service="overflow"} 7`,
		`heddle_health_checks_total{result="skipped",service="a.shop"} 6`,
	)
}

func TestConnectionsAreCounted(t *testing.T) {
	m := New(Options{})
	s := m.Bind(checkout(observe.Inbound))
	s.Observe(&observe.Event{Protocol: "tcp", MTLS: true, BytesIn: 100, BytesOut: 7})
	s.Observe(&observe.Event{Protocol: "tls", BytesIn: 1, Reason: refusal.Denied})
	c := m.Connections(observe.Inbound)
	c.Opened()
	c.Opened()
	c.Closed()
	c.Refused(refusal.Overloaded)
	c.Refused(listener.NotRedirected)
	c.Panicked()
	m.ConfigRejected("signature")
	m.ApplicationScraped("ok")
	expect(t, m,
		`heddle_tcp_connections_total{backend="v2",direction="inbound",mtls="true",result="ok",service="checkout.shop",workload="checkout-v2"} 1`,
		`heddle_tcp_connections_total{backend="v2",direction="inbound",mtls="false",result="refused",service="checkout.shop",workload="checkout-v2"} 1`,
		`heddle_tcp_bytes_total{backend="v2",direction="inbound",service="checkout.shop",way="in",workload="checkout-v2"} 101`,
		`heddle_tcp_bytes_total{backend="v2",direction="inbound",service="checkout.shop",way="out",workload="checkout-v2"} 7`,
		`heddle_connections{direction="inbound"} 1`,
		`heddle_connections_accepted_total{direction="inbound"} 2`,
		`heddle_refused_total{direction="inbound",reason="overloaded"} 1`,
		`heddle_refused_total{direction="inbound",reason="not_redirected"} 1`,
		`heddle_connection_panics_total 1`,
		`heddle_config_rejected_total{reason="signature"} 1`,
		`heddle_application_scrapes_total{result="ok"} 1`,
	)
}

func TestStateIsShown(t *testing.T) {
	expect(t, watched(),
		`heddle_config_serial{part="epoch"} 1`, `heddle_config_serial{part="term"} 2`, `heddle_config_serial{part="counter"} 3`,
		`heddle_config_age_seconds 30`, `heddle_certificate_expiry_timestamp_seconds 5000`,
		`heddle_control_connected 1`, `heddle_ready 1`, `heddle_draining 0`, `heddle_build_info{version="v1"} 1`,
	)
	if age(time.Unix(5, 0), time.Time{}) != -1 || timestamp(time.Time{}) != 0 {
		t.Error("what isn't there yet has a value")
	}
}

func TestThereAreOnlySoManySeries(t *testing.T) {
	m := New(Options{MaxSeries: 10})
	for i := range 1000 {
		s := m.Bind(observe.Labels{Service: fmt.Sprint("s", i), Workload: fmt.Sprint("w", i)})
		s.Observe(&observe.Event{Protocol: "http1", Status: 200})
		s.Observe(&observe.Event{Protocol: "tcp"})
	}
	lines := 0
	for l := range strings.Lines(page(t, m)) {
		if strings.HasPrefix(l, "heddle_requests_total{") {
			lines++
		}
	}
	if lines != 11 {
		t.Errorf("%d series of requests, want 10 and the overflow", lines)
	}
	expect(t, m, `heddle_requests_total{backend="overflow",direction="outbound",mtls="false",response_class="2xx",route="overflow",service="overflow",workload="overflow"} 990`,
		"heddle_series_overflow_total 990")
	if m.Bind(observe.Labels{Service: "s1", Workload: "w1"}) != m.Bind(observe.Labels{Service: "s1", Workload: "w1"}) {
		t.Error("equal labels have two series")
	}
}

func TestObserveDoesNotAllocate(t *testing.T) {
	m := New(Options{Log: NewAccessLog(Off, nil)})
	s := m.Bind(checkout(observe.Outbound))
	for name, e := range map[string]*observe.Event{
		"a request":    {Protocol: "http2", Status: 200, MTLS: true, Duration: time.Millisecond, Attempts: 1},
		"a refusal":    {Protocol: "http1", Status: 503, Reason: refusal.NoEndpoints, Attempts: 2, Panic: true, Fault: "x", CopyDropped: true},
		"a connection": {Protocol: "tcp", BytesIn: 1, BytesOut: 2},
	} {
		s.Observe(e)
		if n := testing.AllocsPerRun(1000, func() { s.Observe(e) }); n != 0 {
			t.Errorf("%s: %v allocations", name, n)
		}
	}
}

func TestTheDocsListEveryMetric(t *testing.T) {
	docs, err := os.ReadFile("../../docs/metrics.md")
	if err != nil {
		t.Fatal(err)
	}
	row := regexp.MustCompile("(?m)^\\| `(heddle_[a-z_]+)` \\| ([a-z]+) \\| (?:`([a-z_ ]+)` )?\\|")
	documented := map[string]string{}
	for _, match := range row.FindAllStringSubmatch(string(docs), -1) {
		documented[match[1]] = strings.TrimSpace(match[2] + " " + match[3])
	}
	m := watched()
	s := m.Bind(checkout(observe.Inbound))
	s.Observe(&observe.Event{Protocol: "http1", Status: 200, Peer: &identity.ID{}, Attempts: 2, Panic: true, Fault: "x", CopyDropped: true})
	s.Observe(&observe.Event{Protocol: "tcp", BytesIn: 1, BytesOut: 1})
	m.ConfigRejected("x")
	m.ApplicationScraped("x")
	m.Connections(observe.Inbound)
	families, err := m.Gatherer().Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		name := f.GetName()
		if strings.HasPrefix(name, "heddle_proxy_") {
			continue // of Go's and Prometheus' libraries: the page names them as a group
		}
		var labels []string
		for _, l := range f.GetMetric()[0].GetLabel() {
			labels = append(labels, l.GetName())
		}
		slices.Sort(labels)
		got := strings.TrimSpace(strings.ToLower(f.GetType().String()) + " " + strings.Join(labels, " "))
		if want, ok := documented[name]; !ok {
			t.Errorf("docs/metrics.md lacks: | `%s` | %s | %s |", name, strings.ToLower(f.GetType().String()), strings.Join(labels, " "))
		} else if want != got {
			t.Errorf("docs/metrics.md says of %s: %q, but it is %q", name, want, got)
		}
		delete(documented, name)
	}
	for name := range documented {
		t.Errorf("docs/metrics.md lists %s, which is not registered", name)
	}
}
