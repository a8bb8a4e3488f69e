// SPDX-License-Identifier: Apache-2.0

package sandbox

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"math/big"
	"net/url"
	"os"
	"path/filepath"
	"time"

	cmapi "github.com/cert-manager/cert-manager/pkg/apis/certmanager/v1"
	cmmeta "github.com/cert-manager/cert-manager/pkg/apis/meta/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/heddle-mesh/heddle/internal/identity"
	"github.com/heddle-mesh/heddle/internal/issue"
	"github.com/heddle-mesh/heddle/internal/signedconfig"
)

// The files of the workload CA in the directory of --pki.
const (
	caFile    = "ca.pem"
	caKeyFile = "ca.key"
)

// caLife is how long a CA lives, and what is not renewed: the config signer and the control server's certificate.
const caLife = 10 * 365 * 24 * time.Hour

// authority is a CA.
type authority struct {
	certificate *x509.Certificate
	key         crypto.Signer
	now         func() time.Time
}

// newAuthority makes a CA with a key of its own.
func newAuthority(name string, key crypto.Signer, now func() time.Time) (*authority, error) {
	template := &x509.Certificate{
		Subject: pkix.Name{CommonName: name}, NotBefore: now().Add(-time.Minute), NotAfter: now().Add(caLife),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
	}
	a := &authority{certificate: template, key: key, now: now}
	var err error
	if a.certificate, err = a.issue(template, key.Public()); err != nil {
		return nil, fmt.Errorf("make CA %s: %w", name, err)
	}
	return a, nil
}

func (a *authority) issue(template *x509.Certificate, public crypto.PublicKey) (*x509.Certificate, error) {
	t := *template
	var err error
	if t.SerialNumber, err = rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 120)); err != nil {
		return nil, err
	}
	t.BasicConstraintsValid = true
	der, err := x509.CreateCertificate(rand.Reader, &t, a.certificate, public, a.key)
	if err != nil {
		return nil, err
	}
	return x509.ParseCertificate(der)
}

func (a *authority) pem() []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: a.certificate.Raw})
}

func (a *authority) pool() *x509.CertPool {
	pool := x509.NewCertPool()
	pool.AddCert(a.certificate)
	return pool
}

// server makes the control server's certificate.
func (a *authority) server(name string) (*tls.Certificate, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	cert, err := a.issue(&x509.Certificate{
		DNSNames: []string{name}, KeyUsage: x509.KeyUsageDigitalSignature,
		NotBefore: a.now().Add(-time.Minute), NotAfter: a.now().Add(caLife),
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}, key.Public())
	if err != nil {
		return nil, err
	}
	return &tls.Certificate{Certificate: [][]byte{cert.Raw}, PrivateKey: key, Leaf: cert}, nil
}

// signer makes the config signer.
func (a *authority) signer() (*signedconfig.Signer, error) {
	_, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return nil, err
	}
	cert, err := a.issue(&x509.Certificate{
		DNSNames: []string{signedconfig.SignerName}, KeyUsage: x509.KeyUsageDigitalSignature,
		NotBefore: a.now().Add(-time.Minute), NotAfter: a.now().Add(caLife),
	}, key.Public())
	if err != nil {
		return nil, err
	}
	return signedconfig.NewSigner(key, []*x509.Certificate{cert})
}

// workload makes the certificate of a URI name.
func (a *authority) workload(name *url.URL, public crypto.PublicKey, life time.Duration) (*x509.Certificate, error) {
	return a.issue(&x509.Certificate{
		URIs: []*url.URL{name}, KeyUsage: x509.KeyUsageDigitalSignature,
		NotBefore: a.now().Add(-30 * time.Second), NotAfter: a.now().Add(life),
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}, public)
}

// decide does to a CertificateRequest what cert-manager does: it signs, or says why not.
func (a *authority) decide(request *cmapi.CertificateRequest) {
	chain, err := a.sign(request)
	ready := cmapi.CertificateRequestCondition{
		Type: cmapi.CertificateRequestConditionReady, Status: cmmeta.ConditionTrue,
		Reason: cmapi.CertificateRequestReasonIssued, Message: "signed by the sandbox",
	}
	if err != nil {
		ready.Status, ready.Reason, ready.Message = cmmeta.ConditionFalse, cmapi.CertificateRequestReasonFailed, err.Error()
	}
	approved := cmapi.CertificateRequestCondition{
		Type: cmapi.CertificateRequestConditionApproved, Status: cmmeta.ConditionTrue, Reason: "Sandbox",
	}
	at := metav1.NewTime(a.now())
	ready.LastTransitionTime, approved.LastTransitionTime = &at, &at
	request.Status.Certificate, request.Status.CA = chain, a.pem()
	request.Status.Conditions = []cmapi.CertificateRequestCondition{approved, ready}
}

