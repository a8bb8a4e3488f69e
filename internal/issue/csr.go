// SPDX-License-Identifier: Apache-2.0

package issue

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"errors"
	"fmt"

	"github.com/heddle-mesh/heddle/internal/identity"
)

// MaxCSR bounds a certificate request, in bytes. An honest one has about 300.
const MaxCSR = 16 << 10

var (
	oidExtensionRequest = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 9, 14} // RFC 2985 5.4.2
	oidSubjectAltName   = asn1.ObjectIdentifier{2, 5, 29, 17}                // RFC 5280 4.2.1.6
)

// tagURI is the context tag of uniformResourceIdentifier in a GeneralName (RFC 5280 4.2.1.6).
const tagURI = 6

// certificateRequest is a request that asks for one URI name and nothing else.
type certificateRequest struct {
	der []byte
	key *ecdsa.PublicKey
	uri string // as it is spelled in the request
}

// tbsRequest is CertificationRequestInfo (RFC 2986 4.1). crypto/x509 drops attributes that it does not know, and reads
// names by kind; here every one of them must be seen, because cert-manager copies the names' bytes into the certificate.
type tbsRequest struct {
	Raw        asn1.RawContent
	Version    int
	Subject    asn1.RawValue
	PublicKey  asn1.RawValue
	Attributes []asn1.RawValue `asn1:"tag:0"`
}

type attribute struct {
	ID     asn1.ObjectIdentifier
	Values []asn1.RawValue `asn1:"set"`
}

// parseRequest takes a PKCS #10 request in DER whose key is ECDSA P-256, whose subject is empty, and whose only
// attribute asks for the only extension subjectAltName with exactly one name, a URI. Everything else is a Refusal.
func parseRequest(der []byte) (*certificateRequest, error) {
	if len(der) > MaxCSR {
		return nil, refuse(ReasonTooLarge, "certificate request of %d bytes: at most %d", len(der), MaxCSR)
	}
	csr, err := x509.ParseCertificateRequest(der)
	if err != nil {
		return nil, refuse(ReasonMalformed, "parse the certificate request: %v", err)
	}
	key, ok := csr.PublicKey.(*ecdsa.PublicKey)
	if !ok || key.Curve != elliptic.P256() {
		return nil, refuse(ReasonKey, "certificate request has a key of another kind (%s): want ECDSA P-256", csr.PublicKeyAlgorithm)
	}
	switch csr.SignatureAlgorithm {
	case x509.ECDSAWithSHA256, x509.ECDSAWithSHA384, x509.ECDSAWithSHA512:
	default:
		return nil, refuse(ReasonSignature, "certificate request is signed with %s: want ECDSA with SHA-256", csr.SignatureAlgorithm)
	}
	if err := csr.CheckSignature(); err != nil {
		return nil, refuse(ReasonSignature, "certificate request is not signed by its own key: %v", err)
	}
	uri, err := requestedURI(csr.RawTBSCertificateRequest)
	if err != nil {
		return nil, err
	}
	return &certificateRequest{der: der, key: key, uri: uri}, nil
}

// requestedURI returns the one name that the request asks for.
func requestedURI(rawTBS []byte) (string, error) {
	var tbs tbsRequest
	if rest, err := asn1.Unmarshal(rawTBS, &tbs); err != nil || len(rest) != 0 {
		return "", refuse(ReasonMalformed, "certificate request is not strict DER")
	}
	if tbs.Version != 0 {
		return "", refuse(ReasonMalformed, "certificate request has version %d: want 0", tbs.Version)
	}
	if len(tbs.Subject.Bytes) != 0 {
		return "", refuse(ReasonSubject, "certificate request has a subject: want an empty one, the identity is a URI name")
	}
	extension, err := onlyExtension(tbs.Attributes)
	if err != nil {
		return "", err
	}
	if !extension.Id.Equal(oidSubjectAltName) {
		return "", refuse(ReasonExtension, "certificate request asks for extension %s: only subjectAltName is allowed", extension.Id)
	}
	uri, err := onlyURI(extension.Value)
	if err != nil {
		return "", refuse(ReasonNames, "certificate request: %v", err)
	}
	return uri, nil
}

// onlyExtension returns the one extension of the one attribute extensionRequest.
func onlyExtension(attributes []asn1.RawValue) (*pkix.Extension, error) {
	if len(attributes) != 1 {
		return nil, refuse(ReasonExtension, "certificate request has %d attributes: want one, extensionRequest", len(attributes))
	}
	var attr attribute
	if rest, err := asn1.Unmarshal(attributes[0].FullBytes, &attr); err != nil || len(rest) != 0 {
		return nil, refuse(ReasonMalformed, "certificate request has a malformed attribute")
	}
	if !attr.ID.Equal(oidExtensionRequest) {
		return nil, refuse(ReasonExtension, "certificate request has attribute %s: only extensionRequest is allowed", attr.ID)
	}
	if len(attr.Values) != 1 {
		return nil, refuse(ReasonMalformed, "certificate request has %d lists of extensions: want one", len(attr.Values))
	}
	var extensions []pkix.Extension
	if rest, err := asn1.Unmarshal(attr.Values[0].FullBytes, &extensions); err != nil || len(rest) != 0 {
		return nil, refuse(ReasonMalformed, "certificate request has malformed extensions")
	}
	if len(extensions) != 1 {
		return nil, refuse(ReasonExtension, "certificate request asks for %d extensions: want one, subjectAltName", len(extensions))
	}
	return &extensions[0], nil
}

// onlyURI reads GeneralNames (RFC 5280 4.2.1.6) that must hold one URI and nothing else, and returns its bytes.
func onlyURI(names []byte) (string, error) {
	var sequence asn1.RawValue
	rest, err := asn1.Unmarshal(names, &sequence)
	if err != nil || len(rest) != 0 || sequence.Class != asn1.ClassUniversal || sequence.Tag != asn1.TagSequence || !sequence.IsCompound {
		return "", errors.New("its subject alternative names are malformed")
	}
	var name asn1.RawValue
	rest, err = asn1.Unmarshal(sequence.Bytes, &name)
	switch {
	case err != nil:
		return "", errors.New("its subject alternative names are malformed or empty: want one URI")
	case len(rest) != 0:
		return "", errors.New("it has several subject alternative names: want one URI")
	case name.Class != asn1.ClassContextSpecific || name.Tag != tagURI || name.IsCompound:
		return "", fmt.Errorf("its subject alternative name is a %s: want a URI", nameKind(name.Tag))
	case len(name.Bytes) > identity.MaxLength:
		return "", fmt.Errorf("its URI has %d bytes: at most %d", len(name.Bytes), identity.MaxLength)
	}
	return string(name.Bytes), nil
}

// nameKind names the choices of GeneralName.
func nameKind(tag int) string {
	kinds := []string{
		"otherName", "rfc822Name", "dNSName", "x400Address", "directoryName", "ediPartyName",
		"uniformResourceIdentifier", "iPAddress", "registeredID",
	}
	if tag < 0 || tag >= len(kinds) {
		return "name of an unknown kind"
	}
	return kinds[tag]
}
