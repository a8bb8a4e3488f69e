// SPDX-License-Identifier: Apache-2.0

// Package identity reads and checks the SPIFFE IDs of workloads, "spiffe://<trust domain>/ns/<namespace>/sa/<service
// account>", in text and in certificates. It uses the standard library alone, so that both sides of the mesh share it.
//
// Nothing here is lenient: an ID has one spelling, so that comparing IDs is comparing strings.
package identity

import (
	"errors"
	"fmt"
	"net/url"
	"strings"
)

// Bounds of an ID and its parts, in bytes. MaxLength is SPIFFE-ID 2.3, the trust domain's SPIFFE-ID 2.1; the others are
// those of Kubernetes names.
const (
	MaxLength            = 2048
	MaxTrustDomain       = 255
	maxNamespace         = 63
	maxServiceAccount    = 253
	scheme               = "spiffe://"
	namespaceSegment     = "ns"
	serviceAccountPrefix = "sa"
)

// ID is the identity of a workload. Pods that share a service account share it. The zero ID is nobody.
type ID struct {
	TrustDomain    string
	Namespace      string
	ServiceAccount string
}

// Parse reads an ID. It refuses whatever is not exactly of the form above: other schemes and paths, upper case, ports,
// user info, queries, fragments, percent escapes, and empty or dot segments (SPIFFE-ID 2.1 to 2.4).
func Parse(s string) (ID, error) {
	if len(s) > MaxLength {
		return ID{}, fmt.Errorf("SPIFFE ID of %d bytes: at most %d", len(s), MaxLength)
	}
	rest, ok := strings.CutPrefix(s, scheme)
	if !ok {
		return ID{}, fmt.Errorf("SPIFFE ID %q: must start with %q", s, scheme)
	}
	parts := strings.Split(rest, "/")
	if len(parts) != 5 || parts[1] != namespaceSegment || parts[3] != serviceAccountPrefix {
		return ID{}, fmt.Errorf("SPIFFE ID %q: want spiffe://<trust domain>/ns/<namespace>/sa/<service account>", s)
	}
	id := ID{TrustDomain: parts[0], Namespace: parts[2], ServiceAccount: parts[4]}
	if err := id.Validate(); err != nil {
		return ID{}, fmt.Errorf("SPIFFE ID %q: %w", s, err)
	}
	return id, nil
}

// Validate says whether the parts of an ID that was put together by hand are well-formed.
func (id ID) Validate() error {
	if err := ValidateTrustDomain(id.TrustDomain); err != nil {
		return err
	}
	if !isName(id.Namespace, maxNamespace, "-") {
		return fmt.Errorf("namespace %q: want a DNS label", id.Namespace)
	}
	if !isName(id.ServiceAccount, maxServiceAccount, "-.") {
		return fmt.Errorf("service account %q: want a DNS name in lower case", id.ServiceAccount)
	}
	return nil
}

// ValidateTrustDomain refuses what SPIFFE-ID 2.1 does, and names that do not begin and end with a letter or digit.
func ValidateTrustDomain(s string) error {
	if s == "" {
		return errors.New("trust domain is empty")
	}
	if !isName(s, MaxTrustDomain, "-._") {
		return fmt.Errorf("trust domain %q: want at most %d of a-z, 0-9, dot, dash and underscore, a letter or digit at both ends",
			s, MaxTrustDomain)
	}
	return nil
}

// String returns the one spelling of the ID, or "" for the zero ID.
func (id ID) String() string {
	if id.IsZero() {
		return ""
	}
	return scheme + id.TrustDomain + "/" + namespaceSegment + "/" + id.Namespace + "/" + serviceAccountPrefix + "/" + id.ServiceAccount
}

// URL returns the ID as a certificate request carries it.
func (id ID) URL() *url.URL {
	return &url.URL{
		Scheme: "spiffe",
		Host:   id.TrustDomain,
		Path:   "/" + namespaceSegment + "/" + id.Namespace + "/" + serviceAccountPrefix + "/" + id.ServiceAccount,
	}
}

// IsZero says whether the ID is nobody's.
func (id ID) IsZero() bool { return id == ID{} }

// isName says whether s is 1 to limit bytes of a-z, 0-9 and, but at the ends, the others.
func isName(s string, limit int, others string) bool {
	if s == "" || len(s) > limit {
		return false
	}
	for i := range len(s) {
		c := s[i]
		if 'a' <= c && c <= 'z' || '0' <= c && c <= '9' {
			continue
		}
		if i == 0 || i == len(s)-1 || strings.IndexByte(others, c) < 0 {
			return false
		}
	}
	return true
}
