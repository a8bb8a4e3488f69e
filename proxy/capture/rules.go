// SPDX-License-Identifier: Apache-2.0

package capture

import (
	"net/netip"

	"github.com/google/nftables/binaryutil"
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"
)

// rule is the expressions of one nftables rule: tests, then what happens to a packet that passes them all. A chain of
// type nat sees the first packet of each connection only.
type rule []expr.Any

// reg1 is the register that every test loads what it compares into.
const reg1 = 1

var (
	loopback4  = netip.MustParsePrefix("127.0.0.0/8")
	loopback6  = netip.MustParsePrefix("::1/128")
	linkLocal6 = netip.MustParsePrefix("fe80::/10")
)

// outputRules are for the connections that processes of the pod open.
//
// When the pod calls itself, by its Service or its own address, the outbound side of the proxy dials the pod's own
// address. Such packets go over the loopback interface and never pass the prerouting chain, so they are sent to the
// inbound side here. What tells them from the inbound side's own connections to the application is their source: the
// outbound side binds these to a loopback address (SelfSource), which nothing else does towards an address that isn't
// one.
func (c *Config) outputRules() []rule {
	self4, self6 := matchSkUID(c.ProxyUID), matchSkUID(c.ProxyUID)
	self4 = append(append(self4, matchSource(loopback4)...), matchNotDestination(loopback4)...)
	self6 = append(append(self6, matchSource(loopback6)...), matchNotDestination(loopback6)...)
	rules := []rule{append(matchNotTCP(), leave())}
	for _, r := range c.SkipInboundPorts { // they are as open to the pod itself as to others
		rules = append(rules, append(append(matchSkUID(c.ProxyUID), matchPort(r)...), leave()))
	}
	rules = append(rules,
		append(self4, redirect(c.InboundPort)...),
		append(self6, redirect(c.InboundPort)...),
		append(matchSkUID(c.ProxyUID), leave()),
		append(matchDestination(loopback4), leave()),
		append(matchDestination(loopback6), leave()),
		append(matchDestination(linkLocal6), leave()),
		// Another pod's proxy answers there itself, in clear: a scrape from inside the mesh.
		append(matchPort(PortRange{c.AdminPort, c.AdminPort}), leave()),
	)
	for _, r := range c.SkipOutboundPorts {
		rules = append(rules, append(matchPort(r), leave()))
	}
	for _, prefix := range c.SkipOutboundCIDRs {
		rules = append(rules, append(matchDestination(prefix), leave()))
	}
	return append(rules, append(matchTCP(), redirect(c.OutboundPort)...))
}

// inboundRules are for the connections that come from outside the pod. The proxy's own two ports are not left out: a
// connection to one of them arrives at the inbound side with that port as its original destination, and is refused
// there. So nobody outside reaches the outbound side at all.
func (c *Config) inboundRules() []rule {
	rules := []rule{
		append(matchNotTCP(), leave()),
		append(matchPort(PortRange{c.AdminPort, c.AdminPort}), leave()),
	}
	for _, r := range c.SkipInboundPorts {
		rules = append(rules, append(matchPort(r), leave()))
	}
	return append(rules, append(matchTCP(), redirect(c.InboundPort)...))
}

func leave() expr.Any { return &expr.Verdict{Kind: expr.VerdictReturn} }

// redirect sends the connection to a port of this pod, at a loopback address from output and at the receiving
// interface's own from prerouting.
func redirect(port uint16) rule {
	return rule{
		&expr.Immediate{Register: reg1, Data: binaryutil.BigEndian.PutUint16(port)},
		&expr.Redir{RegisterProtoMin: reg1, Flags: unix.NF_NAT_RANGE_PROTO_SPECIFIED},
	}
}

func matchTCP() rule    { return matchProtocol(expr.CmpOpEq) }
func matchNotTCP() rule { return matchProtocol(expr.CmpOpNeq) }

func matchProtocol(op expr.CmpOp) rule {
	return rule{
		&expr.Meta{Key: expr.MetaKeyL4PROTO, Register: reg1},
		&expr.Cmp{Op: op, Register: reg1, Data: []byte{unix.IPPROTO_TCP}},
	}
}

// matchSkUID tests who opened the socket; the kernel translates the uid to the pod's user namespace.
func matchSkUID(uid uint32) rule {
	return rule{
		&expr.Meta{Key: expr.MetaKeySKUID, Register: reg1},
		&expr.Cmp{Op: expr.CmpOpEq, Register: reg1, Data: binaryutil.NativeEndian.PutUint32(uid)},
	}
}

// matchPort tests the destination port of what is already known to be TCP.
func matchPort(r PortRange) rule {
	load := &expr.Payload{DestRegister: reg1, Base: expr.PayloadBaseTransportHeader, Offset: 2, Len: 2}
	if r.First == r.Last {
		return rule{load, &expr.Cmp{Op: expr.CmpOpEq, Register: reg1, Data: binaryutil.BigEndian.PutUint16(r.First)}}
	}
	return rule{
		load,
		&expr.Cmp{Op: expr.CmpOpGte, Register: reg1, Data: binaryutil.BigEndian.PutUint16(r.First)},
		&expr.Cmp{Op: expr.CmpOpLte, Register: reg1, Data: binaryutil.BigEndian.PutUint16(r.Last)},
	}
}

func matchDestination(p netip.Prefix) rule    { return matchAddress(p, false, expr.CmpOpEq) }
func matchNotDestination(p netip.Prefix) rule { return matchAddress(p, false, expr.CmpOpNeq) }
func matchSource(p netip.Prefix) rule         { return matchAddress(p, true, expr.CmpOpEq) }

// matchAddress tests the packet's family, then one of its addresses: bytes 12 to 19 of an IPv4 header (RFC 791, 3.1),
// 8 to 39 of an IPv6 header (RFC 8200, 3) hold source and destination.
func matchAddress(p netip.Prefix, source bool, op expr.CmpOp) rule {
	family, length, offset := byte(unix.NFPROTO_IPV4), uint32(4), uint32(12)
	if p.Addr().Is6() {
		family, length, offset = unix.NFPROTO_IPV6, 16, 8
	}
	if !source {
		offset += length
	}
	return rule{
		&expr.Meta{Key: expr.MetaKeyNFPROTO, Register: reg1},
		&expr.Cmp{Op: expr.CmpOpEq, Register: reg1, Data: []byte{family}},
		&expr.Payload{DestRegister: reg1, Base: expr.PayloadBaseNetworkHeader, Offset: offset, Len: length},
		&expr.Bitwise{
			SourceRegister: reg1, DestRegister: reg1, Len: length, Mask: mask(p.Bits(), int(length)), Xor: make([]byte, length),
		},
		&expr.Cmp{Op: op, Register: reg1, Data: p.Masked().Addr().AsSlice()},
	}
}

// mask returns length bytes whose first bits are set.
func mask(bits, length int) []byte {
	m := make([]byte, length)
	for i := range bits {
		m[i/8] |= 0x80 >> (i % 8)
	}
	return m
}
