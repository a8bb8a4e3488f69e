// SPDX-License-Identifier: Apache-2.0

package issue

import (
	"errors"
	"fmt"

	"connectrpc.com/connect"
)

// Reason says in one word why a certificate was not issued. It labels the counter and stands in the answer's header
// ReasonHeader, so there are few of them and they never change their meaning.
type Reason string

// ReasonHeader is the header of a refusal that carries its Reason.
const ReasonHeader = "Heddle-Reason"

// What is wrong with the request itself: asking again with the same request does not help.
const (
	ReasonRequest    Reason = "bad_request"       // not a request of the protocol, or larger than any honest one
	ReasonTooLarge   Reason = "too_large"         // CSR or token over its bound
	ReasonMalformed  Reason = "csr_malformed"     // not a strict PKCS #10 request
	ReasonSignature  Reason = "csr_signature"     // not signed by the key it carries
	ReasonKey        Reason = "csr_key"           // not ECDSA P-256
	ReasonSubject    Reason = "csr_subject"       // has a subject
	ReasonExtension  Reason = "csr_extension"     // asks for anything but subject alternative names
	ReasonNames      Reason = "csr_names"         // other than exactly one URI name
	ReasonIdentity   Reason = "identity_mismatch" // asks for another identity than the token's
	ReasonToken      Reason = "token_invalid"     // the API server does not accept the token for this audience
	ReasonUnbound    Reason = "token_unbound"     // the token is of no pod, or of no service account
	ReasonPod        Reason = "pod_mismatch"      // the token's pod is gone, replaced or of another service account
	ReasonFinished   Reason = "pod_finished"      // the pod has ended
	ReasonUninjected Reason = "pod_not_injected"  // the pod is not in the mesh
	ReasonDenied     Reason = "denied"            // an approver denied the request
)

// What may be different on the next try.
const (
	ReasonRateLimited Reason = "rate_limited"   // this pod, or this address, asks too often
	ReasonOverloaded  Reason = "overloaded"     // too many at once
	ReasonAPIServer   Reason = "api_server"     // the API server did not answer
	ReasonNotApproved Reason = "not_approved"   // nobody approved the request in time
	ReasonTimeout     Reason = "issuer_timeout" // the issuer did not sign in time
	ReasonFailed      Reason = "issuer_failed"  // the issuer refused
	ReasonChain       Reason = "chain_invalid"  // what the issuer returned is not what was asked for
	ReasonRootPending Reason = "root_pending"   // signed by a root that not every proxy trusts yet
	ReasonCanceled    Reason = "canceled"       // the caller went away
	resultIssued             = "issued"         // of the counter alone
	resultUnknown            = "unknown"        // of the counter alone; a bug if it is seen
)

// codes gives each reason the Connect code that tells a client whether to try again.
var codes = map[Reason]connect.Code{
	ReasonRequest:     connect.CodeInvalidArgument,
	ReasonTooLarge:    connect.CodeInvalidArgument,
	ReasonMalformed:   connect.CodeInvalidArgument,
	ReasonSignature:   connect.CodeInvalidArgument,
	ReasonKey:         connect.CodeInvalidArgument,
	ReasonSubject:     connect.CodeInvalidArgument,
	ReasonExtension:   connect.CodeInvalidArgument,
	ReasonNames:       connect.CodeInvalidArgument,
	ReasonIdentity:    connect.CodePermissionDenied,
	ReasonToken:       connect.CodeUnauthenticated,
	ReasonUnbound:     connect.CodeUnauthenticated,
	ReasonPod:         connect.CodePermissionDenied,
	ReasonFinished:    connect.CodePermissionDenied,
	ReasonUninjected:  connect.CodePermissionDenied,
	ReasonDenied:      connect.CodePermissionDenied,
	ReasonRateLimited: connect.CodeResourceExhausted,
	ReasonOverloaded:  connect.CodeResourceExhausted,
	ReasonAPIServer:   connect.CodeUnavailable,
	ReasonNotApproved: connect.CodeUnavailable,
	ReasonTimeout:     connect.CodeUnavailable,
	ReasonFailed:      connect.CodeUnavailable,
	ReasonChain:       connect.CodeUnavailable,
	ReasonRootPending: connect.CodeUnavailable,
	ReasonCanceled:    connect.CodeCanceled,
}

// Refusal is why no certificate was issued, and what to do about it.
type Refusal struct {
	Reason Reason
	Detail string
}

func (r *Refusal) Error() string { return string(r.Reason) + ": " + r.Detail }

func refuse(reason Reason, format string, args ...any) *Refusal {
	return &Refusal{Reason: reason, Detail: fmt.Sprintf(format, args...)}
}

// connectError turns any error of this package into what the client sees.
func connectError(err error) *connect.Error {
	refusal, ok := errors.AsType[*Refusal](err)
	if !ok {
		return connect.NewError(connect.CodeInternal, err)
	}
	e := connect.NewError(codes[refusal.Reason], refusal)
	e.Meta().Set(ReasonHeader, string(refusal.Reason))
	return e
}

// result is the label of the counter.
func result(err error) string {
	if err == nil {
		return resultIssued
	}
	if refusal, ok := errors.AsType[*Refusal](err); ok {
		return string(refusal.Reason)
	}
	return resultUnknown
}
