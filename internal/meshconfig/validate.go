// SPDX-License-Identifier: Apache-2.0

package meshconfig

import (
	"crypto/x509"
	"errors"
	"fmt"
	"net/netip"

	"google.golang.org/protobuf/proto"

	"github.com/heddle-mesh/heddle/internal/identity"
)

// Bounds of what a section may hold. What the CRDs allow fits in with room to spare; they bound what a proxy builds
// from a section that it would otherwise believe.
const (
	MaxEndpoints    = 4096 // of one shard
	MaxShards       = 1 << 16
	MaxValue        = 4096 // of a path or the value of a header, in bytes
	maxRoots        = 64
	maxRootBytes    = 1 << 13
	maxNetworks     = 1024
	maxPorts        = 4096
	maxRules        = 16384 // of one port
	maxBackends     = 64
	maxSplitRules   = 256
	maxRoutes       = 4096
	maxMatches      = 64
	maxHeaders      = 32 // or query parameters
	maxHosts        = 64
	maxClusters     = 4096
	maxHashKeys     = 16
	maxCodes        = 200
	maxFaults       = 64
	maxRateLimits   = 64
	maxSubsets      = 256 // of one endpoint
	maxZoneHints    = 64
	maxListed       = 4096 // identities, namespaces, ports, methods or paths of one rule's entry
	maxLabel        = 63
	maxWord         = 600 // names of rules and IDs
	maxRegex        = 1024
	MaxWeight       = 1_000_000
	maxMilliseconds = 1 << 53 // of a date or a duration
)

// Validate says whether the payload of a section is one that a proxy can act on, and belongs to the section's name. The
// message must be of the name's kind, as Decode returns it.
func Validate(name Name, m proto.Message) error {
	var err error
	switch m := m.(type) {
	case *Mesh:
		err = validateMesh(name, m)
	case *Heartbeat:
		err = validateHeartbeat(name, m)
	case *Binding:
		err = validateBinding(name, m)
	case *Inbound:
		err = validateInbound(name, m)
	case *Routes:
		err = validateRoutes(name, m)
	case *Endpoints:
		err = validateEndpoints(name, m)
	case *Address:
		err = validateAddress(name, m)
	default:
		err = fmt.Errorf("payload of type %T", m)
	}
	if err != nil {
		return fmt.Errorf("section %.200s: %w", name, err)
	}
	return nil
}

// kindIs refuses a payload under a name of another kind.
func kindIs(name Name, kind Kind) error {
	if name.Kind() != kind {
		return fmt.Errorf("payload is of kind %s", kind)
	}
	return nil
}

func validateMesh(name Name, m *Mesh) error {
	if err := kindIs(name, KindMesh); err != nil {
		return err
	}
	if err := identity.ValidateTrustDomain(m.GetTrustDomain()); err != nil {
		return err
	}
	// A mesh without roots would end every mTLS connection; one that is not told keeps those it has.
	if n := len(m.GetWorkloadRoots()); n == 0 || n > maxRoots {
		return fmt.Errorf("workload_roots: %d certificates: want 1 to %d", n, maxRoots)
	}
	for i, der := range m.GetWorkloadRoots() {
		if len(der) > maxRootBytes {
			return fmt.Errorf("workload_roots[%d]: %d bytes: at most %d", i, len(der), maxRootBytes)
		}
		cert, err := x509.ParseCertificate(der)
		if err != nil {
			return fmt.Errorf("workload_roots[%d]: %w", i, err)
		}
		if !cert.IsCA {
			return fmt.Errorf("workload_roots[%d]: %q is not a CA", i, cert.Subject)
		}
	}
	if err := atMost("networks", len(m.GetNetworks()), maxNetworks); err != nil {
		return err
	}
	for i, s := range m.GetNetworks() {
		prefix, err := netip.ParsePrefix(s)
		if err != nil || prefix.Masked().String() != s {
			return fmt.Errorf("networks[%d] %.80q: want a CIDR without host bits", i, s)
		}
	}
	return nil
}

func validateHeartbeat(name Name, m *Heartbeat) error {
	if err := kindIs(name, KindHeartbeat); err != nil {
		return err
	}
	if m.GetAt() == 0 {
		return errors.New("at: want a date")
	}
	return checkMilliseconds("at", m.GetAt())
}

func validateBinding(name Name, m *Binding) error {
	if err := kindIs(name, KindBinding); err != nil {
		return err
	}
	if m.GetPodUid() == "" || m.GetPodUid() != name.Subject() {
		return fmt.Errorf("pod_uid %.80q: want that of the name", m.GetPodUid())
	}
	if err := checkPodKey("pod", m.GetPod()); err != nil {
		return err
	}
	if _, err := identity.Parse(m.GetIdentity()); err != nil {
		return fmt.Errorf("identity: %w", err)
	}
	inbound, err := ParseName(m.GetInbound())
	if err != nil || inbound.Kind() != KindInbound {
		return fmt.Errorf("inbound %.80q: want the name of an inbound section", m.GetInbound())
	}
	if err := checkLengths(maxWord, field[string]{"zone", m.GetZone()}); err != nil {
		return err
	}
	return checkText("workload", m.GetWorkload())
}

func validateAddress(name Name, m *Address) error {
	if err := kindIs(name, KindAddress); err != nil {
		return err
	}
	if m.GetAddress() != name.Subject() {
		return fmt.Errorf("address %.80q: want that of the name", m.GetAddress())
	}
	if err := checkAddress("address", m.GetAddress()); err != nil {
		return err
	}
	pod := m.GetPod()
	switch {
	case m.GetService() != "" && pod != nil:
		return errors.New("an address is a service's or a pod's, not both")
	case m.GetService() != "":
		return checkService("service", m.GetService())
	case pod == nil:
		return nil
	}
	return validatePodAddress(m.GetAddress(), pod)
}

func validatePodAddress(address string, pod *PodAddress) error {
	if err := validateEndpoint(pod.GetEndpoint()); err != nil {
		return fmt.Errorf("pod.endpoint: %w", err)
	}
	if pod.GetEndpoint().GetAddress() != address || len(pod.GetEndpoint().GetPorts()) != 0 {
		return errors.New("pod.endpoint: want the section's address and no ports")
	}
	if err := checkMilliseconds("pod.plaintext_until", pod.GetPlaintextUntil()); err != nil {
		return err
	}
	ports := ascending{what: "pod.ports"}
	for _, p := range pod.GetPorts() {
		if err := ports.next(p.GetPort()); err != nil {
			return err
		}
		if err := checkProtocol(p.GetProtocol()); err != nil {
			return fmt.Errorf("pod.ports %d: %w", p.GetPort(), err)
		}
		if err := checkServiceOrNone("pod.ports.service", p.GetService()); err != nil {
			return err
		}
		if err := checkMilliseconds("pod.ports.plaintext_until", p.GetPlaintextUntil()); err != nil {
			return err
		}
	}
	return atMost("pod.ports", len(pod.GetPorts()), maxPorts)
}
