// SPDX-License-Identifier: Apache-2.0

package telemetry

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/heddle-mesh/heddle/internal/identity"
	"github.com/heddle-mesh/heddle/proxy/observe"
	"github.com/heddle-mesh/heddle/proxy/refusal"
)

// logged returns the lines that a log of this mode writes of the events.
func logged(t *testing.T, mode Mode, events ...observe.Event) []map[string]any {
	t.Helper()
	var out bytes.Buffer
	l := NewAccessLog(mode, &out)
	m := New(Options{Log: l})
	for i := range events {
		var labels observe.Labels
		if l := events[i].Labels; l != nil {
			labels = *l
		}
		observe.Bind(m, labels).Observe(&events[i])
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	l.Run(ctx) // writes what is queued
	var lines []map[string]any
	for line := range strings.Lines(out.String()) {
		var fields map[string]any
		if err := json.Unmarshal([]byte(line), &fields); err != nil {
			t.Fatalf("%q: %v", line, err)
		}
		lines = append(lines, fields)
	}
	return lines
}

func TestALine(t *testing.T) {
	e := observe.Event{
		Labels:   &observe.Labels{Direction: observe.Inbound, Service: "payments.shop", Route: "charge", Workload: "payments"},
		Protocol: "grpc", Method: "POST", Path: "/x\"\n\x1b[31m\xff", Status: 200, GRPCStatus: 7,
		Start: time.Date(2030, 1, 2, 3, 4, 5, 6_000_000, time.UTC), Duration: 1500 * time.Microsecond, BytesIn: 5, BytesOut: 6,
		MTLS: true, Peer: &identity.ID{TrustDomain: "cluster.local", Namespace: "shop", ServiceAccount: "customer"},
		Source: netip.MustParseAddrPort("10.0.0.1:5000"), Destination: netip.MustParseAddrPort("[fd00::1]:9090"),
		Reason: refusal.Denied, Rule: "shop/payments/only-checkout", Err: errors.New("because"), Attempts: 2, Pod: "shop/p-0",
	}
	lines := logged(t, Off, e)
	if len(lines) != 1 {
		t.Fatalf("%d lines", len(lines))
	}
	for key, want := range map[string]any{
		"time": "2030-01-02T03:04:05.006Z", "msg": "denied", "direction": "inbound", "protocol": "grpc", "method": "POST",
		"path": "/x\"\n\x1b[31m\ufffd", "status": 200.0, "grpcStatus": 7.0, "reason": "denied", "rule": "shop/payments/only-checkout",
		"err": "because", "durationMs": 1.5, "bytesIn": 5.0, "bytesOut": 6.0, "service": "payments.shop", "route": "charge",
		"workload": "payments", "pod": "shop/p-0", "mtls": true, "peer": "spiffe://cluster.local/ns/shop/sa/customer",
		"source": "10.0.0.1:5000", "destination": "[fd00::1]:9090", "attempts": 2.0,
	} {
		if lines[0][key] != want {
			t.Errorf("%s is %v, want %v", key, lines[0][key], want)
		}
	}
}

func TestModes(t *testing.T) {
	events := []observe.Event{
		{Protocol: "http1", Status: 200},
		{Protocol: "http1", Status: 404},
		{Protocol: "http1", Status: 500},
		{Protocol: "grpc", Status: 200, GRPCStatus: 3},
		{Protocol: "tcp"},
		{Protocol: "tcp", Reason: refusal.ConnectFailed},
		{Protocol: "http1", Status: 403, Reason: refusal.PlaintextRefused},
		{Protocol: "http1", Status: 400, Reason: refusal.BadRequest},
		{Protocol: "tcp", Reason: refusal.NoFirstByte},
	}
	for mode, want := range map[Mode]int{Off: 3, Errors: 6, All: 9} {
		if got := len(logged(t, mode, events...)); got != want {
			t.Errorf("%s: %d lines, want %d", mode, got, want)
		}
	}
	for _, s := range []string{"", "off", "errors", "json"} {
		if _, err := ParseMode(s); err != nil {
			t.Error(err)
		}
	}
	if _, err := ParseMode("on"); err == nil || !strings.Contains(err.Error(), "json") {
		t.Error(err)
	}
}

func TestDenialsAreBounded(t *testing.T) {
	now := time.Unix(1000, 0)
	var events []observe.Event
	for range 500 {
		events = append(events, observe.Event{Protocol: "http1", Reason: refusal.Denied, Start: now})
	}
	events = append(events, observe.Event{Protocol: "http1", Reason: refusal.Denied, Start: now.Add(time.Second)})
	lines := logged(t, Off, events...)
	if len(lines) != deniedBurst+1 || lines[deniedBurst]["suppressed"] != 400.0 {
		t.Errorf("%d lines, the last %v", len(lines), lines[len(lines)-1])
	}
}

func TestWhoSendsGarbageHidesNoDenial(t *testing.T) {
	now := time.Unix(1000, 0)
	var events []observe.Event
	for range 500 {
		events = append(events, observe.Event{Protocol: "http1", Status: 400, Reason: refusal.BadRequest, Start: now})
	}
	events = append(events, observe.Event{Protocol: "http1", Reason: refusal.Denied, Start: now})
	lines := logged(t, Off, events...)
	if len(lines) != deniedBurst+1 || lines[deniedBurst]["reason"] != "denied" {
		t.Errorf("%d lines, the last %v", len(lines), lines[len(lines)-1])
	}
}

func TestALongTextIsCut(t *testing.T) {
	lines := logged(t, All, observe.Event{Protocol: "http1", Path: "/" + strings.Repeat("é", maxText)})
	if got := lines[0]["path"].(string); len(got) > maxText+3 || !strings.HasPrefix(got, "/éé") {
		t.Errorf("%d bytes", len(got))
	}
}

// stuck is an output that takes nothing until it is released.
type stuck struct {
	release chan struct{}
	mu      sync.Mutex
	lines   int
}

func (s *stuck) Write(b []byte) (int, error) {
	<-s.release
	s.mu.Lock()
	defer s.mu.Unlock()
	s.lines++
	return len(b), nil
}

func TestASlowOutputSlowsNoRequest(t *testing.T) {
	out := &stuck{release: make(chan struct{})}
	l := NewAccessLog(All, out)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() { defer close(done); l.Run(ctx) }()
	s := observe.Bind(New(Options{Log: l}), observe.Labels{})
	const events = 3 * queuedLines
	for range events {
		s.Observe(&observe.Event{Protocol: "http1"}) // would hang
	}
	close(out.release)
	cancel()
	<-done
	if lost := int(l.Dropped()); lost == 0 || lost+out.lines != events {
		t.Errorf("%d written and %d dropped of %d", out.lines, lost, events)
	}
}
