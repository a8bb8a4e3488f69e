// SPDX-License-Identifier: Apache-2.0

package signedconfig_test

import (
	"bytes"
	"crypto"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"fmt"
	"math/bits"
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"

	"github.com/heddle-mesh/heddle/internal/signedconfig"
)

func unknownCritical() []pkix.Extension {
	return []pkix.Extension{{Id: asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 99999, 1}, Critical: true, Value: []byte{5, 0}}}
}

func wireStatement(st *signedconfig.Statement) *signedconfig.WireStatement {
	return &signedconfig.WireStatement{
		Section: st.Section, MeshId: st.MeshID, Audience: st.Audience,
		Serial:   &signedconfig.WireSerial{Epoch: st.Serial.Epoch, Term: st.Serial.Term, Counter: st.Serial.Counter},
		IssuedAt: st.IssuedAt.UnixMilli(), NotAfter: st.NotAfter.UnixMilli(),
		PayloadType: st.PayloadType, Payload: st.Payload, Tombstone: st.Tombstone,
	}
}

// forge makes envelopes that a Signer would refuse to make. It also restates the format, so that a change of it shows.
func forge(t testing.TB, key crypto.Signer, chain []*x509.Certificate, st *signedconfig.Statement) []byte {
	t.Helper()
	return seal(t, key, chain, marshal(t, wireStatement(st)))
}

// seal signs bytes as if they were a statement.
func seal(t testing.TB, key crypto.Signer, chain []*x509.Certificate, body []byte) []byte {
	t.Helper()
	const kind = "application/vnd.heddle.statement.v1+protobuf"
	pae := fmt.Appendf(nil, "DSSEv1 %d %s %d %s", len(kind), kind, len(body), body)
	hash := crypto.Hash(0)
	if _, ok := key.(ed25519.PrivateKey); !ok {
		hash = crypto.SHA256
	}
	message := pae
	if hash != 0 {
		h := hash.New()
		h.Write(pae)
		message = h.Sum(nil)
	}
	signature, err := key.Sign(rand.Reader, message, hash)
	if err != nil {
		t.Fatal(err)
	}
	if len(signature) != 64 {
		signature = append(signature, make([]byte, 64)...)[:64]
	}
	wire := &signedconfig.WireEnvelope{Statement: body, Signature: signature}
	for _, cert := range chain {
		wire.Chain = append(wire.Chain, cert.Raw)
	}
	return marshal(t, wire)
}

