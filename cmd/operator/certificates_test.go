// SPDX-License-Identifier: Apache-2.0

package main

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/go-logr/logr"

	"github.com/heddle-mesh/heddle/test/pki"
)

// writeCertificate writes a Secret of cert-manager as it is mounted.
func writeCertificate(t *testing.T, dir string, pair *tls.Certificate, ca *pki.CA) {
	t.Helper()
	key, err := x509.MarshalPKCS8PrivateKey(pair.PrivateKey)
	if err != nil {
		t.Fatal(err)
	}
	for name, data := range map[string][]byte{
		"tls.crt": pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: pair.Certificate[0]}),
		"tls.key": pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: key}),
		"ca.crt":  ca.PEM(),
	} {
		if err := os.WriteFile(filepath.Join(dir, name), data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

func TestARenewedCertificateIsTaken(t *testing.T) {
	t.Parallel()
	dir, ca := t.TempDir(), pki.NewCA(t, "serving")
	var roots []byte
	files := &certificateFiles{dir: dir, log: logr.Discard(), ca: func(pem []byte) error {
		roots = pem
		return nil
	}}
	if files.load() == nil || files.Certificate() != nil {
		t.Error("loaded from an empty directory")
	}
	first, second := ca.Server(t, "heddle-operator"), ca.Server(t, "heddle-operator")
	writeCertificate(t, dir, first, ca)
	if err := files.load(); err != nil || !files.Certificate().Leaf.Equal(first.Leaf) || string(roots) != string(ca.PEM()) {
		t.Fatalf("loaded %v, %v", files.Certificate(), err)
	}
	writeCertificate(t, dir, second, ca)
	if err := files.load(); err != nil || !files.Certificate().Leaf.Equal(second.Leaf) {
		t.Fatalf("loaded %v, %v", files.Certificate(), err)
	}

	// A key of another certificate, as between two writes, leaves what was loaded.
	writeCertificate(t, dir, first, ca)
	if err := os.WriteFile(filepath.Join(dir, "tls.key"), []byte("broken"), 0o600); err != nil {
		t.Fatal(err)
	}
	if files.load() == nil || !files.Certificate().Leaf.Equal(second.Leaf) {
		t.Error("took a broken key")
	}
	writeCertificate(t, dir, first, ca)
	files.ca = func([]byte) error { return errors.New("no certificate") }
	if files.load() == nil || !files.Certificate().Leaf.Equal(second.Leaf) {
		t.Error("took a certificate without roots")
	}
}
