// SPDX-License-Identifier: Apache-2.0

package main

import (
	"strings"
	"testing"
)

func TestParseFlags(t *testing.T) {
	t.Setenv("POD_NAMESPACE", "heddle-system")
	t.Setenv("POD_IP", "fd00::7")
	t.Setenv("HEDDLE_PROXY_IMAGE", "proxy:1")
	o, err := parseFlags(nil)
	if err != nil {
		t.Fatal(err)
	}
	if o.controlAddress != "heddle-operator.heddle-system.svc:8443" || o.replicaAddress() != "[fd00::7]:8443" {
		t.Errorf("proxies dial %s, replicas %s", o.controlAddress, o.replicaAddress())
	}
	for name, c := range map[string]struct{ arg, want string }{
		"a leaf that lives too long":      {"--leaf-duration=8761h", "--leaf-duration"},
		"a leaf that lives too short":     {"--leaf-duration=1s", "--leaf-duration"},
		"a trust domain in capitals":      {"--trust-domain=Cluster.Local", "--trust-domain"},
		"a network that is none":          {"--mesh-networks=10.0.0.0/8,here", "--mesh-networks"},
		"an address that is none":         {"--pod-ip=here", "--pod-ip"},
		"no namespace":                    {"--namespace=", "--namespace"},
		"no image":                        {"--proxy-image=", "--proxy-image"},
		"a level that there is not":       {"--log-level=loud", "--log-level"},
		"an epoch of too many bits":       {"--serial-epoch=4294967296", "--serial-epoch"},
		"an argument":                     {"start", "start"},
		"a flag that there is not at all": {"--leader-elect", "leader-elect"},
	} {
		if _, err := parseFlags([]string{c.arg}); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
}
