// SPDX-License-Identifier: Apache-2.0

package capture

import (
	"encoding/binary"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"syscall"
)

// Surroundings is what tells a pod's network namespace from a host's.
type Surroundings struct {
	Links  []Link
	Locals []netip.Addr // on the links, without zones

	PodIPs  []netip.Addr // status.podIPs, from the kubelet; empty when unknown
	HostIPs []netip.Addr // status.hostIPs; empty when unknown
}

// Link is a network interface.
type Link struct {
	Name string
	// Kind is what the kernel calls a virtual interface: "veth", "bridge", "ipvlan"...; empty for hardware (also a virtual
	// machine's) and for loopback.
	Kind     string
	Loopback bool
}

// HostNamespaceError says why a network namespace isn't taken for a pod's own.
type HostNamespaceError struct{ Sign string }

func (e *HostNamespaceError) Error() string {
	return "this looks like a host's network namespace (" + e.Sign + "): a redirect here would cut the node off, so none " +
		"is written; run it in a pod without hostNetwork"
}

// Check refuses a network namespace that isn't, or may not be, one pod's own. With the addresses that the kubelet tells
// it is certain: a pod on the host's network has the host's addresses. Without them hardware is a sign too, though
// some pods are given a device of their own.
func (s *Surroundings) Check() error {
	for _, ip := range s.HostIPs {
		if slices.Contains(s.Locals, ip.Unmap()) {
			return &HostNamespaceError{"it has the node's address " + ip.String()}
		}
	}
	for _, ip := range s.PodIPs {
		if !slices.Contains(s.Locals, ip.Unmap()) {
			return &HostNamespaceError{"the pod's address " + ip.String() + " is on none of its interfaces: " + s.names()}
		}
	}
	for _, l := range s.Links {
		switch {
		case l.Kind == "bridge" || l.Kind == "openvswitch":
			return &HostNamespaceError{"interface " + l.Name + " is a bridge"}
		case l.Kind == "" && !l.Loopback && len(s.HostIPs) == 0:
			return &HostNamespaceError{"interface " + l.Name + " is hardware, and HEDDLE_HOST_IPS doesn't say otherwise"}
		}
	}
	return nil
}

func (s *Surroundings) names() string {
	names := make([]string, len(s.Links))
	for i, l := range s.Links {
		names[i] = l.Name
	}
	return strings.Join(names, ", ")
}

// LookAround asks the kernel about the network namespace of the process; it needs no /sys and no privilege.
func LookAround() (*Surroundings, error) {
	links, err := listLinks()
	if err != nil {
		return nil, err
	}
	addrs, err := net.InterfaceAddrs()
	if err != nil {
		return nil, fmt.Errorf("list the addresses: %w", err)
	}
	s := &Surroundings{Links: links}
	for _, a := range addrs {
		if prefix, err := netip.ParsePrefix(a.String()); err == nil {
			s.Locals = append(s.Locals, prefix.Addr().Unmap().WithZone(""))
		}
	}
	return s, nil
}

func listLinks() ([]Link, error) {
	rib, err := syscall.NetlinkRIB(syscall.RTM_GETLINK, syscall.AF_UNSPEC)
	if err != nil {
		return nil, fmt.Errorf("list the network interfaces: %w", err)
	}
	messages, err := syscall.ParseNetlinkMessage(rib)
	if err != nil {
		return nil, fmt.Errorf("list the network interfaces: %w", err)
	}
	var links []Link
	for i := range messages {
		m := &messages[i]
		if m.Header.Type != syscall.RTM_NEWLINK || len(m.Data) < syscall.SizeofIfInfomsg {
			continue
		}
		attrs, err := syscall.ParseNetlinkRouteAttr(m)
		if err != nil {
			return nil, fmt.Errorf("list the network interfaces: %w", err)
		}
		// struct ifinfomsg: family 1 byte, padding 1, type 2, index 4, flags 4, change 4.
		flags := binary.NativeEndian.Uint32(m.Data[8:])
		links = append(links, linkOf(flags, attrs))
	}
	return links, nil
}

func linkOf(flags uint32, attrs []syscall.NetlinkRouteAttr) Link {
	const iflaLinkInfo = 18 // linux/if_link.h
	l := Link{Loopback: flags&syscall.IFF_LOOPBACK != 0}
	for _, a := range attrs {
		switch a.Attr.Type {
		case syscall.IFLA_IFNAME:
			l.Name = cString(a.Value)
		case iflaLinkInfo:
			l.Kind = infoKind(a.Value)
		}
	}
	return l
}

// infoKind finds IFLA_INFO_KIND in the attributes nested in IFLA_LINKINFO: length 2 bytes, type 2, value, each padded
// to 4.
func infoKind(b []byte) string {
	const iflaInfoKind = 1
	for len(b) >= 4 {
		length, kind := int(binary.NativeEndian.Uint16(b)), binary.NativeEndian.Uint16(b[2:])
		if length < 4 || length > len(b) {
			return ""
		}
		if kind == iflaInfoKind {
			return cString(b[4:length])
		}
		b = b[min((length+3)&^3, len(b)):]
	}
	return ""
}

func cString(b []byte) string {
	s, _, _ := strings.Cut(string(b), "\x00")
	return s
}
