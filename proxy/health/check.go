// SPDX-License-Identifier: Apache-2.0

package health

import (
	"context"
	"fmt"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/heddle-mesh/heddle/internal/meshconfig"
	"github.com/heddle-mesh/heddle/proxy/message"
	"github.com/heddle-mesh/heddle/proxy/upstream"
)

// Bounds of what config may say.
const (
	minInterval, maxInterval = time.Second, time.Hour
	maxThreshold             = 100
	maxPattern               = 1 << 10 // bytes
	maxHeaders               = 32
)

// maxBody is how much of an answer's body is looked at, in bytes.
const maxBody = 4 << 10

// Check is how the endpoints of a cluster are checked. It never changes.
type Check struct {
	Interval, Timeout  time.Duration
	Healthy, Unhealthy int // checks one after another

	ports []uint32 // of the service that are checked; empty: all
	http2 []uint32 // of those, where once is by streams
	// connect is how long a connection may take to be made. It is not bounded by Timeout: one that a check has begun to make
	// may be a request's, which waits for it.
	connect time.Duration

	once  func(c *Check, ctx context.Context, e *upstream.Endpoint) error
	host  string
	head  message.Head // but for the authority where host is empty
	codes []uint32     // empty: 200 to 399, and 429
	body  *regexp.Regexp
	frame []byte // of gRPC
}

// New reads config. What is 0 there has its default: every 10 s, for at most 1 s, 1 good one or 3 bad ones. Connections may take
// as long to be made as those of requests, connect; 0: upstream.Options.ConnectTimeout. Errors name the field.
func New(m *meshconfig.HealthCheck, connect time.Duration) (*Check, error) {
	c := &Check{
		Interval: 10 * time.Second, Timeout: time.Second, Healthy: 1, Unhealthy: 3, ports: m.GetPorts(), connect: connect, host: m.GetHost(),
	}
	if err := c.pacing(m); err != nil {
		return nil, err
	}
	if c.host != "" && !message.ValidAuthority(c.host) {
		return nil, fmt.Errorf("health_check.host: %q is no host", c.host)
	}
	c.head.Scheme = "http"
	switch m.GetType() {
	case meshconfig.HealthCheck_TYPE_HTTP:
		return c, c.http(m)
	case meshconfig.HealthCheck_TYPE_GRPC:
		return c, c.grpc(m)
	case meshconfig.HealthCheck_TYPE_TCP:
		c.once = (*Check).onceTCP
		return c, nil
	default:
		return nil, fmt.Errorf("health_check.type: %d is none that is known", m.GetType())
	}
}

// At is how endpoints are checked at a port of the service; nil: they are not. It may be called on nil.
func (c *Check) At(port uint16) *Check {
	switch p := uint32(port); {
	case c == nil, len(c.ports) > 0 && !slices.Contains(c.ports, p):
		return nil
	case slices.Contains(c.http2, p):
		at := *c
		at.once, at.head.Scheme = (*Check).onceHTTP2, "http"
		return &at
	}
	return c
}

// Once checks an endpoint once: nil is healthy. It returns before its context is over, or soon after.
func (c *Check) Once(ctx context.Context, e *upstream.Endpoint) error { return c.once(c, ctx, e) }

func (c *Check) pacing(m *meshconfig.HealthCheck) error {
	if ms := m.GetInterval(); ms != 0 {
		if ms < minInterval.Milliseconds() || ms > maxInterval.Milliseconds() {
			return fmt.Errorf("health_check.interval: %d ms is not between %v and %v", ms, minInterval, maxInterval)
		}
		c.Interval = time.Duration(ms) * time.Millisecond
	}
	if ms := m.GetTimeout(); ms != 0 {
		if ms < 0 || ms > c.Interval.Milliseconds() {
			return fmt.Errorf("health_check.timeout: %d ms is not between 0 and the interval, %v", ms, c.Interval)
		}
		c.Timeout = time.Duration(ms) * time.Millisecond
	}
	thresholds := []struct {
		name  string
		value uint32
		to    *int
	}{
		{"healthy_threshold", m.GetHealthyThreshold(), &c.Healthy},
		{"unhealthy_threshold", m.GetUnhealthyThreshold(), &c.Unhealthy},
	}
	for _, t := range thresholds {
		if t.value > maxThreshold {
			return fmt.Errorf("health_check.%s: %d is more than %d", t.name, t.value, maxThreshold)
		}
		if t.value > 0 {
			*t.to = int(t.value)
		}
	}
	return nil
}

func (c *Check) http(m *meshconfig.HealthCheck) error {
	path := m.GetPath()
	if path == "" {
		path = "/"
	}
	if !message.ValidTarget(path) {
		return fmt.Errorf("health_check.path: %q is no path that can be asked for as it is", path)
	}
	c.once, c.head.Method, c.head.Path = (*Check).onceHTTP, http.MethodGet, path
	c.head.Scheme = "" // the origin form
	c.http2, c.codes = m.GetHttp2Ports(), m.GetCodes()
	for i, code := range c.codes {
		if code < 200 || code > 599 {
			return fmt.Errorf("health_check.codes[%d]: %d is no status of a final answer", i, code)
		}
	}
	if pattern := m.GetBody(); pattern != "" {
		if len(pattern) > maxPattern {
			return fmt.Errorf("health_check.body: %d bytes are more than %d", len(pattern), maxPattern)
		}
		body, err := regexp.Compile(pattern)
		if err != nil {
			return fmt.Errorf("health_check.body: %w", err)
		}
		c.body = body
	}
	return c.headers(m)
}

// decided are the fields that the connection decides on, and the host that has a field of its own in config.
var decided = []string{"host", "content-length", "transfer-encoding", "connection", "keep-alive", "te", "upgrade", "expect", "proxy-connection"}

// headers adds the fields of config to the head, and ours where config has none.
func (c *Check) headers(m *meshconfig.HealthCheck) error {
	if n := len(m.GetHeaders()); n > maxHeaders {
		return fmt.Errorf("health_check.headers: %d are more than %d", n, maxHeaders)
	}
	agent := true
	for i, h := range m.GetHeaders() {
		name := strings.ToLower(h.GetName())
		if !message.ValidToken(name) || slices.Contains(decided, name) {
			return fmt.Errorf("health_check.headers[%d].name: %q cannot be set", i, h.GetName())
		}
		if !message.ValidValue(h.GetValue()) {
			return fmt.Errorf("health_check.headers[%d].value: it has characters that no field may have", i)
		}
		agent = agent && name != "user-agent"
		c.head.Add(h.GetName(), h.GetValue())
	}
	if agent {
		c.head.Add("User-Agent", "heddle-health")
	}
	return nil
}

// request returns the head for an endpoint. Its fields are shared.
func (c *Check) request(e *upstream.Endpoint) *message.Head {
	h := c.head
	if h.Authority = c.host; h.Authority == "" {
		h.Authority = e.Address.String()
	}
	return &h
}
