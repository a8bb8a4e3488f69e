// SPDX-License-Identifier: Apache-2.0

package signedconfig_test

import (
	"crypto"
	"crypto/x509"
	"crypto/x509/pkix"
	"net/url"
	"reflect"
	"testing"
	"time"

	"github.com/heddle-mesh/heddle/internal/signedconfig"
)

func TestWhatIsSignedIsVerified(t *testing.T) {
	t.Parallel()
	ca := newAuthority(t, "config", nil)
	signer, verifier := newSigner(t, ca, nil), newVerifier(ca)
	tombstone := statement()
	tombstone.Tombstone, tombstone.Payload = true, nil
	forOnePod := statement()
	forOnePod.Audience = signedconfig.AudiencePod(podUID)
	for name, st := range map[string]*signedconfig.Statement{
		"a section": statement(), "a tombstone": tombstone, "a section for one pod": forOnePod,
	} {
		data := sign(t, signer, st)
		for _, check := range []signedconfig.Check{signedconfig.OnArrival, signedconfig.FromStore} {
			got, err := verifier.Verify(data, check)
			if err != nil || !reflect.DeepEqual(got, st) {
				t.Errorf("%s, check %d: got %+v, %v; want %+v", name, check, got, err, st)
			}
		}
		if again := sign(t, signer, st); string(again) != string(data) {
			t.Errorf("%s: signed twice, two envelopes", name)
		}
	}
}

func TestVerifyRefusesWhatIsNotForThisReceiver(t *testing.T) {
	t.Parallel()
	ca := newAuthority(t, "config", nil)
	signer := newSigner(t, ca, nil)
	cases := map[string]struct {
		change    func(*signedconfig.Statement)
		onArrival string // reason; empty: accepted
		fromStore string
	}{
		"another mesh": {
			func(s *signedconfig.Statement) { s.MeshID = "another" },
			signedconfig.ReasonMeshID, signedconfig.ReasonMeshID,
		},
		"another pod": {
			func(s *signedconfig.Statement) { s.Audience = signedconfig.AudiencePod("other") },
			signedconfig.ReasonAudience, signedconfig.ReasonAudience,
		},
		"an audience that begins with ours": {
			func(s *signedconfig.Statement) { s.Audience = signedconfig.AudiencePod(podUID + "x") },
			signedconfig.ReasonAudience, signedconfig.ReasonAudience,
		},
		"expired a millisecond ago": {
			func(s *signedconfig.Statement) {
				s.IssuedAt, s.NotAfter = now.Add(-time.Hour), now.Add(-time.Millisecond)
			},
			signedconfig.ReasonExpired, "",
		},
		"expiring now": {func(s *signedconfig.Statement) { s.NotAfter = now }, "", ""},
		"issued by a clock 5 minutes ahead": {
			func(s *signedconfig.Statement) { s.IssuedAt = now.Add(signedconfig.MaxSkew) }, "", "",
		},
		"issued by a clock further ahead": {
			func(s *signedconfig.Statement) { s.IssuedAt = now.Add(signedconfig.MaxSkew + time.Second) },
			signedconfig.ReasonNotYetValid, "",
		},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			st := statement()
			c.change(st)
			data := sign(t, signer, st)
			verifier := newVerifier(ca)
			_, err := verifier.Verify(data, signedconfig.OnArrival)
			if got := reasonOf(t, err); got != c.onArrival {
				t.Errorf("on arrival: reason %q, want %q", got, c.onArrival)
			}
			_, err = verifier.Verify(data, signedconfig.FromStore)
			if got := reasonOf(t, err); got != c.fromStore {
				t.Errorf("from the store: reason %q, want %q", got, c.fromStore)
			}
		})
	}
}