func marshal(t testing.TB, m proto.Message) []byte {
	t.Helper()
	data, err := proto.MarshalOptions{Deterministic: true}.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// Every byte is replaced by every other value (with -short or -race, by those that differ in one bit or all): nothing of
// an envelope may be changed.
func TestAnySingleChangedByteIsRefused(t *testing.T) {
	t.Parallel()
	ca := newAuthority(t, "config", nil)
	data := sign(t, newSigner(t, ca, nil), statement())
	verifier := newVerifier(ca)
	if _, err := verifier.Verify(data, signedconfig.FromStore); err != nil {
		t.Fatal(err)
	}
	var flips []byte
	for flip := 1; flip < 256; flip++ {
		if n := bits.OnesCount8(uint8(flip)); n == 1 || n == 8 || !testing.Short() && !raceDetector {
			flips = append(flips, byte(flip))
		}
	}
	for i := range data {
		for _, flip := range flips {
			changed := slices.Clone(data)
			changed[i] ^= flip
			if st, err := verifier.Verify(changed, signedconfig.FromStore); err == nil {
				t.Fatalf("byte %d of %d changed by %#x: accepted %+v", i, len(data), flip, st)
			}
		}
	}
	t.Logf("%d changes of %d bytes refused", len(data)*len(flips), len(data))
}

func TestAnyCutOrAdditionIsRefused(t *testing.T) {
	t.Parallel()
	ca := newAuthority(t, "config", nil)
	data := sign(t, newSigner(t, ca, nil), statement())
	verifier := newVerifier(ca)
	for n := range data {
		if _, err := verifier.Verify(data[:n], signedconfig.FromStore); err == nil {
			t.Fatalf("cut to %d of %d bytes: accepted", n, len(data))
		}
		if n > 0 {
			if _, err := verifier.Verify(slices.Delete(slices.Clone(data), n-1, n), signedconfig.FromStore); err == nil {
				t.Fatalf("byte %d left out: accepted", n-1)
			}
		}
		if _, err := verifier.Verify(slices.Insert(slices.Clone(data), n, 0), signedconfig.FromStore); err == nil {
			t.Fatalf("a zero put before byte %d: accepted", n)
		}
	}
	for _, tail := range [][]byte{{0}, {0x0a, 0}, data, bytes.Repeat([]byte{0x1a, 0}, 100)} {
		if _, err := verifier.Verify(slices.Concat(data, tail), signedconfig.FromStore); err == nil {
			t.Fatalf("%d bytes added: accepted", len(tail))
		}
	}
}

// Statements that are signed well but encoded in another way, or break a rule.
func TestStatementsOfAnotherFormAreRefused(t *testing.T) {
	t.Parallel()
	ca := newAuthority(t, "config", nil)
	key := ed25519Key(t)
	chain := []*x509.Certificate{issue(t, signerTemplate(), key, ca)}
	good := marshal(t, wireStatement(statement()))
	changed := func(change func(*signedconfig.WireStatement)) []byte {
		wire := wireStatement(statement())
		change(wire)
		return marshal(t, wire)
	}
	cases := map[string][]byte{
		"an unknown field":           protowire.AppendVarint(protowire.AppendTag(slices.Clone(good), 10, protowire.VarintType), 1),
		"a field twice":              slices.Concat(good, good[:2+len(section)]),
		"a false that is written":    append(slices.Clone(good), 0x48, 0),
		"a true of two":              append(slices.Clone(good), 0x48, 2),
		"nothing":                    {},
		"garbage":                    []byte("garbage"),
		"no section":                 changed(func(w *signedconfig.WireStatement) { w.Section = "" }),
		"a long section":             changed(func(w *signedconfig.WireStatement) { w.Section = strings.Repeat("x", 601) }),
		"a section in two lines":     changed(func(w *signedconfig.WireStatement) { w.Section = "mesh\nx" }),
		"no mesh ID":                 changed(func(w *signedconfig.WireStatement) { w.MeshId = "" }),
		"no audience":                changed(func(w *signedconfig.WireStatement) { w.Audience = "" }),
		"no payload type":            changed(func(w *signedconfig.WireStatement) { w.PayloadType = "" }),
		"no serial":                  changed(func(w *signedconfig.WireStatement) { w.Serial = nil }),
		"a serial of zero":           changed(func(w *signedconfig.WireStatement) { w.Serial = &signedconfig.WireSerial{} }),
		"no date of issue":           changed(func(w *signedconfig.WireStatement) { w.IssuedAt = 0 }),
		"no expiry":                  changed(func(w *signedconfig.WireStatement) { w.NotAfter = 0 }),
		"an expiry beyond all dates": changed(func(w *signedconfig.WireStatement) { w.NotAfter = 1 << 62 }),
		"expired before issued":      changed(func(w *signedconfig.WireStatement) { w.NotAfter = w.IssuedAt - 1 }),
		"a tombstone with a payload": changed(func(w *signedconfig.WireStatement) { w.Tombstone = true }),
	}
	if _, err := newVerifier(ca).Verify(seal(t, key, chain, good), signedconfig.OnArrival); err != nil {
		t.Fatal(err)
	}
	for name, body := range cases {
		_, err := newVerifier(ca).Verify(seal(t, key, chain, body), signedconfig.OnArrival)
		if reasonOf(t, err) != signedconfig.ReasonEncoding {
			t.Errorf("%s: got %v, want a refusal of the encoding", name, err)
		}
	}
}

func TestDecodeBoundsWhatItReads(t *testing.T) {
	t.Parallel()
	ca := newAuthority(t, "config", nil)
	signer := newSigner(t, ca, nil)
	big := statement()
	big.Payload = make([]byte, signedconfig.MaxEnvelopeSize)
	if _, err := signer.Sign(big); err == nil {
		t.Error("signed an envelope that nobody would take")
	}
	key := ed25519Key(t)
	cert := issue(t, signerTemplate(), key, ca)
	for name, data := range map[string][]byte{
		"more than a mebibyte": make([]byte, signedconfig.MaxEnvelopeSize+1),
		"five certificates":    forge(t, key, []*x509.Certificate{cert, cert, cert, cert, cert}, statement()),
		"no certificate":       forge(t, key, nil, statement()),
		"empty fields":         bytes.Repeat([]byte{0x1a, 0}, signedconfig.MaxEnvelopeSize/2),
		"an open group":        bytes.Repeat([]byte{0x0b}, 20000),
	} {
		_, err := signedconfig.Decode(data)
		if reasonOf(t, err) != signedconfig.ReasonEncoding {
			t.Errorf("%s: got %v", name, err)
		}
	}
}

func TestSignerCapsNotAfter(t *testing.T) {
	t.Parallel()
	ca := newAuthority(t, "config", nil)
	signer := newSigner(t, ca, nil)
	for name, c := range map[string]struct{ asked, want time.Time }{
		"none":                  {time.Time{}, signer.NotAfter()},
		"later than the signer": {signer.NotAfter().Add(time.Hour), signer.NotAfter()},
		"earlier":               {now.Add(time.Minute), now.Add(time.Minute)},
	} {
		st := statement()
		st.NotAfter = c.asked
		got, err := newVerifier(ca).Verify(sign(t, signer, st), signedconfig.OnArrival)
		if err != nil || !got.NotAfter.Equal(c.want) {
			t.Errorf("%s: got %v, %v; want %v", name, got, err, c.want)
		}
		if !st.NotAfter.Equal(c.asked) {
			t.Errorf("%s: the statement was changed", name)
		}
	}
}

func TestDigestTellsTombstonesApart(t *testing.T) {
	t.Parallel()
	empty, gone := statement(), statement()
	empty.Payload = nil
	gone.Payload, gone.Tombstone = nil, true
	if empty.Digest() == gone.Digest() || empty.Digest() == statement().Digest() {
		t.Error("two contents have one digest")
	}
}

func FuzzDecode(f *testing.F) {
	ca := newAuthority(f, "config", nil)
	signer, verifier := newSigner(f, ca, nil), newVerifier(ca)
	good := sign(f, signer, statement())
	gone := statement()
	gone.Payload, gone.Tombstone = nil, true
	f.Add(good)
	f.Add(sign(f, signer, gone))
	f.Add([]byte{})
	f.Add(bytes.Repeat([]byte{0x1a, 0}, 3))
	f.Fuzz(func(t *testing.T, data []byte) {
		e, err := signedconfig.Decode(data)
		if err != nil {
			reasonOf(t, err)
			return
		}
		if len(e.Chain) == 0 || e.Section == "" || e.Serial.IsZero() {
			t.Fatalf("decoded without what it must have: %+v", e)
		}
		// The fuzzer has no key, so only the seeds verify.
		if st, err := verifier.Verify(data, signedconfig.OnArrival); err == nil && st.Section != section {
			t.Fatalf("verified %+v", st)
		}
	})
}
