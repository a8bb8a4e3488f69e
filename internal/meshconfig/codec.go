// SPDX-License-Identifier: Apache-2.0

package meshconfig

import (
	"bytes"
	"fmt"

	"google.golang.org/protobuf/proto"
)

// MaxPayload bounds a payload, in bytes: an envelope is at most a mebibyte, and holds a chain beside it.
const MaxPayload = 1<<20 - 1<<16

// newMessage returns an empty payload of a kind, or nil for a kind that there is not.
func newMessage(kind Kind) proto.Message {
	switch kind {
	case KindMesh:
		return &Mesh{}
	case KindHeartbeat:
		return &Heartbeat{}
	case KindBinding:
		return &Binding{}
	case KindInbound:
		return &Inbound{}
	case KindRoutes:
		return &Routes{}
	case KindEndpoints:
		return &Endpoints{}
	case KindAddress:
		return &Address{}
	default:
		return nil
	}
}

// PayloadType returns the media type that the payload of a kind is signed with.
func PayloadType(kind Kind) string { return "application/vnd.heddle." + string(kind) + ".v1+protobuf" }

// Encode returns the one encoding of a payload: fields in order, no unknown ones. Equal messages have equal bytes. It
// returns nil for a message that has no encoding, which is one with a string that is not UTF-8.
func Encode(m proto.Message) []byte {
	data, err := proto.MarshalOptions{Deterministic: true}.Marshal(m)
	if err != nil {
		return nil
	}
	return data
}

// Decode reads the payload of a section by the kind that its name says. It refuses bytes that do not re-encode to
// themselves: unknown and repeated fields, fields out of order, numbers spelled in a longer way. It does not judge the
// content; Validate does.
func Decode(name Name, payload []byte) (proto.Message, error) {
	m := newMessage(name.Kind())
	if m == nil {
		return nil, fmt.Errorf("section %.80q: unknown kind", string(name))
	}
	if len(payload) > MaxPayload {
		return nil, fmt.Errorf("section %s: payload of %d bytes: at most %d", name, len(payload), MaxPayload)
	}
	if err := (proto.UnmarshalOptions{DiscardUnknown: true}).Unmarshal(payload, m); err != nil {
		return nil, fmt.Errorf("section %s: %w", name, err)
	}
	if !bytes.Equal(Encode(m), payload) {
		return nil, fmt.Errorf("section %s: payload is not in its one encoding", name)
	}
	return m, nil
}
