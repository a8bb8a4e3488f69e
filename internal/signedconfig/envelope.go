// SPDX-License-Identifier: Apache-2.0

package signedconfig

import (
	"bytes"
	"crypto/ed25519"
	"crypto/sha256"
	"crypto/x509"
	"encoding/binary"
	"time"

	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
)

// Envelope is a decoded envelope. Nothing in it is verified yet.
type Envelope struct {
	Statement

	Chain     []*x509.Certificate // the signer's, then intermediates
	signed    []byte              // the statement's encoding
	signature []byte
	chainID   [sha256.Size]byte // of the chain's bytes
}

// Signer returns the certificate of who claims to have signed.
func (e *Envelope) Signer() *x509.Certificate { return e.Chain[0] }

// Decode reads an envelope. It refuses whatever is not the one encoding of an envelope: too long, cut, extended, unknown
// or repeated fields, lengths and numbers spelled in another way. The result keeps no reference to data.
func Decode(data []byte) (*Envelope, error) {
	if len(data) > MaxEnvelopeSize {
		return nil, refuse(ReasonEncoding, "%d bytes: at most %d", len(data), MaxEnvelopeSize)
	}
	var wire WireEnvelope
	if err := decodeStrictly(data, &wire, 2+maxChain); err != nil {
		return nil, err
	}
	if len(wire.GetSignature()) != ed25519.SignatureSize {
		return nil, refuse(ReasonEncoding, "signature of %d bytes: want %d", len(wire.GetSignature()), ed25519.SignatureSize)
	}
	e := &Envelope{signed: wire.GetStatement(), signature: wire.GetSignature()}
	if err := e.decodeStatement(); err != nil {
		return nil, err
	}
	if err := e.decodeChain(wire.GetChain()); err != nil {
		return nil, err
	}
	return e, nil
}

func (e *Envelope) decodeStatement() error {
	var wire WireStatement
	if err := decodeStrictly(e.signed, &wire, 9); err != nil {
		return err
	}
	e.Statement = Statement{
		Section:     wire.GetSection(),
		MeshID:      wire.GetMeshId(),
		Audience:    wire.GetAudience(),
		Serial:      Serial{wire.GetSerial().GetEpoch(), wire.GetSerial().GetTerm(), wire.GetSerial().GetCounter()},
		IssuedAt:    time.UnixMilli(wire.GetIssuedAt()).UTC(),
		NotAfter:    time.UnixMilli(wire.GetNotAfter()).UTC(),
		PayloadType: wire.GetPayloadType(),
		Payload:     wire.GetPayload(),
		Tombstone:   wire.GetTombstone(),
	}
	return e.check()
}

func (e *Envelope) decodeChain(chain [][]byte) error {
	if len(chain) == 0 {
		return refuse(ReasonEncoding, "no certificate of a signer")
	}
	hash := sha256.New()
	for i, der := range chain {
		if len(der) > maxCertificate {
			return refuse(ReasonEncoding, "certificate %d of %d bytes: at most %d", i, len(der), maxCertificate)
		}
		cert, err := x509.ParseCertificate(der)
		if err != nil {
			return refuse(ReasonEncoding, "certificate %d: %v", i, err)
		}
		e.Chain = append(e.Chain, cert)
		hash.Write(binary.BigEndian.AppendUint32(nil, uint32(len(der))))
		hash.Write(der)
	}
	hash.Sum(e.chainID[:0])
	return nil
}

// decodeStrictly decodes one message of at most so many fields, and refuses bytes that do not re-encode to themselves.
func decodeStrictly(data []byte, m proto.Message, maxFields int) error {
	if err := countFields(data, maxFields); err != nil {
		return err
	}
	if err := (proto.UnmarshalOptions{DiscardUnknown: true}).Unmarshal(data, m); err != nil {
		return refuse(ReasonEncoding, "%s: %v", m.ProtoReflect().Descriptor().Name(), err)
	}
	again, err := proto.MarshalOptions{Deterministic: true}.Marshal(m)
	if err != nil || !bytes.Equal(again, data) {
		return refuse(ReasonEncoding, "%s: bytes are not in their one encoding", m.ProtoReflect().Descriptor().Name())
	}
	return nil
}

// countFields bounds what the decoder allocates: a megabyte of empty fields would be half a million of them.
func countFields(data []byte, limit int) error {
	for n := 0; len(data) > 0; n++ {
		if n == limit {
			return refuse(ReasonEncoding, "more than %d fields", limit)
		}
		_, _, size := protowire.ConsumeField(data)
		if size < 0 {
			return refuse(ReasonEncoding, "malformed field: %v", protowire.ParseError(size))
		}
		data = data[size:]
	}
	return nil
}
