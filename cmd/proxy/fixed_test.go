// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"

	"github.com/go-logr/logr"
)

func TestWrongFixedListenersAreNamed(t *testing.T) {
	for name, c := range map[string]struct {
		args []string
		want string
	}{
		"no listener":            {[]string{"-admin-listen=127.0.0.1:0"}, "at least one"},
		"no destination":         {[]string{"-outbound-listen=127.0.0.1:80"}, "IP:PORT=IP:PORT"},
		"a name":                 {[]string{"-inbound-listen=localhost:80=127.0.0.1:81"}, "IP:PORT=IP:PORT"},
		"a listener of itself":   {[]string{"-inbound-listen=127.0.0.1:80=127.0.0.1:80"}, "call itself for ever"},
		"one of another's":       {[]string{"-inbound-listen=127.0.0.1:80=127.0.0.1:9", "-outbound-listen=127.0.0.1:81=127.0.0.1:80"}, "call itself for ever"},
		"a path to nowhere":      {[]string{"-outbound-listen=127.0.0.1:80=10.0.0.1:80", "-path=10.0.0.1:80"}, "IP:PORT=IP:PORT"},
		"an argument after them": {[]string{"-outbound-listen=127.0.0.1:80=10.0.0.1:80", "now"}, `"now"`},
	} {
		var out, problems bytes.Buffer
		if code := run(t.Context(), c.args, lookup(injected()), &out, &problems); code != exitUsage || !strings.Contains(problems.String(), c.want) {
			t.Errorf("%s: %d %s", name, code, problems.String())
		}
	}
}

// What comes in at a fixed listener must be for the pod, as with the redirect; and without policy nothing passes.
func TestFixedListenersRefuseWhatOthersDo(t *testing.T) {
	env := injected()
	env["HEDDLE_STATE_DIR"], env["HEDDLE_ROOTS_DIR"], env["HEDDLE_CONTROL_ADDRESS"] = t.TempDir(), t.TempDir(), "127.0.0.1:1"
	env["HEDDLE_POD_IPS"], env["HEDDLE_METRICS_MERGE"] = "127.0.0.11", ""
	c, err := readConfig(lookup(env))
	if err != nil {
		t.Fatal(err)
	}
	c.fixed, err = parseFixed([]string{
		"-inbound-listen=127.0.0.1:0=10.9.9.9:80", "-inbound-listen=127.0.0.1:0=127.0.0.11:80",
		"-outbound-listen=127.0.0.1:0=10.9.9.8:80", "-path=10.0.0.1:80=127.0.0.1:9",
	}, new(string), io.Discard)
	if err != nil {
		t.Fatal(err)
	}
	if at := c.fixed.find("10.0.0.1:80"); at != "127.0.0.1:9" {
		t.Errorf("the path of a destination: %s", at)
	}
	if at := c.fixed.find("10.0.0.2:80"); at != "10.0.0.2:80" {
		t.Errorf("a destination without a path: %s", at)
	}
	p, err := newProxy(c, logr.Discard(), io.Discard)
	if err != nil {
		t.Fatal(err)
	}
	s := begin(t, p)
	ask := func(l net.Listener) (int, string) {
		return get(t, &http.Transport{}, "http://"+l.Addr().String()+"/")
	}
	if status, body := ask(s.ports.fixed[0].listener); status != 0 {
		t.Errorf("an address that is not the pod's: %d %q", status, body)
	}
	if status, body := ask(s.ports.fixed[1].listener); status != http.StatusServiceUnavailable || !strings.Contains(body, "not_ready") {
		t.Errorf("the pod's address: %d %q", status, body)
	}
	if status, body := ask(s.ports.fixed[2].listener); status != http.StatusServiceUnavailable {
		t.Errorf("a callee that nobody knows: %d %q", status, body)
	}
	_, page := s.get(t, "/metrics")
	if want := `heddle_refused_total{direction="inbound",reason="not_redirected"} 1`; !strings.Contains(page, want+"\n") {
		t.Errorf("/metrics lacks %s", want)
	}
	if err := s.end(); err != nil {
		t.Error(err)
	}
}
