// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math"
	"net"
	"net/http"
	"os"
	"strings"
	"syscall"
	"testing"

	"github.com/go-logr/logr"
)

// started is a proxy that runs, without an operator.
type started struct {
	*proxy
	ports *openPorts
	end   func() error
}

func start(t *testing.T) *started {
	t.Helper()
	env := injected()
	env["HEDDLE_STATE_DIR"], env["HEDDLE_ROOTS_DIR"], env["HEDDLE_CONTROL_ADDRESS"] = t.TempDir(), t.TempDir(), "127.0.0.1:1"
	env["HEDDLE_POD_IPS"], env["HEDDLE_METRICS_MERGE"] = "127.0.0.1", ""
	c, err := readConfig(lookup(env))
	if err != nil {
		t.Fatal(err)
	}
	c.ports = ports{}
	p, err := newProxy(c, logr.Discard(), io.Discard)
	if err != nil {
		t.Fatal(err)
	}
	return begin(t, p)
}

// begin opens the proxy's ports and runs it.
func begin(t *testing.T, p *proxy) *started {
	t.Helper()
	open, err := p.open(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- p.carry(ctx, open) }()
	s := &started{proxy: p, ports: open, end: func() error { cancel(); return <-done }}
	return s
}

// get asks the server on the pod's address.
func (s *started) get(t *testing.T, path string) (int, string) {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+s.ports.admin.Addr().String()+path, http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	transport := &http.Transport{DisableKeepAlives: true}
	response, err := transport.RoundTrip(request)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	return response.StatusCode, string(body)
}

func TestAProxyWithoutAnOperator(t *testing.T) {
	s := start(t)
	if status, body := s.get(t, "/ready"); status != http.StatusServiceUnavailable || !strings.Contains(body, "certificate") {
		t.Errorf("/ready: %d %q", status, body)
	}
	if status, _ := s.get(t, "/livez"); status != http.StatusOK {
		t.Errorf("/livez: %d", status)
	}

	// Nobody redirected these.
	for _, l := range []net.Listener{s.ports.outbound, s.ports.inbound} {
		c, err := net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", l.Addr().(*net.TCPAddr).Port))
		if err == nil {
			_, err = c.Read(make([]byte, 1))
			c.Close()
		}
		if !errors.Is(err, syscall.ECONNRESET) {
			t.Errorf("a direct connection: %v, want a reset", err)
		}
	}
	_, page := s.get(t, "/metrics")
	for _, line := range []string{
		`heddle_refused_total{direction="outbound",reason="not_redirected"} 1`,
		`heddle_refused_total{direction="inbound",reason="not_redirected"} 1`,
		"heddle_ready 0", "heddle_draining 0",
	} {
		if !strings.Contains(page, line+"\n") {
			t.Errorf("/metrics lacks %s", line)
		}
	}

	socket := s.config.stateDir + "/admin.sock"
	for command, want := range map[string]string{"config": `"pod": "shop/checkout-1"`, "certs": `"serial": ""`} {
		var out, problems bytes.Buffer
		if code := run(t.Context(), []string{"admin", command, "-socket", socket}, lookup(nil), &out, &problems); code != exitOK || !strings.Contains(out.String(), want) {
			t.Errorf("admin %s: %d %s %s", command, code, out.String(), problems.String())
		}
	}
	var out, problems bytes.Buffer
	if code := run(t.Context(), []string{"drain", "-socket", socket}, lookup(nil), &out, &problems); code != exitOK || out.String() != "{\"running\":0}\n" {
		t.Errorf("drain: %d %s %s", code, out.String(), problems.String())
	}
	if status, body := s.get(t, "/ready"); status != http.StatusServiceUnavailable || body != "draining\n" {
		t.Errorf("/ready: %d %q", status, body)
	}
	if err := s.end(); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(socket); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the socket is left: %v", err)
	}
}

func TestAPortThatIsTakenIsNamed(t *testing.T) {
	s := start(t)
	taken := s.ports.inbound.Addr().(*net.TCPAddr).Port
	other := *s.config
	other.ports.inbound, other.stateDir = uint16(taken), t.TempDir()
	p := &proxy{config: &other}
	if _, err := p.open(t.Context()); err == nil || !strings.Contains(err.Error(), "change the container's") {
		t.Error(err)
	}
	if err := s.end(); err != nil {
		t.Error(err)
	}
}

func TestConnectionsAreBoundedByFilesAndMemory(t *testing.T) {
	for name, c := range map[string]struct {
		limit  int
		memory int64
		want   int
	}{
		"no limits":                 {10_000, math.MaxInt64, 10_000},
		"a limit":                   {7, 1 << 30, 7},
		"204 MiB, as injected":      {10_000, 214748364, 3276},
		"less memory than it needs": {10_000, 1 << 20, 256},
	} {
		if got := maxConnections(c.limit, c.memory); got != c.want {
			t.Errorf("%s: %d, want %d", name, got, c.want)
		}
	}
	if files := fileBudget(); files == nil || files.Most() < 2 {
		t.Error("no files")
	}
	if got := bufferMemory(64<<20, 100<<20); got != 50<<20 {
		t.Errorf("%d bytes for buffers, of 100 MiB", got)
	}
	if got := bufferMemory(64<<20, math.MaxInt64); got != 64<<20 {
		t.Errorf("%d bytes for buffers, and 64 MiB is the limit", got)
	}
}
