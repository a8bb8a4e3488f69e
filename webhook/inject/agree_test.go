// SPDX-License-Identifier: Apache-2.0

package inject

import (
	"testing"

	"github.com/heddle-mesh/heddle/proxy/capture"
)

// What the injector lets through, `heddle-proxy init` must understand, and the other way about.
func TestListsAreReadAsTheRedirectReadsThem(t *testing.T) {
	for _, item := range []string{"80", "1", "65535", "0", "65536", "80-90", "90-80", "80-", "-80", "http", "0x50", "+80", "80-90-100"} {
		_, want := capture.ParsePorts(item)
		if got := port(item); (got == nil) != (want == nil) {
			t.Errorf("port %q: %v here, %v there", item, got, want)
		}
	}
	for _, item := range []string{
		"10.0.0.0/8", "10.0.0.1", "2001:db8::/32", "2001:db8::1", "fe80::1%eth0", "::ffff:10.0.0.1", "::ffff:10.0.0.0/104",
		"10.0.0.0/33", "10.0.0", "x", "0.0.0.0/0",
	} {
		_, want := capture.ParseCIDRs(item)
		if got := cidr(item); (got == nil) != (want == nil) {
			t.Errorf("CIDR %q: %v here, %v there", item, got, want)
		}
	}
	if ProxyUID != capture.DefaultProxyUID || PortInbound != capture.DefaultInboundPort ||
		PortOutbound != capture.DefaultOutboundPort || PortAdmin != capture.DefaultAdminPort {
		t.Error("injector and redirect have different numbers")
	}
}
