// SPDX-License-Identifier: Apache-2.0

package admin

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"

	"google.golang.org/protobuf/encoding/protowire"
)

// Of the gRPC health checking protocol, grpc.health.v1: the method, and the fields of its messages.
const (
	healthMethod = "/grpc.health.v1.Health/Check"

	fieldService = 1 // of HealthCheckRequest, a string
	fieldStatus  = 1 // of HealthCheckResponse, an enum
	serving      = 1

	maxHealthAnswer = 4 << 10
	framePrefix     = 5 // whether it is compressed, 1 byte, and the message's length, 4
)

// askGRPC calls the health service in clear. It is one unary call over HTTP/2 and needs no gRPC library.
func askGRPC(ctx context.Context, address, service, userAgent string) error {
	var message []byte
	if service != "" {
		message = protowire.AppendTag(message, fieldService, protowire.BytesType)
		message = protowire.AppendString(message, service)
	}
	frame := binary.BigEndian.AppendUint32([]byte{0}, uint32(len(message))) //nolint:gosec // as long as an environment variable at most
	frame = append(frame, message...)
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://"+address+healthMethod, bytes.NewReader(frame))
	if err != nil {
		return err
	}
	request.Header.Set("Content-Type", "application/grpc")
	request.Header.Set("Te", "trailers")
	request.Header.Set("User-Agent", userAgent)

	var protocols http.Protocols
	protocols.SetUnencryptedHTTP2(true)
	transport := &http.Transport{Protocols: &protocols, DisableCompression: true}
	defer transport.CloseIdleConnections()
	response, err := transport.RoundTrip(request)
	if err != nil {
		return err
	}
	defer func() { _ = response.Body.Close() }()
	if response.StatusCode != http.StatusOK || !strings.HasPrefix(response.Header.Get("Content-Type"), "application/grpc") {
		return fmt.Errorf("port %s speaks no gRPC: status %d, content type %q", portOf(address), response.StatusCode, response.Header.Get("Content-Type"))
	}
	answer, err := io.ReadAll(io.LimitReader(response.Body, maxHealthAnswer))
	if err != nil {
		return fmt.Errorf("read the answer: %w", err)
	}
	// An answer without a message has its status in the header (trailers-only).
	status, text := response.Trailer.Get("Grpc-Status"), response.Trailer.Get("Grpc-Message")
	if status == "" {
		status, text = response.Header.Get("Grpc-Status"), response.Header.Get("Grpc-Message")
	}
	if status != "0" {
		return fmt.Errorf("grpc-status %q: %s", status, text)
	}
	return isServing(answer)
}

// isServing reads one HealthCheckResponse.
func isServing(frame []byte) error {
	if len(frame) < framePrefix || frame[0] != 0 || int(binary.BigEndian.Uint32(frame[1:])) != len(frame)-framePrefix {
		return errors.New("the answer is no message")
	}
	status := uint64(0) // UNKNOWN
	for b := frame[framePrefix:]; len(b) > 0; {
		field, kind, n := protowire.ConsumeTag(b)
		if n < 0 {
			return protowire.ParseError(n)
		}
		b = b[n:]
		if field == fieldStatus && kind == protowire.VarintType {
			status, n = protowire.ConsumeVarint(b)
		} else {
			n = protowire.ConsumeFieldValue(field, kind, b)
		}
		if n < 0 {
			return protowire.ParseError(n)
		}
		b = b[n:]
	}
	if status != serving {
		return fmt.Errorf("health status %d, not SERVING", status)
	}
	return nil
}