func (a *authority) sign(request *cmapi.CertificateRequest) ([]byte, error) {
	block, _ := pem.Decode(request.Spec.Request)
	if block == nil {
		return nil, errors.New("the request is not PEM")
	}
	csr, err := x509.ParseCertificateRequest(block.Bytes)
	if err != nil {
		return nil, err
	}
	if err := csr.CheckSignature(); err != nil {
		return nil, err
	}
	if len(csr.URIs) != 1 {
		return nil, fmt.Errorf("the request has %d URI names: want one", len(csr.URIs))
	}
	life := issue.DefaultLeafDuration
	if d := request.Spec.Duration; d != nil {
		life = d.Duration
	}
	cert, err := a.workload(csr.URIs[0], csr.PublicKey, life)
	if err != nil {
		return nil, err
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cert.Raw}), nil
}

// workloadAuthority is the workload CA: that of a directory, made there if there is none yet, or without a directory a
// new one in memory.
func workloadAuthority(dir string, now func() time.Time) (*authority, error) {
	if dir != "" {
		a, err := loadAuthority(dir, now)
		if a != nil || err != nil {
			return a, err
		}
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	a, err := newAuthority("heddle-sandbox-workload-ca", key, now)
	if err != nil || dir == "" {
		return a, err
	}
	return a, a.keep(dir, key)
}

// loadAuthority returns nil if the directory holds neither of the files.
func loadAuthority(dir string, now func() time.Time) (*authority, error) {
	cert, certErr := os.ReadFile(filepath.Join(dir, caFile))
	key, keyErr := os.ReadFile(filepath.Join(dir, caKeyFile))
	if errors.Is(certErr, fs.ErrNotExist) && errors.Is(keyErr, fs.ErrNotExist) {
		return nil, nil
	}
	if err := errors.Join(certErr, keyErr); err != nil {
		return nil, fmt.Errorf("read the CA: %w", err)
	}
	pair, err := tls.X509KeyPair(cert, key)
	if err != nil {
		return nil, fmt.Errorf("read the CA of %s: %w", dir, err)
	}
	signer, ok := pair.PrivateKey.(crypto.Signer)
	if !ok || !pair.Leaf.IsCA {
		return nil, fmt.Errorf("read the CA of %s: %s is not the certificate of a CA", dir, caFile)
	}
	if now().After(pair.Leaf.NotAfter) {
		return nil, fmt.Errorf("read the CA of %s: it expired at %s; delete both files for another", dir, pair.Leaf.NotAfter.Format(time.RFC3339))
	}
	return &authority{certificate: pair.Leaf, key: signer, now: now}, nil
}

func (a *authority) keep(dir string, key *ecdsa.PrivateKey) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return err
	}
	private := pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})
	return errors.Join(
		writeNew(filepath.Join(dir, caKeyFile), private, 0o600),
		writeNew(filepath.Join(dir, caFile), a.pem(), 0o644),
	)
}

// writeNew writes a file that must not be there yet.
func writeNew(path string, data []byte, mode fs.FileMode) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, mode)
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	return errors.Join(err, f.Close())
}

// Certificate issues a certificate of an identity by the CA of a directory, which is made if need be, and returns chain
// and key in PEM.
func Certificate(dir string, id identity.ID, life time.Duration, now func() time.Time) (chain, key []byte, err error) {
	if err := id.Validate(); err != nil {
		return nil, nil, err
	}
	a, err := workloadAuthority(dir, now)
	if err != nil {
		return nil, nil, err
	}
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, nil, err
	}
	cert, err := a.workload(id.URL(), private.Public(), life)
	if err != nil {
		return nil, nil, err
	}
	der, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		return nil, nil, err
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cert.Raw}),
		pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), nil
}