func TestVerifyRefusesOtherSigners(t *testing.T) {
	t.Parallel()
	ca := newAuthority(t, "config", nil)
	workloads := newAuthority(t, "workloads", nil)
	namesake := newAuthority(t, "config", nil)
	// minted is a certificate of the config signer, used as if it were a CA.
	signerKey := ed25519Key(t)
	minter := &authority{key: signerKey, cert: issue(t, signerTemplate(), signerKey, ca)}

	workload := func(c *x509.Certificate) {
		c.URIs = []*url.URL{{Scheme: "spiffe", Host: "cluster.local", Path: "/ns/shop/sa/web"}}
	}
	cases := map[string]struct {
		by     *authority
		key    crypto.Signer // nil: a new Ed25519 key
		change func(*x509.Certificate)
		ok     bool
	}{
		"the config signer": {ca, nil, func(*x509.Certificate) {}, true},
		"a workload's leaf of the workload CA": {workloads, nil, func(c *x509.Certificate) {
			c.DNSNames = nil
			workload(c)
		}, false},
		"the signer's name, minted by the workload CA": {workloads, nil, func(*x509.Certificate) {}, false},
		"a CA with the config CA's name":               {namesake, nil, func(*x509.Certificate) {}, false},
		"signed by itself":                             {nil, nil, func(*x509.Certificate) {}, false},
		"minted by the signer itself":                  {minter, nil, func(*x509.Certificate) {}, false},
		"no DNS name":                                  {ca, nil, func(c *x509.Certificate) { c.DNSNames = nil }, false},
		"another DNS name":                             {ca, nil, func(c *x509.Certificate) { c.DNSNames = []string{"heddle-operator"} }, false},
		"a wildcard":                                   {ca, nil, func(c *x509.Certificate) { c.DNSNames = []string{"*"} }, false},
		"the name as common name only": {ca, nil, func(c *x509.Certificate) {
			c.DNSNames, c.Subject = nil, pkix.Name{CommonName: signedconfig.SignerName}
		}, false},
		"no key usage":           {ca, nil, func(c *x509.Certificate) { c.KeyUsage = 0 }, false},
		"key encipherment only":  {ca, nil, func(c *x509.Certificate) { c.KeyUsage = x509.KeyUsageKeyEncipherment }, false},
		"a CA's key usage":       {ca, nil, func(c *x509.Certificate) { c.KeyUsage |= x509.KeyUsageCertSign }, false},
		"a CA":                   {ca, nil, func(c *x509.Certificate) { c.IsCA = true }, false},
		"an ECDSA key":           {ca, ecdsaKey(t), func(*x509.Certificate) {}, false},
		"an RSA key":             {ca, rsaKey(t), func(*x509.Certificate) {}, false},
		"a critical extension":   {ca, nil, func(c *x509.Certificate) { c.ExtraExtensions = unknownCritical() }, false},
		"the config CA's itself": {nil, ca.key, func(c *x509.Certificate) { *c = *ca.cert }, false},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			template, key := signerTemplate(), c.key
			if key == nil {
				key = ed25519Key(t)
			}
			c.change(template)
			chain := []*x509.Certificate{issue(t, template, key, c.by)}
			if c.by == minter {
				chain = append(chain, minter.cert)
			}
			data := forge(t, key, chain, statement())
			for _, check := range []signedconfig.Check{signedconfig.OnArrival, signedconfig.FromStore} {
				_, err := newVerifier(ca).Verify(data, check)
				if reason := reasonOf(t, err); (reason == "") != c.ok || !c.ok && reason != signedconfig.ReasonSigner {
					t.Errorf("check %d: got %v, want ok %t", check, err, c.ok)
				}
			}
			if _, err := signedconfig.NewSigner(key, chain); c.ok && err != nil {
				t.Errorf("NewSigner: %v", err)
			}
		})
	}
}

