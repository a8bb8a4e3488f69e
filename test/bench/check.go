// SPDX-License-Identifier: Apache-2.0

//go:build linux

package main

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"strings"
	"time"

	"github.com/heddle-mesh/heddle/test/bench/peers"
	"github.com/heddle-mesh/heddle/test/bench/traffic"
)

// check looks whether an instance does what all are to do, before its speed is measured: it answers on every route, splits
// nine to one, adds a trace header and knows no other paths. It returns what it found missing.
func check(ctx context.Context, i *peers.Instance) []string {
	var problems []string
	for version, addr := range map[string]netip.AddrPort{"HTTP/1.1": i.HTTP1, "HTTP/2": i.HTTP2} {
		if !addr.IsValid() {
			continue
		}
		protocols := &http.Protocols{}
		protocols.SetHTTP1(version == "HTTP/1.1")
		protocols.SetUnencryptedHTTP2(version == "HTTP/2")
		client := &http.Client{Transport: &http.Transport{Protocols: protocols}, Timeout: 5 * time.Second}
		problems = append(problems, checkHTTP(ctx, client, addr, version)...)
		client.CloseIdleConnections()
	}
	return problems
}

func checkHTTP(ctx context.Context, client *http.Client, addr netip.AddrPort, version string) []string {
	var problems []string
	canary := 0
	const tries = 500
	for n := range tries {
		status, header, body, err := get(ctx, client, addr, fmt.Sprintf("/r%02d/items/1k", n%traffic.Routes))
		if err != nil || status != http.StatusOK || len(body) != 1<<10 {
			return []string{fmt.Sprintf("%s: status %d with %d bytes: %v", version, status, len(body), err)}
		}
		if header.Get("X-Version") == "canary" {
			canary++
		}
	}
	if canary < tries/25 || canary > tries/5 {
		problems = append(problems, fmt.Sprintf("%s: %d of %d requests went to the canary, want a tenth", version, canary, tries))
	}
	_, _, seen, err := get(ctx, client, addr, "/r00/seen")
	if err != nil || !strings.Contains(strings.ToLower(string(seen)), "00-") {
		problem := version + ": no trace header arrives"
		if err != nil {
			problem += ": " + err.Error()
		}
		problems = append(problems, problem)
	}
	return problems
}

func get(ctx context.Context, client *http.Client, addr netip.AddrPort, path string) (int, http.Header, []byte, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+addr.String()+path, http.NoBody)
	if err != nil {
		return 0, nil, nil, err
	}
	request.Host = traffic.Host
	response, err := client.Do(request)
	if err != nil {
		return 0, nil, nil, err
	}
	defer func() { _ = response.Body.Close() }()
	body, err := io.ReadAll(response.Body)
	return response.StatusCode, response.Header, body, err
}
