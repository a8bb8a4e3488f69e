// SPDX-License-Identifier: Apache-2.0

package health

import (
	"context"
	"errors"
	"fmt"
	"net/http"

	"github.com/heddle-mesh/heddle/internal/meshconfig"
	"github.com/heddle-mesh/heddle/proxy/grpchealth"
	"github.com/heddle-mesh/heddle/proxy/message"
	"github.com/heddle-mesh/heddle/proxy/upstream"
)

// exhausted is RESOURCE_EXHAUSTED as grpc-status spells it.
const exhausted = "8"

// maxService bounds the name of a service, maxMessage the answer; in bytes.
const (
	maxService = 1 << 10
	maxMessage = 256
)

func (c *Check) grpc(m *meshconfig.HealthCheck) error {
	service := m.GetGrpcService()
	if len(service) > maxService {
		return fmt.Errorf("health_check.grpc_service: %d bytes are more than %d", len(service), maxService)
	}
	c.frame = grpchealth.Request(service)
	c.once, c.head.Method, c.head.Path, c.head.Length = (*Check).onceGRPC, http.MethodPost, grpchealth.Path, message.Unknown
	c.head.Add("Content-Type", "application/grpc")
	c.head.Add("Te", "trailers")
	return c.headers(m)
}

// onceGRPC calls Health.Check.
func (c *Check) onceGRPC(ctx context.Context, e *upstream.Endpoint) error {
	call := &call{stream: newStream(c.frame)}
	return call.ask(ctx, c, e, call)
}

// call is a stream that carries one call. It is an upstream.Opener.
type call struct {
	stream
	answer []byte // the reader's
}

// Head implements http2.Sink.
func (c *call) Head(h *message.Head, end bool) {
	switch {
	case h.Status < http.StatusOK:
	case h.Status != http.StatusOK:
		c.end(fmt.Errorf("it answers %d", h.Status))
	case end:
		c.finish(h.Fields)
	}
}

// Data implements http2.Sink. The window of a stream is larger than any answer that is taken.
func (c *call) Data(p []byte, end bool) {
	if len(c.answer)+len(p) > maxMessage {
		c.end(errors.New("its answer is too long"))
		return
	}
	c.answer = append(c.answer, p...)
	if end {
		c.end(errors.New("its answer has no grpc-status"))
	}
}

// Trailer implements http2.Sink.
func (c *call) Trailer(fields []message.Field) { c.finish(fields) }

// finish judges the whole answer.
func (c *call) finish(fields []message.Field) {
	code := "none"
	for _, f := range fields {
		if f.Name == "grpc-status" {
			code = f.Value
		}
	}
	if code == exhausted { // as 429 of HTTP: it sheds load
		c.end(nil)
		return
	}
	if code != "0" {
		c.end(fmt.Errorf("its grpc-status is %q", code))
		return
	}
	c.end(grpchealth.Serving(c.answer))
}
