// SPDX-License-Identifier: Apache-2.0

package capture

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strconv"

	"golang.org/x/sys/unix"
)

// ErrNotRedirected is what OriginalDestination returns for a connection that somebody opened to the listener itself.
var ErrNotRedirected = errors.New("the connection was not redirected")

// OriginalDestination returns where a redirected connection was going before the redirect. A connection that was going
// to the listener is refused with ErrNotRedirected: forwarding it would come back, for ever.
func OriginalDestination(c *net.TCPConn) (netip.AddrPort, error) {
	local, ok := c.LocalAddr().(*net.TCPAddr)
	if !ok {
		return netip.AddrPort{}, fmt.Errorf("local address %v: want TCP", c.LocalAddr())
	}
	raw, err := c.SyscallConn()
	if err != nil {
		return netip.AddrPort{}, err
	}
	var dst netip.AddrPort
	var sockErr error
	control := func(fd uintptr) {
		if local.IP.To4() != nil {
			dst, sockErr = originalDestination4(int(fd))
		} else {
			dst, sockErr = originalDestination6(int(fd))
		}
	}
	if err := raw.Control(control); err != nil {
		return netip.AddrPort{}, err
	}
	// ENOENT: connection tracking doesn't know it. ENOPROTOOPT: the kernel tracks nothing in this namespace.
	if errors.Is(sockErr, unix.ENOENT) || errors.Is(sockErr, unix.ENOPROTOOPT) {
		return netip.AddrPort{}, ErrNotRedirected
	}
	if sockErr != nil {
		return netip.AddrPort{}, fmt.Errorf("read the original destination: %w", sockErr)
	}
	self := local.AddrPort()
	if dst.Port() == self.Port() && dst.Addr().WithZone("") == self.Addr().Unmap().WithZone("") {
		return netip.AddrPort{}, ErrNotRedirected
	}
	return dst, nil
}

// originalDestination4 borrows a struct of x/sys/unix that is larger than the sockaddr_in which the kernel writes:
// 2 bytes family, 2 port, 4 address.
func originalDestination4(fd int) (netip.AddrPort, error) {
	got, err := unix.GetsockoptIPv6Mreq(fd, unix.SOL_IP, unix.SO_ORIGINAL_DST)
	if err != nil {
		return netip.AddrPort{}, err
	}
	b := got.Multiaddr
	return netip.AddrPortFrom(netip.AddrFrom4([4]byte(b[4:8])), binary.BigEndian.Uint16(b[2:4])), nil
}

// originalDestination6 borrows a struct whose first member is the sockaddr_in6 which the kernel writes.
func originalDestination6(fd int) (netip.AddrPort, error) {
	const ip6tSoOriginalDst = 80 // linux/netfilter_ipv6/ip6_tables.h
	got, err := unix.GetsockoptIPv6MTUInfo(fd, unix.SOL_IPV6, ip6tSoOriginalDst)
	if err != nil {
		return netip.AddrPort{}, err
	}
	ip := netip.AddrFrom16(got.Addr.Addr)
	if got.Addr.Scope_id != 0 {
		ip = ip.WithZone(strconv.FormatUint(uint64(got.Addr.Scope_id), 10))
	}
	port := binary.NativeEndian.AppendUint16(nil, got.Addr.Port) // as it lies in memory, which is network order
	return netip.AddrPortFrom(ip, binary.BigEndian.Uint16(port)), nil
}

// SelfSource returns the source address to bind when the outbound side dials an address of its own pod, so that the
// connection reaches the inbound side like any other (see outputRules).
func SelfSource(dst netip.Addr) netip.Addr {
	if dst.Unmap().Is4() {
		return netip.AddrFrom4([4]byte{127, 0, 0, 1})
	}
	return netip.IPv6Loopback()
}
