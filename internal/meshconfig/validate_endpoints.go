// SPDX-License-Identifier: Apache-2.0

package meshconfig

import (
	"errors"
	"fmt"
	"net/netip"
	"strings"

	"github.com/heddle-mesh/heddle/internal/identity"
)

func validateEndpoints(name Name, m *Endpoints) error {
	if err := kindIs(name, KindEndpoints); err != nil {
		return err
	}
	if err := checkService("service", m.GetService()); err != nil {
		return err
	}
	if name != EndpointsName(m.GetService(), m.GetShard()) {
		return fmt.Errorf("service %.80q and shard %d: want those of the name", m.GetService(), m.GetShard())
	}
	if n := m.GetShards(); n == 0 || n > MaxShards || n&(n-1) != 0 || m.GetShard() >= n {
		return fmt.Errorf("shard %d of %d: want a power of two of at most %d, and a shard below it", m.GetShard(), n, MaxShards)
	}
	if err := atMost("endpoints", len(m.GetEndpoints()), MaxEndpoints); err != nil {
		return err
	}
	for i, e := range m.GetEndpoints() {
		if err := validateEndpoint(e); err != nil {
			return fmt.Errorf("endpoints[%d]: %w", i, err)
		}
	}
	return nil
}

func validateEndpoint(e *Endpoint) error {
	if err := checkAddress("address", e.GetAddress()); err != nil {
		return err
	}
	ports := ascending{what: "ports"}
	for _, p := range e.GetPorts() {
		if err := ports.next(p.GetServicePort()); err != nil {
			return err
		}
		if err := checkPort(p.GetPort()); err != nil {
			return err
		}
		if err := checkMilliseconds("ports.plaintext_until", p.GetPlaintextUntil()); err != nil {
			return err
		}
	}
	if err := atMost("ports", len(e.GetPorts()), maxPorts); err != nil {
		return err
	}
	if e.GetIdentity() != "" {
		if _, err := identity.Parse(e.GetIdentity()); err != nil {
			return err
		}
	}
	if e.GetPod() != "" {
		if err := checkPodKey("pod", e.GetPod()); err != nil {
			return err
		}
	}
	if len(e.GetZone()) > maxWord || len(e.GetWorkload()) > maxWord {
		return fmt.Errorf("zone or workload of more than %d bytes", maxWord)
	}
	if err := checkWords("subsets", e.GetSubsets(), maxSubsets); err != nil {
		return err
	}
	return checkWords("zone_hints", e.GetZoneHints(), maxZoneHints)
}

// checkWords wants at most so many, none of them empty or long.
func checkWords(what string, words []string, most int) error {
	if err := atMost(what, len(words), most); err != nil {
		return err
	}
	for i, w := range words {
		if w == "" || len(w) > maxWord {
			return fmt.Errorf("%s[%d] of %d bytes: want 1 to %d", what, i, len(w), maxWord)
		}
	}
	return nil
}

// ascending checks ports of a list that must be sorted and hold each once.
type ascending struct {
	what string
	last uint32
}

func (a *ascending) next(port uint32) error {
	if err := checkPort(port); err != nil {
		return fmt.Errorf("%s: %w", a.what, err)
	}
	if port <= a.last {
		return fmt.Errorf("%s: %d after %d: want them ascending, each once", a.what, port, a.last)
	}
	a.last = port
	return nil
}

func atMost(what string, n, limit int) error {
	if n > limit {
		return fmt.Errorf("%s: %d: at most %d", what, n, limit)
	}
	return nil
}

func checkPort(port uint32) error {
	if port == 0 || port > 65535 {
		return fmt.Errorf("port %d: want 1 to 65535", port)
	}
	return nil
}

// checkMilliseconds bounds a date or a duration; 0 is "not set".
func checkMilliseconds(what string, ms int64) error {
	if ms < 0 || ms > maxMilliseconds {
		return fmt.Errorf("%s %d: want milliseconds, 0 to %d", what, ms, int64(maxMilliseconds))
	}
	return nil
}

func checkProtocol(p Protocol) error {
	if _, ok := Protocol_name[int32(p)]; !ok {
		return fmt.Errorf("protocol %d is unknown", p)
	}
	return nil
}

// checkAddress wants an IP address as netip prints it, without zone, IPv4 as such.
func checkAddress(what, s string) error {
	ip, err := netip.ParseAddr(s)
	if err != nil || ip.Zone() != "" || ip.Unmap().String() != s {
		return fmt.Errorf("%s %.80q: want an IP address in its usual form", what, s)
	}
	return nil
}

func checkService(what, s string) error {
	name, namespace, ok := strings.Cut(s, ".")
	if !ok || !isLabel(name) || !isLabel(namespace) {
		return fmt.Errorf("%s %.80q: want name.namespace", what, s)
	}
	return nil
}

func checkServiceOrNone(what, s string) error {
	if s == "" {
		return nil
	}
	return checkService(what, s)
}

func checkPodKey(what, s string) error {
	namespace, name, ok := strings.Cut(s, "/")
	if !ok || !isLabel(namespace) || name == "" || len(name) > maxWord || strings.Contains(name, "/") {
		return fmt.Errorf("%s %.80q: want namespace/name", what, s)
	}
	return nil
}

// checkText wants 1 to maxWord printable ASCII characters.
func checkText(what, s string) error {
	if s == "" || len(s) > maxWord {
		return fmt.Errorf("%s of %d bytes: want 1 to %d", what, len(s), maxWord)
	}
	for i := range len(s) {
		if s[i] < ' ' || s[i] > '~' {
			return errors.New(what + " is not printable ASCII")
		}
	}
	return nil
}

// isLabel says whether s is a DNS label in lower case (RFC 1123).
func isLabel(s string) bool {
	if s == "" || len(s) > maxLabel || s[0] == '-' || s[len(s)-1] == '-' {
		return false
	}
	return !strings.ContainsFunc(s, func(r rune) bool {
		return r != '-' && (r < 'a' || r > 'z') && (r < '0' || r > '9')
	})
}

// isToken says whether s is a token of RFC 9110 5.6.2.
func isToken(s string) bool {
	return s != "" && len(s) <= maxWord && !strings.ContainsFunc(s, func(r rune) bool {
		return r <= ' ' || r > '~' || strings.ContainsRune(`"(),/:;<=>?@[\]{}`, r)
	})
}
