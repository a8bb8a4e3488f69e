// SPDX-License-Identifier: Apache-2.0

package admin

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"strings"

	"github.com/heddle-mesh/heddle/proxy/grpchealth"
)

// maxHealthAnswer bounds an answer, in bytes.
const maxHealthAnswer = 4 << 10

// askGRPC calls the health service in clear. It is one unary call over HTTP/2 and needs no gRPC library.
func askGRPC(ctx context.Context, address, service, userAgent string) error {
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://"+address+grpchealth.Path, bytes.NewReader(grpchealth.Request(service)))
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
	return grpchealth.Serving(answer)
}
