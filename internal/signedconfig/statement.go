// SPDX-License-Identifier: Apache-2.0

package signedconfig

import (
	"crypto/sha256"
	"strconv"
	"time"

	"google.golang.org/protobuf/proto"
)

// Statement is what is signed of one section.
type Statement struct {
	Section     string
	MeshID      string // UID of the kube-system namespace
	Audience    string // AudienceMesh, or AudiencePod of one
	Serial      Serial
	IssuedAt    time.Time // whole milliseconds
	NotAfter    time.Time // whole milliseconds; judged on arrival only
	PayloadType string
	Payload     []byte // empty in a tombstone
	Tombstone   bool   // the section was deleted
}

// tombstoneDigest is no payload's digest: its preimage is not a protobuf message (it begins with a group's end).
var tombstoneDigest = sha256.Sum256([]byte("\x0cheddle signed config: tombstone"))

// Digest returns the SHA-256 of the payload, or the one digest of all tombstones.
func (s *Statement) Digest() [32]byte {
	if s.Tombstone {
		return tombstoneDigest
	}
	return sha256.Sum256(s.Payload)
}

// statementType is the type that DSSE's pre-authentication encoding binds beside the statement's bytes.
const statementType = "application/vnd.heddle.statement.v1+protobuf"

// preAuthEncoding is PAE of DSSE v1: "DSSEv1" SP LEN(type) SP type SP LEN(body) SP body, lengths in decimal.
func preAuthEncoding(statement []byte) []byte {
	out := make([]byte, 0, len(statement)+len(statementType)+32)
	out = append(out, "DSSEv1 "...)
	out = strconv.AppendInt(out, int64(len(statementType)), 10)
	out = append(out, ' ')
	out = append(out, statementType...)
	out = append(out, ' ')
	out = strconv.AppendInt(out, int64(len(statement)), 10)
	out = append(out, ' ')
	return append(out, statement...)
}

// encode returns the statement's one encoding, or why it has none.
func (s *Statement) encode() ([]byte, error) {
	if err := s.check(); err != nil {
		return nil, err
	}
	return proto.MarshalOptions{Deterministic: true}.Marshal(&WireStatement{
		Section:     s.Section,
		MeshId:      s.MeshID,
		Audience:    s.Audience,
		Serial:      &WireSerial{Epoch: s.Serial.Epoch, Term: s.Serial.Term, Counter: s.Serial.Counter},
		IssuedAt:    s.IssuedAt.UnixMilli(),
		NotAfter:    s.NotAfter.UnixMilli(),
		PayloadType: s.PayloadType,
		Payload:     s.Payload,
		Tombstone:   s.Tombstone,
	})
}

// check holds on both sides: nothing is signed that would be refused.
func (s *Statement) check() error {
	for _, f := range []struct {
		name, value string
		limit       int
	}{
		{"section", s.Section, maxSection},
		{"mesh ID", s.MeshID, maxText},
		{"audience", s.Audience, maxText},
		{"payload type", s.PayloadType, maxText},
	} {
		if !isText(f.value, f.limit) {
			return refuse(ReasonEncoding, "%s %.40q: want 1 to %d printable ASCII characters", f.name, f.value, f.limit)
		}
	}
	switch {
	case s.Serial.IsZero():
		return refuse(ReasonEncoding, "the serial is missing or zero")
	case !isDate(s.IssuedAt) || !isDate(s.NotAfter):
		return refuse(ReasonEncoding, "issued-at or not-after is missing or after the year 9999")
	case s.NotAfter.Before(s.IssuedAt):
		return refuse(ReasonEncoding, "not-after is before issued-at")
	case s.Tombstone && len(s.Payload) > 0:
		return refuse(ReasonEncoding, "a tombstone with a payload")
	}
	return nil
}

// isText says whether s is 1 to limit printable ASCII characters, spaces left out: what a line of text can hold.
func isText(s string, limit int) bool {
	if s == "" || len(s) > limit {
		return false
	}
	for i := range len(s) {
		if s[i] <= ' ' || s[i] > '~' {
			return false
		}
	}
	return true
}

var endOfDates = time.Date(10000, 1, 1, 0, 0, 0, 0, time.UTC).UnixMilli()

func isDate(t time.Time) bool {
	ms := t.UnixMilli()
	return ms > 0 && ms < endOfDates
}
