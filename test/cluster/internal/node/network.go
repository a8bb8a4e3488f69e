// SPDX-License-Identifier: Apache-2.0

package node

import (
	"fmt"
	"net"
	"os"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/heddle-mesh/heddle/test/cluster/internal/home"
)

// setNetwork gives the node its address. There is no way out: no link to the machine's network, no default route.
func setNetwork() error {
	if err := unix.Sethostname([]byte(home.NodeName)); err != nil {
		return err
	}
	loopback, err := netlink.LinkByName("lo")
	if err != nil {
		return err
	}
	if err := netlink.LinkSetUp(loopback); err != nil {
		return err
	}
	// A bridge without ports, because some kernels have no dummy link.
	bridge := &netlink.Bridge{LinkAttrs: netlink.LinkAttrs{Name: "node0"}}
	if err := netlink.LinkAdd(bridge); err != nil {
		return fmt.Errorf("adding a bridge (does the kernel have the module bridge?): %w", err)
	}
	ip := net.IP(home.NodeIP.AsSlice())
	address := &netlink.Addr{IPNet: &net.IPNet{IP: ip, Mask: net.CIDRMask(32, 32)}}
	if err := netlink.AddrAdd(bridge, address); err != nil {
		return err
	}
	if err := netlink.LinkSetUp(bridge); err != nil {
		return err
	}
	// The node's own connections to services need a route before kube-proxy's rules see them.
	services := &net.IPNet{
		IP:   home.ServiceCIDR.Addr().AsSlice(),
		Mask: net.CIDRMask(home.ServiceCIDR.Bits(), 32),
	}
	route := &netlink.Route{LinkIndex: bridge.Index, Dst: services, Src: ip, Scope: netlink.SCOPE_LINK}
	if err := netlink.RouteAdd(route); err != nil {
		return fmt.Errorf("route to the services: %w", err)
	}
	for file, hint := range map[string]string{
		"/proc/sys/net/ipv4/ip_forward": "",
		// Without it a pod's reply to its neighbour passes the bridge and never meets the rules that must translate it back.
		"/proc/sys/net/bridge/bridge-nf-call-iptables": "; run `modprobe br_netfilter`",
	} {
		if err := os.WriteFile(file, []byte("1"), 0o644); err != nil {
			return fmt.Errorf("%w%s", err, hint)
		}
	}
	return nil
}
