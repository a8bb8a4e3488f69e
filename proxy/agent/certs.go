// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"time"
)

// Certificates is what `heddle-proxy admin certs` shows. The private key is no part of it.
type Certificates struct {
	Identity string        `json:"identity"`        // SPIFFE ID
	Valid    string        `json:"valid"`           // "yes", or why not
	Chain    []Certificate `json:"chain,omitempty"` // leaf first
	Roots    []Certificate `json:"roots,omitempty"` // that other workloads are judged by
}

// Certificate is one certificate.
type Certificate struct {
	Subject   string    `json:"subject,omitempty"`
	URIs      []string  `json:"uris,omitempty"`
	Serial    string    `json:"serial"` // hex
	NotBefore time.Time `json:"notBefore"`
	NotAfter  time.Time `json:"notAfter"`
	SHA256    string    `json:"sha256"` // hex, of the DER
}

// Dump returns the certificates that the pod has.
func (i *Identity) Dump() Certificates {
	out := Certificates{Identity: i.id.String(), Valid: "yes"}
	if err := i.check(i.clock()); err != nil {
		out.Valid = err.Error()
	}
	if c := i.Certificate(); c != nil {
		for _, der := range c.Certificate {
			if cert, err := x509.ParseCertificate(der); err == nil {
				out.Chain = append(out.Chain, describe(cert))
			}
		}
	}
	if certs := i.rootCerts.Load(); certs != nil {
		for _, cert := range *certs {
			out.Roots = append(out.Roots, describe(cert))
		}
	}
	return out
}

func describe(cert *x509.Certificate) Certificate {
	sum := sha256.Sum256(cert.Raw)
	c := Certificate{
		Subject: cert.Subject.String(), Serial: cert.SerialNumber.Text(16),
		NotBefore: cert.NotBefore, NotAfter: cert.NotAfter, SHA256: hex.EncodeToString(sum[:]),
	}
	for _, uri := range cert.URIs {
		c.URIs = append(c.URIs, uri.String())
	}
	return c
}
