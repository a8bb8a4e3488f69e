// SPDX-License-Identifier: Apache-2.0

package telemetry

import (
	"net/netip"
	"strconv"
	"time"
	"unicode/utf8"

	"github.com/heddle-mesh/heddle/proxy/observe"
	"github.com/heddle-mesh/heddle/proxy/refusal"
)

// maxText bounds each text of a line: callers choose paths.
const maxText = 1024

// appendEvent appends the event as one line of JSON. What is empty or doesn't apply is left out.
func appendEvent(b []byte, e *observe.Event, suppressed int) []byte {
	l := line{append(b, `{"time":"`...)}
	l.b = e.Start.UTC().AppendFormat(l.b, "2006-01-02T15:04:05.000Z07:00")
	l.b = append(l.b, '"')
	message := "request"
	if isDenial(e.Reason) {
		message = "denied"
	}
	l.text("msg", message)
	l.text("direction", e.Labels.Direction.String())
	l.text("protocol", e.Protocol)
	l.text("method", e.Method)
	l.text("path", e.Path)
	l.text("serverName", e.ServerName)
	if e.Status != 0 {
		l.number("status", int64(e.Status))
	}
	if e.Protocol == "grpc" && e.GRPCStatus >= 0 {
		l.number("grpcStatus", int64(e.GRPCStatus))
	}
	l.text("reason", string(e.Reason))
	l.text("rule", e.Rule)
	if e.Err != nil {
		l.text("err", e.Err.Error())
	}
	l.milliseconds("durationMs", e.Duration)
	l.number("bytesIn", e.BytesIn)
	l.number("bytesOut", e.BytesOut)
	l.target(e)
	if e.Attempts > 1 {
		l.number("attempts", int64(e.Attempts))
	}
	l.text("retryReason", e.RetryReason)
	l.text("fault", e.Fault)
	if suppressed > 0 {
		l.number("suppressed", int64(suppressed))
	}
	return append(l.b, "}\n"...)
}

// target appends who called and what was called.
func (l *line) target(e *observe.Event) {
	l.text("service", e.Labels.Service)
	l.text("route", e.Labels.Route)
	l.text("backend", e.Labels.Backend)
	l.text("workload", e.Labels.Workload)
	l.text("pod", e.Pod)
	l.b = append(l.b, `,"mtls":`...)
	l.b = strconv.AppendBool(l.b, e.MTLS)
	if e.Peer != nil {
		l.text("peer", e.Peer.String())
	} else if e.Reason != refusal.None {
		l.text("peer", "none")
	}
	l.address("source", e.Source)
	l.address("destination", e.Destination)
	l.address("endpoint", e.Endpoint)
}

// line is a JSON object that has a member already.
type line struct{ b []byte }

func (l *line) key(name string) {
	l.b = append(l.b, ',', '"')
	l.b = append(l.b, name...)
	l.b = append(l.b, '"', ':')
}

func (l *line) number(name string, value int64) {
	l.key(name)
	l.b = strconv.AppendInt(l.b, value, 10)
}

// milliseconds appends a duration with three decimals.
func (l *line) milliseconds(name string, d time.Duration) {
	l.key(name)
	l.b = strconv.AppendFloat(l.b, float64(d.Microseconds())/1000, 'f', 3, 64)
}

func (l *line) address(name string, a netip.AddrPort) {
	if !a.IsValid() {
		return
	}
	l.key(name)
	l.b = append(l.b, '"')
	l.b = a.AppendTo(l.b)
	l.b = append(l.b, '"')
}

func (l *line) text(name, value string) {
	if value == "" {
		return
	}
	if len(value) > maxText {
		value = value[:maxText]
	}
	l.key(name)
	l.b = append(l.b, '"')
	l.b = appendEscaped(l.b, value)
	l.b = append(l.b, '"')
}

// appendEscaped writes what stands between the quotes of a JSON string (RFC 8259, 7). Bytes that aren't UTF-8 become
// U+FFFD, and so does whatever a terminal could take for a command.
func appendEscaped(b []byte, s string) []byte {
	for _, r := range s {
		switch {
		case r == '"' || r == '\\':
			b = append(b, '\\', byte(r))
		case r < ' ' || (r >= 0x7f && r < 0xa0):
			const hex = "0123456789abcdef"
			b = append(b, '\\', 'u', '0', '0', hex[r>>4], hex[r&15])
		default:
			b = utf8.AppendRune(b, r)
		}
	}
	return b
}
