// SPDX-License-Identifier: Apache-2.0

package controllers

import (
	"bytes"
	"crypto/sha256"
	"crypto/x509"
	"encoding/pem"
	"slices"
	"sync"
	"time"
)

// RootsConfigMap is the name of the ConfigMap, in the operator's namespace and in each meshed one, that proxies mount.
const RootsConfigMap = "heddle-roots"

// RootsKey is a key of that ConfigMap.
type RootsKey string

// The keys: whom a proxy believes to be the control server, and whom to have signed config.
const (
	RootsOperator RootsKey = "operator.pem"
	RootsConfig   RootsKey = "config.pem"
)

// maxTrustRoots bounds each set: every root is one more key that could deceive the proxies.
const maxTrustRoots = 16

// TrustRoots knows the CA certificates in use, by key. Those of before are kept in the ConfigMap of the operator's
// namespace until they expire, so that a rotation is an overlap; taking one out there takes it out of use.
type TrustRoots struct {
	Clock func() time.Time
	// Changed wakes the roots controller.
	Changed Signal

	mu      sync.Mutex
	kept    map[RootsKey][]*x509.Certificate // as the ConfigMap last had them
	current map[RootsKey][]*x509.Certificate // as their Secrets have them
	since   map[[sha256.Size]byte]time.Time  // when one came that was not the first
}

// Learn says which CA certificates are in use for a key now.
func (t *TrustRoots) Learn(key RootsKey, certs []*x509.Certificate) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if slices.EqualFunc(t.current[key], certs, (*x509.Certificate).Equal) {
		return
	}
	if t.current == nil {
		t.current = make(map[RootsKey][]*x509.Certificate)
		t.since = make(map[[sha256.Size]byte]time.Time)
	}
	for _, cert := range certs {
		if before := slices.Concat(t.kept[key], t.current[key]); len(before) > 0 && !holds(before, cert) {
			t.since[sha256.Sum256(cert.Raw)] = t.Clock()
		}
	}
	t.current[key] = certs
	t.Changed.Notify()
}

// LearnPEM is Learn of certificates in PEM.
func (t *TrustRoots) LearnPEM(key RootsKey, data []byte) error {
	certs, err := certificatesOf(data)
	if err != nil {
		return err
	}
	t.Learn(key, certs)
	return nil
}

// Settled says how much longer it is until proxies can be expected to know one of these roots.
func (t *TrustRoots) Settled(key RootsKey, anchors []*x509.Certificate, now time.Time) time.Duration {
	t.mu.Lock()
	defer t.mu.Unlock()
	wait := rootsHold
	for _, anchor := range anchors {
		since, isNew := t.since[sha256.Sum256(anchor.Raw)]
		if !isNew {
			return 0
		}
		wait = min(wait, since.Add(rootsHold).Sub(now))
	}
	return max(wait, 0)
}

// Merge returns the data that the ConfigMap should have, given what it has in the operator's namespace: the roots in use
// and those of before that have not expired. A key of which nothing is known is left out.
func (t *TrustRoots) Merge(data map[string]string) map[string]string {
	t.mu.Lock()
	defer t.mu.Unlock()
	out := make(map[string]string, 2)
	t.kept = make(map[RootsKey][]*x509.Certificate, 2)
	for _, key := range []RootsKey{RootsOperator, RootsConfig} {
		kept, err := certificatesOf([]byte(data[string(key)]))
		if err != nil {
			kept = nil // what is no certificate helps nobody
		}
		t.kept[key] = kept
		set := union(t.current[key], kept, t.Clock())
		if len(set) > 0 {
			out[string(key)] = encodeRoots(set)
		}
	}
	return out
}

// Pool returns the roots of a key, those of before included; never nil.
func (t *TrustRoots) Pool(key RootsKey) *x509.CertPool {
	t.mu.Lock()
	defer t.mu.Unlock()
	pool := x509.NewCertPool()
	for _, cert := range union(t.current[key], t.kept[key], t.Clock()) {
		pool.AddCert(cert)
	}
	return pool
}

// union returns current and, as far as there is room, what was kept and has not expired; sorted by bytes.
func union(current, kept []*x509.Certificate, now time.Time) []*x509.Certificate {
	out := slices.Clone(current)
	for _, cert := range kept {
		if len(out) < maxTrustRoots && cert.IsCA && now.Before(cert.NotAfter) && !holds(out, cert) {
			out = append(out, cert)
		}
	}
	slices.SortFunc(out, func(a, b *x509.Certificate) int { return bytes.Compare(a.Raw, b.Raw) })
	return out
}

func holds(certs []*x509.Certificate, cert *x509.Certificate) bool {
	return slices.ContainsFunc(certs, cert.Equal)
}

func encodeRoots(certs []*x509.Certificate) string {
	var out bytes.Buffer
	for _, cert := range certs {
		out.Write(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cert.Raw}))
	}
	return out.String()
}
