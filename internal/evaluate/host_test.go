// SPDX-License-Identifier: Apache-2.0

package evaluate

import (
	"net/netip"
	"testing"
)

// FuzzParseIPv6 compares with package netip, which reads zones, too.
func FuzzParseIPv6(f *testing.F) {
	for _, s := range []string{
		"::", "::1", "1::", "1:2:3:4:5:6:7:8", "1:2:3:4:5:6:7::", "::2:3:4:5:6:7:8", "1::2::3", ":::", "1:::2", ":1", "1:",
		"::ffff:10.0.0.1", "1:2:3:4:5:6:10.0.0.1", "1:2:3:4:5:6:7:10.0.0.1", "::10.0.0", "::10.0.0.256", "::10.0.0.01", "10.0.0.1",
		"fe80::1%eth0", "12345::", "::g", "", "1:2:3:4:5:6:7:8:9", "::1:2:3:4:5:6:7:8", "::10.0.0.1.2", "::1.2.3.4:5", "A:b::C",
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		got, ok := parseIPv6(s)
		want, err := netip.ParseAddr(s)
		isIPv6 := err == nil && want.Is6() && want.Zone() == ""
		if ok != isIPv6 || ok && got != want {
			t.Errorf("parseIPv6(%q) = %v, %v, want %v, %v", s, got, ok, want, err)
		}
	})
}
