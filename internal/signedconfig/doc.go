// SPDX-License-Identifier: Apache-2.0

// Package signedconfig signs one section of config and checks it: envelopes, serials and floors. Payloads are opaque
// bytes here; package meshconfig knows what is in them.
//
// What is signed is DSSE's pre-authentication encoding (github.com/secure-systems-lab/dsse, protocol.md) of a
// deterministically encoded WireStatement. Everything that a receiver acts on is in the statement: section name, mesh
// ID, audience, serial, times, payload type and payload. Decoding is strict: bytes that do not re-encode to themselves
// are refused, and so is a certificate in the chain that verifying does not use. So an envelope has one encoding, and
// any single flipped bit makes it invalid.
//
// A receiver asks three questions: is it signed by the config signer and meant for me (Verifier), is it newer than what
// I accepted before (Floors), is its payload sound (meshconfig.Decode and Validate).
package signedconfig

import "fmt"

// Bounds of what is decoded. MaxEnvelopeSize is in bytes and holds before anything is parsed.
const (
	MaxEnvelopeSize = 1 << 20
	maxChain        = 4       // certificates
	maxCertificate  = 1 << 13 // bytes of one
	maxSection      = 600     // bytes of a name
	maxText         = 128     // bytes of mesh ID, audience and payload type
)

// SignerName is the DNS name that the certificate of the config signer carries. No workload's certificate has a DNS name.
const SignerName = "heddle-config-signer"

// AudienceMesh is the audience of a section for every proxy.
const AudienceMesh = "mesh"

// AudiencePod is the audience of a section for one pod.
func AudiencePod(uid string) string { return "pod/" + uid }

// The values of Error.Reason: constants fit for a metric's label.
const (
	ReasonEncoding     = "encoding"      // not an envelope, or not in its one encoding
	ReasonSigner       = "signer"        // the signer's certificate is not the config signer's, or of another CA
	ReasonSignature    = "signature"     // the signature is not the signer's over this statement
	ReasonMeshID       = "mesh_id"       // meant for another mesh
	ReasonAudience     = "audience"      // meant for another pod
	ReasonExpired      = "expired"       // the statement or its signer has expired
	ReasonNotYetValid  = "not_yet_valid" // issued, or its signer valid, only in the future
	ReasonSerial       = "serial"        // not newer than what was accepted
	ReasonNotRequested = "not_requested" // a section that nobody asked for
	ReasonPayload      = "payload"       // the payload does not decode or breaks a bound
)

// Error says why an envelope is refused. Reason is one of the constants above; Detail is for people.
type Error struct {
	Reason string
	Detail string
}

func (e *Error) Error() string { return "signed config refused (" + e.Reason + "): " + e.Detail }

func refuse(reason, format string, args ...any) *Error {
	return &Error{Reason: reason, Detail: fmt.Sprintf(format, args...)}
}
