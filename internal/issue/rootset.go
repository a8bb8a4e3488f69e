// SPDX-License-Identifier: Apache-2.0

package issue

import (
	"bytes"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"slices"
	"time"
)

// maxRoots bounds how many roots are accepted at once: each is one more key that could make identities.
const maxRoots = 16

// keepReplaced is how long a root that was replaced stays accepted: no leaf of it lives longer.
const keepReplaced = MaxLeafDuration + lifetimeSlop

// root is one CA certificate that workload leaves chain to.
type root struct {
	cert     *x509.Certificate
	since    time.Time // when it was first accepted
	replaced time.Time // when the CA stopped using it; zero while it does
}

func (r *root) fingerprint() string {
	sum := sha256.Sum256(r.cert.Raw)
	return hex.EncodeToString(sum[:])
}

// rootSet is every accepted root, by fingerprint. It is a value: advance returns another.
type rootSet []root

// advance returns the set after the CA was seen with these certificates. Without any, the CA's Secret is missing or
// broken, which says nothing about what the proxies should trust, so only what has expired goes.
func (s rootSet) advance(current []*x509.Certificate, now time.Time) rootSet {
	next := make(rootSet, 0, len(s)+len(current))
	for _, r := range s {
		switch in := slices.ContainsFunc(current, r.cert.Equal); {
		case in:
			r.replaced = time.Time{}
		case len(current) > 0 && r.replaced.IsZero():
			r.replaced = now
		}
		if !r.over(now) {
			next = append(next, r)
		}
	}
	for _, cert := range current {
		if !slices.ContainsFunc(next, func(r root) bool { return r.cert.Equal(cert) }) {
			next = append(next, root{cert: cert, since: now})
		}
	}
	slices.SortFunc(next, func(a, b root) int { return bytes.Compare(a.cert.Raw, b.cert.Raw) })
	return next.bounded()
}

func (r *root) over(now time.Time) bool {
	return now.After(r.cert.NotAfter) || !r.replaced.IsZero() && now.After(r.replaced.Add(keepReplaced))
}

// bounded drops the roots that were replaced first when there are too many.
func (s rootSet) bounded() rootSet {
	for len(s) > maxRoots {
		oldest := -1
		for i, r := range s {
			if !r.replaced.IsZero() && (oldest < 0 || r.replaced.Before(s[oldest].replaced)) {
				oldest = i
			}
		}
		if oldest < 0 {
			return s[:maxRoots]
		}
		s = slices.Delete(s, oldest, oldest+1)
	}
	return s
}

func (s rootSet) equal(other rootSet) bool {
	return slices.EqualFunc(s, other, func(a, b root) bool {
		return a.cert.Equal(b.cert) && a.since.Equal(b.since) && a.replaced.Equal(b.replaced)
	})
}

// settled says from when on leaves of the root may be handed out. The very first root has nobody to surprise.
func (s rootSet) settled(r *root, hold time.Duration) time.Time {
	for _, other := range s {
		if other.since.Before(r.since) {
			return r.since.Add(hold)
		}
	}
	return r.since
}

// storedRoot is a root in the ConfigMap, for people as much as for the operator.
type storedRoot struct {
	SHA256   string     `json:"sha256"`
	Subject  string     `json:"subject"`
	NotAfter time.Time  `json:"notAfter"`
	Since    time.Time  `json:"since"`
	Replaced *time.Time `json:"replaced,omitempty"`
	PEM      string     `json:"pem"`
}

// encode returns the set as JSON and, for other readers, as plain PEM.
func (s rootSet) encode() (state, roots string, err error) {
	stored := make([]storedRoot, len(s))
	var all bytes.Buffer
	for i := range s {
		r := &s[i]
		text := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: r.cert.Raw})
		all.Write(text)
		stored[i] = storedRoot{
			SHA256: r.fingerprint(), Subject: r.cert.Subject.String(), NotAfter: r.cert.NotAfter.UTC(),
			Since: r.since.UTC(), PEM: string(text),
		}
		if !r.replaced.IsZero() {
			replaced := r.replaced.UTC()
			stored[i].Replaced = &replaced
		}
	}
	b, err := json.MarshalIndent(stored, "", "  ")
	if err != nil {
		return "", "", fmt.Errorf("encode the workload roots: %w", err)
	}
	return string(b) + "\n", all.String(), nil
}

// decodeRoots reads what encode wrote. An entry that a person removed is gone.
func decodeRoots(state string) (rootSet, error) {
	var stored []storedRoot
	if err := json.Unmarshal([]byte(state), &stored); err != nil {
		return nil, fmt.Errorf("read the workload roots: %w", err)
	}
	if len(stored) > maxRoots {
		return nil, fmt.Errorf("read the workload roots: there are %d, at most %d", len(stored), maxRoots)
	}
	set := make(rootSet, 0, len(stored))
	for i, entry := range stored {
		certs, err := parseChain([]byte(entry.PEM))
		if err == nil && len(certs) != 1 {
			err = fmt.Errorf("%d certificates: want one", len(certs))
		}
		if err != nil {
			return nil, fmt.Errorf("read workload root %d: %w", i, err)
		}
		r := root{cert: certs[0], since: entry.Since}
		if entry.Replaced != nil {
			r.replaced = *entry.Replaced
		}
		set = append(set, r)
	}
	slices.SortFunc(set, func(a, b root) int { return bytes.Compare(a.cert.Raw, b.cert.Raw) })
	return set, nil
}

// caCertificates reads the roots from the data of a CA's Secret: ca.crt, or tls.crt where an issuer gives no other.
func caCertificates(data map[string][]byte) ([]*x509.Certificate, error) {
	key := "ca.crt"
	if len(bytes.TrimSpace(data[key])) == 0 {
		key = "tls.crt"
	}
	certs, err := parseChain(data[key])
	if err != nil {
		return nil, fmt.Errorf("%s: %w", key, err)
	}
	if key == "tls.crt" {
		certs = certs[:1] // what follows would be the CA's own issuers: trust no more than was asked for
	}
	for _, cert := range certs {
		if !cert.IsCA || !cert.BasicConstraintsValid {
			return nil, fmt.Errorf("%s: certificate %q is not a CA's", key, cert.Subject)
		}
	}
	return certs, nil
}
