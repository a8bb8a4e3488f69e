// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"context"
	"net"
	"net/netip"
	"os"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/heddle-mesh/heddle/proxy/admin"
	"github.com/heddle-mesh/heddle/proxy/capture"
)

// asProxy is set for a process of this binary that is the program.
const asProxy = "HEDDLE_TEST_AS_PROXY"

func TestMain(m *testing.M) {
	if os.Getenv(asProxy) != "" {
		main()
	}
	goleak.VerifyTestMain(m)
}

func TestCommands(t *testing.T) {
	for name, c := range map[string]struct {
		args       []string
		code       int
		out, wrong string
	}{
		"limits that are none":          {[]string{"-limits", "streams=x"}, exitUsage, "", `limit streams="x"`},
		"a flag that is none":           {[]string{"-limit", "streams=1"}, exitUsage, "", "-limit"},
		"an argument behind limits":     {[]string{"-limits=streams=1", "now"}, exitUsage, "", `"now"`},
		"help":                          {[]string{"-h"}, exitOK, "", "docs/limits.md"},
		"version":                       {[]string{"version"}, exitOK, "dev\n", ""},
		"an unknown one":                {[]string{"start"}, exitUsage, "", `"start"`},
		"init with a wrong flag":        {[]string{"init", "--skip"}, exitUsage, "", "skip"},
		"init with a wrong port":        {[]string{"init", "--skip-inbound-ports=x"}, exitUsage, "", `"x"`},
		"init with a wrong CIDR":        {[]string{"init", "--skip-outbound-cidrs=x"}, exitUsage, "", `"x"`},
		"init with its own port":        {[]string{"init", "--skip-inbound-ports=15001"}, exitUsage, "", "15001"},
		"init with a port too large":    {[]string{"init", "--inbound-port=70000"}, exitUsage, "", "70000"},
		"init with an argument":         {[]string{"init", "now"}, exitUsage, "", `"now"`},
		"help of init":                  {[]string{"init", "-h"}, exitOK, "", "skip-outbound-cidrs"},
		"drain that waits too long":     {[]string{"drain", "-wait", "2h"}, exitUsage, "", "2h"},
		"drain without a proxy":         {[]string{"drain", "-socket", "/nowhere"}, exitFailed, "", "is the proxy running"},
		"admin of nothing":              {[]string{"admin"}, exitUsage, "", "config, certs, envelope, profile, runtime or drain"},
		"a profile without end":         {[]string{"admin", "profile", "-seconds", "61"}, exitUsage, "", "want 1 to 60"},
		"admin config without a proxy":  {[]string{"admin", "config", "-socket", "/nowhere"}, exitFailed, "", "is the proxy running"},
		"admin config with an argument": {[]string{"admin", "config", "all"}, exitUsage, "", `"all"`},
	} {
		t.Run(name, func(t *testing.T) {
			var out, problems bytes.Buffer
			code := run(t.Context(), c.args, lookup(nil), &out, &problems)
			if code != c.code || out.String() != c.out || !strings.Contains(problems.String(), c.wrong) {
				t.Errorf("exit code %d, %q, %q", code, out.String(), problems.String())
			}
		})
	}
}

func TestRedirectConfig(t *testing.T) {
	got, err := redirectConfig([]string{
		"--proxy-uid=1400", "--outbound-port=1", "--inbound-port=2", "--skip-inbound-ports=22", "--skip-outbound-ports=3306,5000-5010",
		"--skip-outbound-cidrs=10.0.0.0/8",
	}, nil)
	if err != nil {
		t.Fatal(err)
	}
	if got.ProxyUID != 1400 || got.OutboundPort != 1 || got.InboundPort != 2 || got.AdminPort != capture.DefaultAdminPort ||
		got.SkipInboundPorts[0].First != 22 || got.SkipOutboundPorts[1].Last != 5010 ||
		got.SkipOutboundCIDRs[0] != netip.MustParsePrefix("10.0.0.0/8") {
		t.Errorf("%+v", got)
	}
}

// The machine has hardware; a pod's network is made by TestInitInAPod.
func TestInitRefusesAHost(t *testing.T) {
	around, err := capture.LookAround()
	if err != nil {
		t.Fatal(err)
	}
	if around.Check() == nil {
		t.Skip("the tests run in something like a pod")
	}
	var out, problems bytes.Buffer
	if code := run(t.Context(), []string{"init"}, lookup(nil), &out, &problems); code != exitFailed ||
		!strings.Contains(problems.String(), "host's network namespace") {
		t.Errorf("exit code %d, %q", code, problems.String())
	}
}

// TestInitInAPod runs init in a network namespace of its own, twice.
func TestInitInAPod(t *testing.T) {
	if !inNamespace(t) {
		return
	}
	for range 2 {
		var out, problems bytes.Buffer
		if code := run(t.Context(), []string{"init", "--skip-inbound-ports=22"}, lookup(nil), &out, &problems); code != exitOK {
			t.Fatalf("exit code %d, %q", code, problems.String())
		}
		if !strings.Contains(out.String(), "outbound to 15001") {
			t.Error(out.String())
		}
	}
	env := map[string]string{"HEDDLE_POD_IPS": "10.0.0.5"}
	var out, problems bytes.Buffer
	if code := run(t.Context(), []string{"init"}, lookup(env), &out, &problems); code != exitFailed || !strings.Contains(problems.String(), "10.0.0.5") {
		t.Errorf("in a namespace without the pod's address: exit code %d, %q", code, problems.String())
	}
}

func TestDrainAndAdminAskTheSocket(t *testing.T) {
	path := t.TempDir() + "/admin.sock"
	l, err := admin.ListenSocket(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	socket := admin.NewSocket(admin.SocketOptions{
		Config:       func() any { return "the config" },
		Certificates: func() any { return "the certificates" },
		Envelope:     func(section string) ([]byte, error) { return []byte("envelope of " + section), nil },
		Drain: func(ctx context.Context) int {
			if deadline, ok := ctx.Deadline(); !ok || time.Until(deadline) > 5*time.Second {
				t.Error("the wait is not passed on")
			}
			return 2
		},
	})
	serve(t, socket, l)
	for name, c := range map[string]struct {
		args []string
		want string
	}{
		"drain":                       {[]string{"drain", "-wait=5s", "-socket", path}, "{\"running\":2}\n"},
		"admin drain":                 {[]string{"admin", "drain", "-wait=5s", "-socket", path}, "{\"running\":2}\n"},
		"admin config":                {[]string{"admin", "config", "-socket", path}, "\"the config\"\n"},
		"admin certs":                 {[]string{"admin", "certs", "-socket", path}, "\"the certificates\"\n"},
		"admin envelope of a section": {[]string{"admin", "envelope", "routes/cart.shop/*", "-socket", path}, "envelope of routes/cart.shop/*"},
	} {
		var out, problems bytes.Buffer
		if code := run(t.Context(), c.args, lookup(nil), &out, &problems); code != exitOK || out.String() != c.want {
			t.Errorf("%s: exit code %d, %q, %q", name, code, out.String(), problems.String())
		}
	}
}

// serve serves the socket until the test ends.
func serve(t *testing.T, socket *admin.Socket, l net.Listener) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- socket.Serve(ctx, l) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}
