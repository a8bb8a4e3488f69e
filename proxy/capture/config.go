// SPDX-License-Identifier: Apache-2.0

// Package capture sends a pod's TCP connections through the proxy: it writes an nftables table that redirects them, and
// reads back where a redirected connection was going. `heddle-proxy init` is its command.
package capture

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"
)

// The numbers that injection and proxy agree on.
const (
	DefaultProxyUID     = 1337
	DefaultOutboundPort = 15001
	DefaultInboundPort  = 15006
	DefaultAdminPort    = 15020
)

// TableName is the name of the nftables table, of family inet.
const TableName = "heddle"

// maxSkips bounds each list of a Config: every entry is a rule that each new connection passes.
const maxSkips = 256

// Config says what is redirected where.
type Config struct {
	ProxyUID     uint32 // whose own connections are left alone
	OutboundPort uint16 // takes what leaves the pod
	InboundPort  uint16 // takes what enters it
	AdminPort    uint16 // never redirected, on this pod or to another one

	SkipInboundPorts  []PortRange
	SkipOutboundPorts []PortRange
	SkipOutboundCIDRs []netip.Prefix
}

// PortRange is the ports from First to Last, both included.
type PortRange struct{ First, Last uint16 }

func (r PortRange) contains(port uint16) bool { return r.First <= port && port <= r.Last }

// String writes the range as ParsePorts reads it.
func (r PortRange) String() string {
	if r.First == r.Last {
		return strconv.Itoa(int(r.First))
	}
	return fmt.Sprintf("%d-%d", r.First, r.Last)
}

// Default returns a Config that skips nothing.
func Default() Config {
	return Config{
		ProxyUID:     DefaultProxyUID,
		OutboundPort: DefaultOutboundPort,
		InboundPort:  DefaultInboundPort,
		AdminPort:    DefaultAdminPort,
	}
}

// Validate says what is wrong with the config.
func (c *Config) Validate() error {
	if c.ProxyUID == 0 {
		return errors.New("proxy uid 0: want a uid that no application runs as, or nothing of theirs is captured")
	}
	ports := []uint16{c.OutboundPort, c.InboundPort, c.AdminPort}
	for i, p := range ports {
		if p == 0 || slices.Contains(ports[:i], p) {
			return fmt.Errorf("ports %d (outbound), %d (inbound) and %d (admin): want three different ones above 0",
				c.OutboundPort, c.InboundPort, c.AdminPort)
		}
	}
	for what, n := range map[string]int{
		"inbound ports": len(c.SkipInboundPorts), "outbound ports": len(c.SkipOutboundPorts),
		"outbound CIDRs": len(c.SkipOutboundCIDRs),
	} {
		if n > maxSkips {
			return fmt.Errorf("%d skipped %s: at most %d, join them into ranges", n, what, maxSkips)
		}
	}
	for _, r := range c.SkipInboundPorts {
		// Whoever could connect to a listener of the proxy without a redirect would be without an original destination.
		if r.contains(c.InboundPort) || r.contains(c.OutboundPort) {
			return fmt.Errorf("skipped inbound ports %d-%d hold %d or %d, the proxy's own: leave those out",
				r.First, r.Last, c.InboundPort, c.OutboundPort)
		}
	}
	return nil
}

// ParsePorts reads a list such as "22,8000-8100"; the empty list is none.
func ParsePorts(list string) ([]PortRange, error) {
	var ranges []PortRange
	for _, item := range split(list) {
		first, last, isRange := strings.Cut(item, "-")
		if !isRange {
			last = first
		}
		a, errA := parsePort(first)
		b, errB := parsePort(last)
		if errA != nil || errB != nil || a > b {
			return nil, fmt.Errorf("port %q: want a number from 1 to 65535, or a range such as 8000-8100", item)
		}
		ranges = append(ranges, PortRange{a, b})
	}
	return ranges, nil
}

func parsePort(s string) (uint16, error) {
	n, err := strconv.ParseUint(strings.TrimSpace(s), 10, 16)
	if err == nil && n == 0 {
		err = errors.New("port 0")
	}
	return uint16(n), err
}

// ParseCIDRs reads a list such as "10.0.0.0/8,2001:db8::/32,192.0.2.1"; the empty list is none.
func ParseCIDRs(list string) ([]netip.Prefix, error) {
	var prefixes []netip.Prefix
	for _, item := range split(list) {
		prefix, err := netip.ParsePrefix(item)
		if err != nil {
			ip, ipErr := netip.ParseAddr(item)
			if ipErr != nil || ip.Zone() != "" {
				return nil, fmt.Errorf("CIDR %q: want one such as 10.0.0.0/8 or an address", item)
			}
			prefix = netip.PrefixFrom(ip, ip.BitLen())
		}
		if prefix.Addr().Is4In6() {
			return nil, fmt.Errorf("CIDR %q: write an IPv4 range as IPv4", item)
		}
		prefixes = append(prefixes, prefix.Masked())
	}
	return prefixes, nil
}

func split(list string) []string {
	var items []string
	for item := range strings.SplitSeq(list, ",") {
		if item = strings.TrimSpace(item); item != "" {
			items = append(items, item)
		}
	}
	return items
}
