// SPDX-License-Identifier: Apache-2.0

package capture

import (
	"net/netip"
	"strings"
	"testing"

	"github.com/google/nftables"
)

func TestRedirect(t *testing.T) {
	if !inPod(t) {
		return
	}
	out := newOutside(t)
	serve(t, "outbound", 15001)
	serve(t, "inbound", 15006)
	serve(t, "admin", 15020)
	serve(t, "app", 8080)
	serve(t, "ssh", 2222)
	out.do(func() {
		for port, name := range map[int]string{9000: "peer", 9100: "peer9100", 9250: "peer9250", 15020: "peer-admin"} {
			serve(t, name, port)
		}
	})
	if got := dial(0, "", "10.77.0.1:9000"); got != "peer" {
		t.Fatalf("without a redirect: %q", got)
	}

	config := Default()
	config.SkipInboundPorts = []PortRange{{2222, 2222}}
	config.SkipOutboundPorts = []PortRange{{9100, 9100}, {9200, 9300}}
	config.SkipOutboundCIDRs = []netip.Prefix{netip.MustParsePrefix("10.77.0.8/29")}
	for range 2 { // the second time replaces the first
		if err := Apply(config); err != nil {
			t.Fatal(err)
		}
	}
	checkOneTable(t, &config)

	for name, c := range map[string]struct {
		uid         int
		source, dst string
		want        string
	}{
		"what leaves is captured":                      {0, "", "10.77.0.1:9000", "outbound 10.77.0.1:9000"},
		"what leaves is captured, IPv6":                {0, "", "[fd77::1]:9000", "outbound [fd77::1]:9000"},
		"the proxy's own is not":                       {1337, "", "10.77.0.1:9000", "peer"},
		"the proxy's own is not, IPv6":                 {1337, "", "[fd77::1]:9000", "peer"},
		"loopback is not":                              {0, "", "127.0.0.1:8080", "app"},
		"loopback is not, IPv6":                        {0, "", "[::1]:8080", "app"},
		"a skipped port is not":                        {0, "", "10.77.0.1:9100", "peer9100"},
		"a skipped port is not, IPv6":                  {0, "", "[fd77::1]:9250", "peer9250"},
		"a port of a skipped range is not":             {0, "", "10.77.0.1:9250", "peer9250"},
		"a skipped CIDR is not":                        {0, "", "10.77.0.9:9000", "peer"},
		"another pod's admin port is not":              {0, "", "10.77.0.1:15020", "peer-admin"},
		"the pod's own address is captured":            {0, "", "10.77.0.2:8080", "outbound 10.77.0.2:8080"},
		"the pod's own address is captured, IPv6":      {0, "", "[fd77::2]:8080", "outbound [fd77::2]:8080"},
		"outbound calls inbound of its own pod":        {1337, "127.0.0.1", "10.77.0.2:8080", "inbound 10.77.0.2:8080"},
		"outbound calls inbound of its own pod, IPv6":  {1337, "::1", "[fd77::2]:8080", "inbound [fd77::2]:8080"},
		"outbound calls a skipped port of its own pod": {1337, "127.0.0.1", "10.77.0.2:2222", "ssh"},
		"inbound reaches the application":              {1337, "", "10.77.0.2:8080", "app"},
		"inbound reaches the application, IPv6":        {1337, "", "[fd77::2]:8080", "app"},
		"a direct call of outbound is told":            {0, "", "127.0.0.1:15001", "outbound"},
		"a direct call of inbound is told, IPv6":       {0, "", "[::1]:15006", "inbound"},
	} {
		t.Run(name, func(t *testing.T) {
			if got := dial(c.uid, c.source, c.dst); got != c.want {
				t.Errorf("got %q, want %q", got, c.want)
			}
		})
	}

	for name, c := range map[string]struct{ dst, want string }{
		"what enters is captured":                   {"10.77.0.2:8080", "inbound 10.77.0.2:8080"},
		"what enters is captured, IPv6":             {"[fd77::2]:8080", "inbound [fd77::2]:8080"},
		"the admin port is open":                    {"10.77.0.2:15020", "admin"},
		"the admin port is open, IPv6":              {"[fd77::2]:15020", "admin"},
		"a skipped inbound port is open":            {"10.77.0.2:2222", "ssh"},
		"inbound itself is told":                    {"10.77.0.2:15006", "inbound"},
		"inbound itself is told, IPv6":              {"[fd77::2]:15006", "inbound"},
		"outbound can't be reached":                 {"10.77.0.2:15001", "inbound 10.77.0.2:15001"},
		"outbound can't be reached, IPv6":           {"[fd77::2]:15001", "inbound [fd77::2]:15001"},
		"a port where nobody listens, captured too": {"10.77.0.2:1", "inbound 10.77.0.2:1"},
	} {
		t.Run(name, func(t *testing.T) {
			var got string
			out.do(func() { got = dial(0, "", c.dst) })
			if got != c.want {
				t.Errorf("got %q, want %q", got, c.want)
			}
		})
	}
}

// checkOneTable reads back what is in force.
func checkOneTable(t *testing.T, config *Config) {
	t.Helper()
	conn, err := nftables.New()
	if err != nil {
		t.Fatal(err)
	}
	tables, err := conn.ListTables()
	if err != nil || len(tables) != 1 || tables[0].Name != TableName || tables[0].Family != nftables.TableFamilyINet {
		t.Fatalf("tables %v, %v: want inet heddle alone", tables, err)
	}
	for name, want := range map[string]int{
		"output": len(config.outputRules()), "prerouting": len(config.inboundRules()),
	} {
		rules, err := conn.GetRules(tables[0], &nftables.Chain{Name: name})
		if err != nil || len(rules) != want {
			t.Errorf("chain %s: %d rules, %v: want %d", name, len(rules), err, want)
		}
	}
}

func TestAWrongConfigChangesNothing(t *testing.T) {
	if !inPod(t) {
		return
	}
	if err := Apply(Default()); err != nil {
		t.Fatal(err)
	}
	wrong := Default()
	wrong.AdminPort = wrong.InboundPort
	if err := Apply(wrong); err == nil {
		t.Error("it is taken")
	}
	config := Default()
	checkOneTable(t, &config)
}

func TestLookAround(t *testing.T) {
	if !inPod(t) {
		return
	}
	newOutside(t)
	s, err := LookAround()
	if err != nil {
		t.Fatal(err)
	}
	s.PodIPs = []netip.Addr{netip.MustParseAddr("10.77.0.2"), netip.MustParseAddr("fd77::2")}
	if err := s.Check(); err != nil {
		t.Errorf("a pod with a veth: %v", err)
	}
	run(t, "ip link add cni0 type bridge")
	if s, err = LookAround(); err != nil {
		t.Fatal(err)
	}
	if err := s.Check(); err == nil || !strings.Contains(err.Error(), "cni0 is a bridge") {
		t.Errorf("a host with a bridge: %v", err)
	}
}

func TestTheMachineItselfIsNoPod(t *testing.T) {
	s, err := LookAround()
	if err != nil {
		t.Fatal(err)
	}
	for _, l := range s.Links {
		if l.Kind == "" && !l.Loopback || l.Kind == "bridge" {
			if err := s.Check(); err == nil {
				t.Errorf("taken for a pod, with links %+v", s.Links)
			}
			return
		}
	}
	t.Skip("the tests run in something like a pod")
}
