// SPDX-License-Identifier: Apache-2.0

// Package refusal is the one table of the reasons for which a proxy does not carry a request or connection, and of what
// it tells the caller. docs/refusals.md lists the same; a test compares.
package refusal

import (
	"fmt"
	"time"
)

// Reason is why something was refused: the value of the header `heddle-reason` and of the label `reason` in metrics.
type Reason string

// The reasons.
const (
	None               Reason = ""
	BadRequest         Reason = "bad_request"
	UnknownDestination Reason = "unknown_destination"
	NoEndpoints        Reason = "no_endpoints"
	ConnectFailed      Reason = "connect_failed"
	PeerIdentity       Reason = "peer_identity"
	Overloaded         Reason = "overloaded"
	UpstreamFailed     Reason = "upstream_failed"
	Timeout            Reason = "timeout"
	Denied             Reason = "denied"
	PlaintextRefused   Reason = "plaintext_refused"
	TLSFailed          Reason = "tls_failed"
	NoFirstByte        Reason = "no_first_byte"
	PolicyChanged      Reason = "policy_changed"
	NotReady           Reason = "not_ready"
	CallerGone         Reason = "caller_gone"
	NotRedirected      Reason = "not_redirected"
	CircuitOpen        Reason = "circuit_open"
	RateLimited        Reason = "rate_limited"
	FaultInjected      Reason = "fault_injected"
)

// Header is the name of the header that carries the reason to an HTTP caller.
const Header = "Heddle-Reason"

// Meaning is what a proxy does with, and tells about, one reason.
type Meaning struct {
	// Status is the HTTP status of the answer; 0 where nothing can be answered, so that the connection is closed.
	Status int
	// GRPC is the code that a gRPC caller gets, as grpc-status in an answer of status 200.
	GRPC int
	// What happened, in a sentence without its end.
	What string
	// Fix is what a user can do about it.
	Fix string
}

// meanings is the table. Codes of gRPC: 3 INVALID_ARGUMENT, 4 DEADLINE_EXCEEDED, 7 PERMISSION_DENIED,
// 8 RESOURCE_EXHAUSTED, 14 UNAVAILABLE, 1 CANCELLED.
var meanings = map[Reason]Meaning{
	BadRequest: {
		400, 3, "the request is not one that HTTP allows, or can be read in two ways",
		"correct the client: the detail says what is wrong",
	},
	UnknownDestination: {
		502, 14, "the address is inside the mesh's networks, but no Service, port or pod has it",
		"check the address and port, and that the operator is reachable: kubectl get svc,endpointslices -A",
	},
	NoEndpoints: {
		503, 14, "the backend has no ready endpoint",
		"check that the pods of the Service are ready and that its selector matches them",
	},
	ConnectFailed: {
		503, 14, "no connection to the endpoint could be made",
		"check that the application listens on the port that the Service names and that no NetworkPolicy is between",
	},
	PeerIdentity: {
		503, 14, "the endpoint did not prove the identity that its service account gives it",
		"if pods were just replaced, wait for the endpoints to arrive; otherwise something answers in the place of the pod",
	},
	Overloaded: {
		503, 8, "as many connections as are allowed are open or being made",
		"add endpoints, or raise the limit",
	},
	UpstreamFailed: {
		502, 14, "the endpoint closed the connection, or broke HTTP, before it had answered",
		"look at the application's log at this time",
	},
	Timeout: {
		504, 4, "the route's timeout passed",
		"make the application faster or raise the route's timeouts in the ServiceProfile: the detail says which",
	},
	Denied: {
		403, 7, "a MeshPolicy denies the caller",
		"allow the caller in the rule that is named; default is the policy's defaultAction",
	},
	PlaintextRefused: {
		403, 7, "the port takes mTLS callers alone and this one has no identity",
		"bring the caller into the mesh, or set mtls of the workload, or of this port alone, to Permissive in a MeshPolicy",
	},
	TLSFailed: {
		0, 0, "the caller's mesh TLS could not be set up, or its certificate was refused",
		"check that caller and server have the same trust domain and roots and that their clocks agree",
	},
	NoFirstByte: {
		0, 0, "the caller opened a connection and sent nothing",
		"declare the port's protocol as TCP in a ServiceProfile if its server speaks first",
	},
	PolicyChanged: {
		403, 7, "a changed MeshPolicy denies what was open already",
		"allow the caller in the rule that is named; default is the policy's defaultAction",
	},
	NotReady: {
		503, 14, "the proxy has no policy or certificate yet",
		"wait a moment; if it lasts, look at the proxy's log and its /ready",
	},
	CallerGone: {
		499, 1, "the caller went away before the answer was complete",
		"nothing, unless it happens often: then look at the caller's timeouts",
	},
	NotRedirected: {
		0, 0, "the connection came to a port of the proxy itself, or was not for this pod",
		"call the application's port",
	},
	CircuitOpen: {
		503, 14, "the caller's proxy has as much under way to the service, or to the endpoint, as the bound that is named allows",
		"add endpoints, make the application faster, or raise the bound under circuitBreaker in the ServiceProfile",
	},
	RateLimited: {
		429, 8, "a rate limit of a MeshPolicy has no token left",
		"call less often, come back after Retry-After, or raise the limit that is named",
	},
	FaultInjected: {
		503, 14, "a fault of a ServiceProfile was injected, for practice",
		"nothing: it ends at its expiresAt; to end it now, take it out of the ServiceProfile",
	},
}