func TestSignerValidityIsJudgedOnArrivalOnly(t *testing.T) {
	t.Parallel()
	ca := newAuthority(t, "config", nil)
	cases := map[string]struct {
		notBefore, notAfter time.Time
		want                string
	}{
		"a signer that expired":         {now.Add(-48 * time.Hour), now.Add(-time.Second), signedconfig.ReasonExpired},
		"a signer of tomorrow":          {now.Add(24 * time.Hour), now.Add(48 * time.Hour), signedconfig.ReasonNotYetValid},
		"a signer of a clock ahead":     {now.Add(time.Minute), now.Add(48 * time.Hour), ""},
		"a signer that expires in 1 s":  {now.Add(-48 * time.Hour), now.Add(time.Second), ""},
		"a signer older than the mesh?": {now.Add(-20 * time.Hour), now.Add(time.Hour), ""},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			template, key := signerTemplate(), ed25519Key(t)
			template.NotBefore, template.NotAfter = c.notBefore, c.notAfter
			// Forged, because a Signer would cap not-after by the certificate's.
			data := forge(t, key, []*x509.Certificate{issue(t, template, key, ca)}, statement())
			_, err := newVerifier(ca).Verify(data, signedconfig.OnArrival)
			if got := reasonOf(t, err); got != c.want {
				t.Errorf("on arrival: %v, want reason %q", err, c.want)
			}
			if _, err := newVerifier(ca).Verify(data, signedconfig.FromStore); err != nil {
				t.Errorf("from the store: %v", err)
			}
		})
	}
}

func TestARememberedChainStillExpires(t *testing.T) {
	t.Parallel()
	ca := newAuthority(t, "config", nil)
	signer, verifier := newSigner(t, ca, nil), newVerifier(ca)
	at := now
	verifier.Clock = func() time.Time { return at }
	st := statement()
	st.NotAfter = time.Time{} // as long as the signer
	data := sign(t, signer, st)
	if _, err := verifier.Verify(data, signedconfig.OnArrival); err != nil {
		t.Fatal(err)
	}
	at = signer.NotAfter().Add(time.Second)
	if _, err := verifier.Verify(data, signedconfig.OnArrival); reasonOf(t, err) != signedconfig.ReasonExpired {
		t.Errorf("after the signer's expiry: %v", err)
	}
	if _, err := verifier.Verify(data, signedconfig.FromStore); err != nil {
		t.Errorf("from the store: %v", err)
	}
}

func TestIntermediates(t *testing.T) {
	t.Parallel()
	ca := newAuthority(t, "config", nil)
	middle := newAuthority(t, "middle", ca)
	unrelated := newAuthority(t, "unrelated", nil)
	key := ed25519Key(t)
	leaf := issue(t, signerTemplate(), key, middle)
	cases := map[string]struct {
		chain []*x509.Certificate
		ok    bool
	}{
		"with its intermediate":         {[]*x509.Certificate{leaf, middle.cert}, true},
		"with the root too":             {[]*x509.Certificate{leaf, middle.cert, ca.cert}, true},
		"without it":                    {[]*x509.Certificate{leaf}, false},
		"with one that is not used":     {[]*x509.Certificate{leaf, middle.cert, unrelated.cert}, false},
		"with the order turned":         {[]*x509.Certificate{leaf, ca.cert, middle.cert}, false},
		"with the intermediate doubled": {[]*x509.Certificate{leaf, middle.cert, middle.cert}, false},
	}
	for name, c := range cases {
		data := forge(t, key, c.chain, statement())
		if _, err := newVerifier(ca).Verify(data, signedconfig.OnArrival); (err == nil) != c.ok {
			t.Errorf("%s: got %v, want ok %t", name, err, c.ok)
		}
	}
}

func TestAVerifierWithoutRootsOrAudiencesTakesNothing(t *testing.T) {
	t.Parallel()
	ca := newAuthority(t, "config", nil)
	data := sign(t, newSigner(t, ca, nil), statement())
	for name, v := range map[string]*signedconfig.Verifier{
		"no roots":     {MeshID: meshID, Audiences: []string{signedconfig.AudienceMesh}, Clock: newVerifier(ca).Clock},
		"no audiences": {MeshID: meshID, Roots: newVerifier(ca).Roots, Clock: newVerifier(ca).Clock},
		"no mesh ID":   {Roots: newVerifier(ca).Roots, Audiences: []string{signedconfig.AudienceMesh}, Clock: newVerifier(ca).Clock},
	} {
		if _, err := v.Verify(data, signedconfig.OnArrival); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}
