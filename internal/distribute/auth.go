// SPDX-License-Identifier: Apache-2.0

package distribute

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"slices"
	"time"

	"connectrpc.com/connect"

	"github.com/heddle-mesh/heddle/internal/identity"
)

// Refusal is why a stream was turned away or ended: a label of metrics.
type Refusal string

// The refusals.
const (
	RefusedCertificate Refusal = "certificate"   // none, or of no CA of ours, or expired
	RefusedPod         Refusal = "pod"           // no live injected pod has the UID
	RefusedIdentity    Refusal = "identity"      // the pod is of another service account
	RefusedProtocol    Refusal = "protocol"      // messages out of order, malformed or out of bounds
	RefusedForbidden   Refusal = "forbidden"     // a section or message that is not for this caller
	RefusedTooMany     Refusal = "too_many"      // subscriptions
	RefusedTimeout     Refusal = "first_message" // said nothing in time
	RefusedNotLeader   Refusal = "not_leader"    // a replica asked one that does not lead
)

// refusal is an error that is counted.
type refusal struct {
	why Refusal
	err *connect.Error
}

func (r *refusal) Error() string { return r.err.Error() }

func refuse(why Refusal, code connect.Code, format string, args ...any) *refusal {
	return &refusal{why, connect.NewError(code, fmt.Errorf(format, args...))}
}

// caller is who opened a stream.
type caller struct {
	replica bool
	id      identity.ID // of a workload
}

// authenticate finds out who the peer of a TLS connection is. TLS has proved that it has the key of its certificate, and
// nothing else.
func authenticate(opts *Options, state *tls.ConnectionState, now time.Time) (caller, *refusal) {
	if state == nil || len(state.PeerCertificates) == 0 {
		return caller{}, refuse(RefusedCertificate, connect.CodeUnauthenticated,
			"no client certificate: a proxy presents its workload certificate, a replica its serving certificate")
	}
	leaf := state.PeerCertificates[0]
	if slices.Contains(leaf.DNSNames, opts.ServerName) {
		if err := verifyReplica(opts, state.PeerCertificates, now); err != nil {
			return caller{}, refuse(RefusedCertificate, connect.CodeUnauthenticated, "certificate of a replica: %v", err)
		}
		return caller{replica: true}, nil
	}
	raw := make([][]byte, len(state.PeerCertificates))
	for i, cert := range state.PeerCertificates {
		raw[i] = cert.Raw
	}
	id, _, err := identity.VerifyPeer(opts.WorkloadRoots(), now, x509.ExtKeyUsageClientAuth, raw)
	if err != nil {
		return caller{}, refuse(RefusedCertificate, connect.CodeUnauthenticated, "certificate of a workload: %v", err)
	}
	if id.TrustDomain != opts.TrustDomain {
		return caller{}, refuse(RefusedIdentity, connect.CodePermissionDenied,
			"%s is not of trust domain %q", id, opts.TrustDomain)
	}
	return caller{id: id}, nil
}

// verifyReplica verifies a chain to the CA of the control servers, whose exact name the leaf has.
func verifyReplica(opts *Options, chain []*x509.Certificate, now time.Time) error {
	roots := opts.ServingRoots()
	if roots == nil {
		return errors.New("no serving roots yet") // nil would mean the roots of the system
	}
	leaf := chain[0]
	if leaf.IsCA || len(leaf.URIs) > 0 {
		return errors.New("it is a CA's or has a URI name")
	}
	if !slices.Contains(leaf.ExtKeyUsage, x509.ExtKeyUsageClientAuth) {
		return errors.New("it lacks the extended key usage for clients")
	}
	intermediates := x509.NewCertPool()
	for _, cert := range chain[1:] {
		intermediates.AddCert(cert)
	}
	_, err := leaf.Verify(x509.VerifyOptions{
		Roots: roots, Intermediates: intermediates, CurrentTime: now,
		KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	})
	return err
}
