// SPDX-License-Identifier: Apache-2.0

package admin

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strconv"
	"time"

	"github.com/heddle-mesh/heddle/internal/probe"
)

// Bounds of a probe.
const (
	maxProbeBody = 10 << 10 // what the kubelet reads of a body
	maxRedirects = 10
	maxHook      = time.Hour // of a hook, which else ends when the kubelet hangs up
)

// ask does what the kubelet would have done and returns the status that the kubelet is told: 200, the application's own
// if that isn't success, or 503 when there was none.
func ask(ctx context.Context, spec *probe.Spec, ip netip.Addr, userAgent string) (status int, err error) {
	timeout := spec.Timeout()
	if timeout == 0 {
		timeout = maxHook
	}
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	address := netip.AddrPortFrom(ip, spec.Port).String()
	status = http.StatusOK
	switch spec.Kind {
	case probe.HTTP, probe.Hook:
		status, err = askHTTP(ctx, spec, address, userAgent)
	case probe.TCP:
		err = askTCP(ctx, address)
	case probe.GRPC:
		err = askGRPC(ctx, address, spec.Service, userAgent)
	default:
		err = fmt.Errorf("kind %q", spec.Kind)
	}
	if err != nil && status < http.StatusBadRequest {
		status = http.StatusServiceUnavailable
	}
	return status, err
}

func askTCP(ctx context.Context, address string) error {
	c, err := (&net.Dialer{}).DialContext(ctx, "tcp", address)
	if err != nil {
		return err
	}
	return c.Close()
}

// askHTTP follows pkg/probe/http of Kubernetes: a new connection each time, no verification, redirects to the same host
// alone, and a redirect elsewhere counts as success.
func askHTTP(ctx context.Context, spec *probe.Spec, address, userAgent string) (int, error) {
	request, err := newProbeRequest(ctx, spec, address, userAgent)
	if err != nil {
		return http.StatusServiceUnavailable, err
	}
	transport := &http.Transport{
		DisableKeepAlives:  true,
		DisableCompression: true,
		ForceAttemptHTTP2:  true,
		TLSClientConfig:    &tls.Config{InsecureSkipVerify: true}, //nolint:gosec // as the kubelet: it asks for health, not for identity
	}
	defer transport.CloseIdleConnections()
	client := &http.Client{Transport: transport, CheckRedirect: sameHostOnly}
	response, err := client.Do(request)
	if err != nil {
		if spec.Kind == probe.Hook && spec.HTTPS && errors.Is(err, http.ErrSchemeMismatch) {
			inClear := *spec // the kubelet tries that too, for hooks alone
			inClear.HTTPS = false
			return askHTTP(ctx, &inClear, address, userAgent)
		}
		return http.StatusServiceUnavailable, err
	}
	defer func() { _ = response.Body.Close() }()
	if _, err := io.Copy(io.Discard, io.LimitReader(response.Body, maxProbeBody)); err != nil {
		return http.StatusServiceUnavailable, fmt.Errorf("read the body: %w", err)
	}
	if spec.Kind == probe.Hook || (response.StatusCode >= 200 && response.StatusCode < 400) {
		return http.StatusOK, nil
	}
	if response.StatusCode < 400 || response.StatusCode > 599 {
		return http.StatusServiceUnavailable, fmt.Errorf("status %d", response.StatusCode)
	}
	return response.StatusCode, fmt.Errorf("status %d", response.StatusCode)
}

func sameHostOnly(request *http.Request, via []*http.Request) error {
	if request.URL.Hostname() != via[0].URL.Hostname() {
		return http.ErrUseLastResponse
	}
	if len(via) >= maxRedirects {
		return fmt.Errorf("more than %d redirects", maxRedirects)
	}
	return nil
}

// newProbeRequest follows formatURL and NewRequestForHTTPGetAction of pkg/probe/http.
func newProbeRequest(ctx context.Context, spec *probe.Spec, address, userAgent string) (*http.Request, error) {
	target, err := url.Parse(spec.Path)
	if err != nil {
		target = &url.URL{Path: spec.Path}
	}
	target.Scheme, target.Host = "http", address
	if spec.HTTPS {
		target.Scheme = "https"
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, target.String(), http.NoBody)
	if err != nil {
		return nil, err
	}
	for _, h := range spec.Headers {
		request.Header.Add(h.Name, h.Value)
	}
	if _, ok := request.Header["User-Agent"]; !ok {
		request.Header.Set("User-Agent", userAgent)
	}
	if _, ok := request.Header["Accept"]; !ok {
		request.Header.Set("Accept", "*/*")
	} else if request.Header.Get("Accept") == "" {
		request.Header.Del("Accept") // an empty one is how to send none
	}
	request.Host = request.Header.Get("Host")
	return request, nil
}

// portOf is for messages.
func portOf(address string) string {
	_, port, err := net.SplitHostPort(address)
	if err != nil {
		return address
	}
	if _, err := strconv.Atoi(port); err != nil {
		return address
	}
	return port
}
