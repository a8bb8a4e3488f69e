// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/heddle-mesh/heddle/internal/meshconfig"
	"github.com/heddle-mesh/heddle/internal/signedconfig"
)

var now = time.Date(2026, 5, 4, 12, 0, 0, 0, time.UTC)

// fixture writes an envelope, a file of roots and a file of other roots.
type fixture struct{ envelope, roots, otherRoots string }

func newFixture(t *testing.T, change func(*signedconfig.Statement)) fixture {
	t.Helper()
	dir := t.TempDir()
	root, rootKey := certificate(t, &x509.Certificate{
		Subject: pkix.Name{CommonName: "config CA"}, IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}, nil, nil)
	other, _ := certificate(t, &x509.Certificate{
		Subject: pkix.Name{CommonName: "config CA"}, IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}, nil, nil)
	leaf, key := certificate(t, &x509.Certificate{
		DNSNames: []string{signedconfig.SignerName}, KeyUsage: x509.KeyUsageDigitalSignature,
	}, root, rootKey)
	signer, err := signedconfig.NewSigner(key, []*x509.Certificate{leaf})
	if err != nil {
		t.Fatal(err)
	}
	st := &signedconfig.Statement{
		Section: "heartbeat", MeshID: "mesh-1", Audience: signedconfig.AudienceMesh,
		Serial: signedconfig.Serial{Term: 3, Counter: 17}, IssuedAt: now, NotAfter: now.Add(time.Hour),
		PayloadType: meshconfig.PayloadType(meshconfig.KindHeartbeat),
		Payload:     meshconfig.Encode(&meshconfig.Heartbeat{At: now.UnixMilli()}),
	}
	change(st)
	data, err := signer.Sign(st)
	if err != nil {
		t.Fatal(err)
	}
	write := func(name string, data []byte) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, data, 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	encode := func(cert *x509.Certificate) []byte {
		return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cert.Raw})
	}
	return fixture{write("heartbeat.envelope", data), write("config.pem", encode(root)), write("other.pem", encode(other))}
}

func certificate(t *testing.T, template, parent *x509.Certificate, parentKey ed25519.PrivateKey) (*x509.Certificate, ed25519.PrivateKey) {
	t.Helper()
	public, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template.SerialNumber, template.NotBefore, template.NotAfter = big.NewInt(7), now.Add(-time.Hour), now.Add(720*time.Hour)
	if parent == nil {
		parent, parentKey = template, key
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, public, parentKey)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return cert, key
}

func heddle(args ...string) (code int, stdout, stderr string) {
	var out, errs bytes.Buffer
	env := environment{stdin: strings.NewReader(""), stdout: &out, stderr: &errs, now: func() time.Time { return now }}
	code = run(env, args)
	return code, out.String(), errs.String()
}

func TestConfigVerify(t *testing.T) {
	t.Parallel()
	same := func(*signedconfig.Statement) {}
	cases := map[string]struct {
		change func(*signedconfig.Statement)
		flags  []string
		want   string // part of the error; empty: exit code 0
	}{
		"a good envelope":         {same, nil, ""},
		"all that it should be":   {same, []string{"--mesh-id=mesh-1", "--audience=mesh", "--section=heartbeat", "--min-serial=0.3.17"}, ""},
		"just before it expires":  {same, []string{"--at=2026-05-04T13:00:00Z"}, ""},
		"a second after":          {same, []string{"--at=2026-05-04T13:00:01Z"}, "expired"},
		"long before its issue":   {same, []string{"--at=2026-05-04T11:30:00Z"}, "not_yet_valid"},
		"another mesh":            {same, []string{"--mesh-id=mesh-2"}, "mesh_id"},
		"another audience":        {same, []string{"--audience=pod/1"}, "audience"},
		"another section":         {same, []string{"--section=mesh"}, "section heartbeat, not mesh"},
		"a lower serial":          {same, []string{"--min-serial=0.3.18"}, "lower than 0.3.18"},
		"a serial of no form":     {same, []string{"--min-serial=18"}, "--min-serial"},
		"a time of no form":       {same, []string{"--at=yesterday"}, "--at"},
		"a flag that there isn't": {same, []string{"--force"}, "unknown flag"},
		"a payload that does not belong": {
			func(s *signedconfig.Statement) { s.Payload = []byte("\x0a\x01x") }, nil, "encoding",
		},
		"a payload of another type": {
			func(s *signedconfig.Statement) { s.PayloadType = meshconfig.PayloadType(meshconfig.KindMesh) }, nil, "payload type",
		},
		"a tombstone": {func(s *signedconfig.Statement) { s.Tombstone, s.Payload = true, nil }, nil, ""},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := newFixture(t, c.change)
			args := append([]string{"config", "verify", f.envelope, "--roots", f.roots}, c.flags...)
			code, out, errs := heddle(args...)
			if c.want == "" {
				if code != 0 || !strings.Contains(out, "heartbeat") || !strings.Contains(out, "0.3.17") || errs != "" {
					t.Fatalf("exit code %d, %s%s", code, out, errs)
				}
				return
			}
			if code != 1 || !strings.Contains(errs, c.want) || out != "" {
				t.Fatalf("exit code %d, output %q, error %q; want one that says %q", code, out, errs, c.want)
			}
		})
	}
}

func TestConfigVerifyRefusesFiles(t *testing.T) {
	t.Parallel()
	f := newFixture(t, func(*signedconfig.Statement) {})
	for name, args := range map[string][]string{
		"other roots":                 {f.envelope, "--roots", f.otherRoots},
		"roots that are not PEM":      {f.envelope, "--roots", f.envelope},
		"roots that are not there":    {f.envelope, "--roots", f.roots + "x"},
		"an envelope that is not one": {f.roots, "--roots", f.roots},
		"an envelope not there":       {f.envelope + "x", "--roots", f.roots},
		"an empty standard input":     {"-", "--roots", f.roots},
		"no roots":                    {f.envelope},
		"no envelope":                 {"--roots", f.roots},
		"two envelopes":               {f.envelope, f.envelope, "--roots", f.roots},
	} {
		if code, out, errs := heddle(append([]string{"config", "verify"}, args...)...); code != 1 || out != "" || errs == "" {
			t.Errorf("%s: exit code %d, output %q, error %q", name, code, out, errs)
		}
	}
}

func TestUsage(t *testing.T) {
	t.Parallel()
	for want, cases := range map[int][][]string{
		0: {{"help"}, {"--help"}, {"version"}, {"config", "verify", "--help"}},
		1: {{}, {"config"}, {"verify"}, {"helpme"}},
	} {
		for _, args := range cases {
			if code, out, errs := heddle(args...); code != want || out+errs == "" {
				t.Errorf("heddle %q: exit code %d, %q %q; want %d", args, code, out, errs, want)
			}
		}
	}
}
