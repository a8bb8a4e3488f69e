// SPDX-License-Identifier: Apache-2.0

// Package meshconfig is what the operator tells proxies: the kinds of section, their names and their payloads.
// Operator and proxy share it; it knows nothing of Kubernetes.
package meshconfig

import (
	"fmt"
	"net/netip"
	"strconv"
	"strings"
)

// Kind is the first part of a section's name and decides the type of its payload.
type Kind string

// The kinds of section.
const (
	KindMesh      Kind = "mesh"      // Mesh
	KindHeartbeat Kind = "heartbeat" // Heartbeat
	KindBinding   Kind = "binding"   // Binding
	KindInbound   Kind = "inbound"   // Inbound
	KindRoutes    Kind = "routes"    // Routes
	KindEndpoints Kind = "endpoints" // Endpoints
	KindAddress   Kind = "address"   // Address
)

// Name is the name of a section, such as "routes/checkout.shop/*". Make one with the functions of this package, or
// check one that came from outside with ParseName.
type Name string

// maxNameLength bounds a name from outside: two DNS names of 253 and the rest.
const maxNameLength = 600

// The sections of which there is one.
const (
	MeshName      Name = Name(KindMesh)
	HeartbeatName Name = Name(KindHeartbeat)
)

// BindingName names the binding of a pod.
func BindingName(podUID string) Name { return join(KindBinding, podUID) }

// InboundName names the policy of the workloads whose inputs have this digest.
func InboundName(digest string) Name { return join(KindInbound, digest) }

// RoutesName names the routes of service "name.namespace", for clients in all namespaces.
func RoutesName(service string) Name { return join(KindRoutes, service, "*") }

// EndpointsName names one shard of the endpoints of service "name.namespace".
func EndpointsName(service string, shard uint32) Name {
	return join(KindEndpoints, service, strconv.FormatUint(uint64(shard), 10))
}

// AllEndpoints is what a proxy subscribes to for all shards of a service, however many there are.
func AllEndpoints(service string) Name { return join(KindEndpoints, service, "*") }

// AddressName names what is known of an IP address.
func AddressName(ip netip.Addr) Name { return join(KindAddress, ip.Unmap().WithZone("").String()) }

func join(kind Kind, parts ...string) Name {
	return Name(string(kind) + "/" + strings.Join(parts, "/"))
}

// Kind returns the kind, the part before the first slash.
func (n Name) Kind() Kind {
	kind, _, _ := strings.Cut(string(n), "/")
	return Kind(kind)
}

// Subject returns the part after the kind and before the next slash: a pod UID, a digest, a service or an IP.
func (n Name) Subject() string {
	_, rest, _ := strings.Cut(string(n), "/")
	subject, _, _ := strings.Cut(rest, "/")
	return subject
}

// Subscription returns what a proxy must have subscribed to in order to be sent this section.
func (n Name) Subscription() Name {
	if n.Kind() == KindEndpoints {
		return AllEndpoints(n.Subject())
	}
	return n
}

// ParseName checks a name that came from outside; a name for all shards passes too.
func ParseName(s string) (Name, error) {
	if len(s) > maxNameLength {
		return "", fmt.Errorf("section name of %d bytes: at most %d", len(s), maxNameLength)
	}
	name := Name(s)
	parts := strings.Split(s, "/")
	for _, p := range parts {
		if p == "" || strings.ContainsFunc(p, func(r rune) bool { return r <= ' ' || r > '~' || r == '\\' }) {
			return "", fmt.Errorf("section name %q: empty or unprintable part", s)
		}
	}
	ok := false
	switch name.Kind() {
	case KindMesh, KindHeartbeat:
		ok = len(parts) == 1
	case KindBinding, KindInbound:
		ok = len(parts) == 2
	case KindRoutes:
		ok = len(parts) == 3
	case KindEndpoints:
		ok = len(parts) == 3 && (parts[2] == "*" || isShard(parts[2]))
	case KindAddress:
		ip, err := netip.ParseAddr(name.Subject())
		ok = err == nil && len(parts) == 2 && name == AddressName(ip)
	}
	if !ok {
		return "", fmt.Errorf("section name %q: not of a known form", s)
	}
	return name, nil
}

func isShard(s string) bool {
	n, err := strconv.ParseUint(s, 10, 32)
	return err == nil && strconv.FormatUint(n, 10) == s
}
