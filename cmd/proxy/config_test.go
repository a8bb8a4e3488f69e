// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"errors"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/heddle-mesh/heddle/internal/limits"
	"github.com/heddle-mesh/heddle/proxy/telemetry"
)

// injected is what injection sets.
func injected() map[string]string {
	return map[string]string{
		"HEDDLE_POD_NAME": "checkout-1", "HEDDLE_POD_NAMESPACE": "shop", "HEDDLE_POD_UID": "11111111-2222-4333-8444-555555555555",
		"HEDDLE_SERVICE_ACCOUNT": "checkout", "HEDDLE_POD_IPS": "10.0.0.5,fd00::5", "HEDDLE_NODE_NAME": "node-1",
		"HEDDLE_CONTROL_ADDRESS":     "heddle-operator.heddle-system.svc:8443",
		"HEDDLE_CONTROL_SERVER_NAME": "heddle-operator.heddle-system.svc",
		"HEDDLE_MESH_ID":             "mesh", "HEDDLE_TRUST_DOMAIN": "cluster.local",
		"HEDDLE_PROBES":        `[{"id":"a","kind":"tcp","port":80}]`,
		"HEDDLE_METRICS_MERGE": `{"port":9100,"path":""}`,
		"HEDDLE_LOG_LEVEL":     "debug", "HEDDLE_ACCESS_LOG": "errors", "HEDDLE_LIMITS": "streams=7,idle=1m",
	}
}

func lookup(env map[string]string) func(string) string {
	return func(name string) string { return env[name] }
}

func TestReadConfig(t *testing.T) {
	c, err := readConfig(lookup(injected()))
	if err != nil {
		t.Fatal(err)
	}
	if got := c.identity.String(); got != "spiffe://cluster.local/ns/shop/sa/checkout" {
		t.Error(got)
	}
	if want := []netip.Addr{netip.MustParseAddr("10.0.0.5"), netip.MustParseAddr("fd00::5")}; !slices.Equal(c.podIPs, want) {
		t.Error(c.podIPs)
	}
	want := limits.Default()
	if want.Streams, want.Idle = 7, time.Minute; c.limits != want {
		t.Errorf("limits %+v", c.limits)
	}
	if len(c.probes) != 1 || c.scrape == nil || c.scrape.Path != "/metrics" || c.accessLog != telemetry.Errors {
		t.Errorf("%+v", c)
	}
}

func TestAWrongEnvironmentIsNamed(t *testing.T) {
	for name, c := range map[string]struct {
		variable, value string
		want            []string
	}{
		"no pod":                {"HEDDLE_POD_UID", "", []string{"HEDDLE_POD_UID", "fieldRef metadata.uid"}},
		"no addresses":          {"HEDDLE_POD_IPS", "", []string{"HEDDLE_POD_IPS", "status.podIPs"}},
		"addresses that aren't": {"HEDDLE_POD_IPS", "10.0.0.5,x", []string{"HEDDLE_POD_IPS", `"x"`}},
		"no mesh":               {"HEDDLE_MESH_ID", "", []string{"HEDDLE_MESH_ID", "injection"}},
		"no port":               {"HEDDLE_CONTROL_ADDRESS", "operator", []string{"HEDDLE_CONTROL_ADDRESS", "host:port"}},
		"a bad trust domain":    {"HEDDLE_TRUST_DOMAIN", "Cluster.Local", []string{"HEDDLE_TRUST_DOMAIN", "SPIFFE"}},
		"bad probes":            {"HEDDLE_PROBES", "[{}]", []string{"HEDDLE_PROBES"}},
		"a bad scrape":          {"HEDDLE_METRICS_MERGE", "{}", []string{"HEDDLE_METRICS_MERGE"}},
		"a bad level":           {"HEDDLE_LOG_LEVEL", "loud", []string{"HEDDLE_LOG_LEVEL", "debug, info, warn or error"}},
		"a bad access log":      {"HEDDLE_ACCESS_LOG", "on", []string{"HEDDLE_ACCESS_LOG", "off, errors or json"}},
		"a bad limit":           {"HEDDLE_LIMITS", "streams=none", []string{"HEDDLE_LIMITS", `limit streams="none": want 1 to 100000`}},
	} {
		t.Run(name, func(t *testing.T) {
			env := injected()
			env[c.variable] = c.value
			var out, problems bytes.Buffer
			if code := run(t.Context(), nil, lookup(env), &out, &problems); code != exitUsage {
				t.Errorf("exit code %d", code)
			}
			for _, want := range c.want {
				if !strings.Contains(problems.String(), want) {
					t.Errorf("%q lacks %q", problems.String(), want)
				}
			}
		})
	}
	_, err := readConfig(lookup(nil))
	for variable := range injected() {
		optional := slices.Contains([]string{"HEDDLE_NODE_NAME", "HEDDLE_PROBES", "HEDDLE_METRICS_MERGE", "HEDDLE_LOG_LEVEL", "HEDDLE_ACCESS_LOG", "HEDDLE_LIMITS"}, variable)
		if !errors.As(err, new(usageError)) || strings.Contains(err.Error(), variable) == optional {
			t.Errorf("%s, optional %v: %v", variable, optional, err)
		}
	}
}
