// SPDX-License-Identifier: Apache-2.0

package capture

import (
	"fmt"
	"net/netip"
	"reflect"
	"strings"
	"testing"
)

func TestParsePorts(t *testing.T) {
	got, err := ParsePorts(" 22, 8000-8100,,443 ")
	if want := []PortRange{{22, 22}, {8000, 8100}, {443, 443}}; err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("got %v, %v, want %v", got, err, want)
	}
	if text := fmt.Sprint(got); text != "[22 8000-8100 443]" {
		t.Error(text)
	}
	if got, err := ParsePorts(""); got != nil || err != nil {
		t.Errorf("empty list: %v, %v", got, err)
	}
	for _, wrong := range []string{"0", "65536", "x", "9-8", "1-", "-1", "1-2-3"} {
		if _, err := ParsePorts(wrong); err == nil || !strings.Contains(err.Error(), wrong) {
			t.Errorf("%q: error %v, want one that names it", wrong, err)
		}
	}
}

func TestParseCIDRs(t *testing.T) {
	got, err := ParseCIDRs("10.1.2.3/8, 2001:db8::1/32,192.0.2.1,::2")
	want := []netip.Prefix{
		netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("2001:db8::/32"),
		netip.MustParsePrefix("192.0.2.1/32"), netip.MustParsePrefix("::2/128"),
	}
	if err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("got %v, %v, want %v", got, err, want)
	}
	for _, wrong := range []string{"10.0.0.0/33", "x", "fe80::1%eth0", "::ffff:10.0.0.0/104"} {
		if _, err := ParseCIDRs(wrong); err == nil || !strings.Contains(err.Error(), wrong) {
			t.Errorf("%q: error %v, want one that names it", wrong, err)
		}
	}
}

func TestValidateRefuses(t *testing.T) {
	for name, c := range map[string]struct {
		change func(*Config)
		want   string
	}{
		"uid 0":                           {func(c *Config) { c.ProxyUID = 0 }, "uid 0"},
		"port 0":                          {func(c *Config) { c.InboundPort = 0 }, "ports"},
		"one port for two things":         {func(c *Config) { c.AdminPort = c.InboundPort }, "ports"},
		"a range over the inbound port":   {func(c *Config) { c.SkipInboundPorts = []PortRange{{15000, 15010}} }, "15000-15010"},
		"the outbound port left open":     {func(c *Config) { c.SkipInboundPorts = []PortRange{{15001, 15001}} }, "15001"},
		"more skips than rules should be": {func(c *Config) { c.SkipOutboundPorts = make([]PortRange, maxSkips+1) }, "at most"},
	} {
		t.Run(name, func(t *testing.T) {
			config := Default()
			if err := config.Validate(); err != nil {
				t.Fatal(err)
			}
			c.change(&config)
			if err := config.Validate(); err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("error %v, want one with %q", err, c.want)
			}
		})
	}
}

func TestCheck(t *testing.T) {
	addrs := func(list ...string) (ips []netip.Addr) {
		for _, s := range list {
			ips = append(ips, netip.MustParseAddr(s))
		}
		return ips
	}
	lo, veth := Link{Name: "lo", Loopback: true}, Link{Name: "eth0", Kind: "veth"}
	for name, c := range map[string]struct {
		s    Surroundings
		want string // part of the error; empty: it is taken for a pod
	}{
		"a pod with a veth": {
			Surroundings{
				Links: []Link{lo, veth}, Locals: addrs("127.0.0.1", "10.0.0.5"), PodIPs: addrs("10.0.0.5"),
				HostIPs: addrs("192.0.2.1"),
			}, "",
		},
		"a pod with both families": {
			Surroundings{Links: []Link{lo, veth}, Locals: addrs("10.0.0.5", "fd00::5"), PodIPs: addrs("10.0.0.5", "fd00::5")}, "",
		},
		"a pod in a virtual machine of its own, known by its addresses": {
			Surroundings{
				Links: []Link{lo, {Name: "eth0"}}, Locals: addrs("10.0.0.5"), PodIPs: addrs("10.0.0.5"),
				HostIPs: addrs("192.0.2.1"),
			}, "",
		},
		"a host's hardware": {
			Surroundings{Links: []Link{lo, {Name: "ens5"}}, Locals: addrs("192.0.2.1")}, "ens5 is hardware",
		},
		"a pod on the host's network": {
			Surroundings{
				Links: []Link{lo, veth}, Locals: addrs("192.0.2.1"), PodIPs: addrs("192.0.2.1"),
				HostIPs: addrs("192.0.2.1"),
			}, "192.0.2.1",
		},
		"a host with the bridge of its pods": {
			Surroundings{Links: []Link{lo, veth, {Name: "cni0", Kind: "bridge"}}}, "cni0 is a bridge",
		},
		"a bridge, whatever the addresses say": {
			Surroundings{
				Links: []Link{lo, {Name: "docker0", Kind: "bridge"}}, Locals: addrs("10.0.0.5"),
				PodIPs: addrs("10.0.0.5"), HostIPs: addrs("192.0.2.1"),
			}, "docker0 is a bridge",
		},
		"a namespace without the pod's address": {
			Surroundings{Links: []Link{lo, veth}, Locals: addrs("10.0.0.6"), PodIPs: addrs("10.0.0.5")}, "10.0.0.5 is on none",
		},
	} {
		t.Run(name, func(t *testing.T) {
			err := c.s.Check()
			switch {
			case c.want == "" && err != nil:
				t.Error(err)
			case c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)):
				t.Errorf("error %v, want one with %q", err, c.want)
			}
		})
	}
}