// Meaning returns what the reason means; of one that the table lacks, that of UpstreamFailed.
func (r Reason) Meaning() Meaning {
	if m, ok := meanings[r]; ok {
		return m
	}
	return meanings[UpstreamFailed]
}

// All returns every reason in the order in which the docs list them.
func All() []Reason {
	return []Reason{
		BadRequest, UnknownDestination, NoEndpoints, ConnectFailed, PeerIdentity, Overloaded, UpstreamFailed, Timeout,
		Denied, PlaintextRefused, TLSFailed, NoFirstByte, PolicyChanged, NotReady, CallerGone, NotRedirected,
		CircuitOpen, RateLimited, FaultInjected,
	}
}

// Error is a refusal as an error.
type Error struct {
	Reason Reason
	// Rule is the authorization rule, "namespace/policy/rule", that a denial cites; or empty.
	Rule string
	// Detail says what this one was about, such as the address; it goes to the caller and to the log, not to metrics.
	Detail string
	// Undelivered says that the application cannot have seen the request, so that it may be sent again whatever it is.
	Undelivered bool
	// RetryAfter is how long the caller should wait before it tries again; 0: nobody knows.
	RetryAfter time.Duration
	// Cause is what failed underneath; it goes to the log alone.
	Cause error
}

// Newf makes an Error with a detail.
func Newf(reason Reason, format string, args ...any) *Error {
	return &Error{Reason: reason, Detail: fmt.Sprintf(format, args...)}
}

// Error gives reason, detail and cause.
func (e *Error) Error() string {
	s := string(e.Reason)
	if e.Detail != "" {
		s += ": " + e.Detail
	}
	if e.Rule != "" {
		s += " (rule " + e.Rule + ")"
	}
	if e.Cause != nil {
		s += ": " + e.Cause.Error()
	}
	return s
}

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Cause }

// Body is the plain text that an HTTP caller reads: what happened, the detail and what to do, a line each.
func (e *Error) Body() string {
	m := e.Reason.Meaning()
	s := "heddle: " + string(e.Reason) + ": " + m.What + ".\n"
	if e.Detail != "" {
		s += "detail: " + e.Detail + "\n"
	}
	if e.Rule != "" {
		s += "rule: " + e.Rule + "\n"
	}
	return s + "fix: " + m.Fix + ".\n"
}
