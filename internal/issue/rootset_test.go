// SPDX-License-Identifier: Apache-2.0

package issue

import (
	"crypto/x509"
	"strings"
	"testing"
	"time"
)

func TestRootsOverlapThroughARotation(t *testing.T) {
	start := time.Now()
	first, second := newCA(t, "first").cert, newCA(t, "second").cert
	in := func(set rootSet, certs ...*x509.Certificate) bool {
		if len(set) != len(certs) {
			return false
		}
		for _, want := range certs {
			found := false
			for _, r := range set {
				found = found || r.cert.Equal(want)
			}
			if !found {
				return false
			}
		}
		return true
	}
	certs := func(c ...*x509.Certificate) []*x509.Certificate { return c }

	set := rootSet(nil).advance(certs(first), start)
	if !in(set, first) {
		t.Fatal("the first root is not taken")
	}
	if got := set.settled(&set[0], time.Hour); !got.Equal(start) {
		t.Errorf("the first root settles at %s: want at once, nobody waits for it", got)
	}
	if again := set.advance(certs(first), start.Add(time.Hour)); !again.equal(set) {
		t.Error("reading the same CA again changed the set")
	}
	if gone := set.advance(nil, start.Add(time.Hour)); !gone.equal(set) {
		t.Error("a missing Secret changed the set")
	}

	rotated := start.Add(24 * time.Hour)
	set = set.advance(certs(second), rotated)
	if !in(set, first, second) {
		t.Fatal("a rotation must keep the root that it replaces")
	}
	for i := range set {
		want := start
		if set[i].cert.Equal(second) {
			want = rotated.Add(time.Minute)
		}
		if got := set.settled(&set[i], time.Minute); !got.Equal(want) {
			t.Errorf("root %s settles at %s: want %s", set[i].cert.Subject, got, want)
		}
	}
	if !in(set.advance(certs(second), rotated.Add(MaxLeafDuration)), first, second) {
		t.Error("the replaced root went before the last leaf of it")
	}
	if !in(set.advance(certs(second), rotated.Add(keepReplaced+time.Second)), second) {
		t.Error("the replaced root stays for ever")
	}
	back := set.advance(certs(first), rotated.Add(time.Hour))
	for i := range back {
		if back[i].cert.Equal(first) != back[i].replaced.IsZero() {
			t.Error("a rotation that is turned back must take the old root into use again")
		}
	}
}

func TestRootsThatExpireGo(t *testing.T) {
	now := time.Now()
	old := newCAFor(t, "old", newKey(t), now.Add(-time.Hour), now.Add(time.Hour)).cert
	set := rootSet(nil).advance([]*x509.Certificate{old}, now)
	if set = set.advance(nil, now.Add(2*time.Hour)); len(set) != 0 {
		t.Error("an expired root stays")
	}
}

func TestRootsAreBounded(t *testing.T) {
	now := time.Now()
	var set rootSet
	var newest *x509.Certificate
	for i := range maxRoots + 3 {
		newest = newCA(t, "CA").cert
		set = set.advance([]*x509.Certificate{newest}, now.Add(time.Duration(i)*time.Minute))
	}
	if len(set) != maxRoots {
		t.Fatalf("%d roots: want %d", len(set), maxRoots)
	}
	for _, r := range set {
		if r.replaced.IsZero() && !r.cert.Equal(newest) || r.cert.Equal(newest) && !r.replaced.IsZero() {
			t.Error("the root in use must stay, and be the only one in use")
		}
	}
}

func TestRootsSurviveTheConfigMap(t *testing.T) {
	now := time.Now()
	set := rootSet(nil).
		advance([]*x509.Certificate{newCA(t, "first").cert}, now).
		advance([]*x509.Certificate{newCA(t, "second").cert}, now.Add(time.Hour))
	state, roots, err := set.encode()
	if err != nil {
		t.Fatal(err)
	}
	got, err := decodeRoots(state)
	if err != nil {
		t.Fatal(err)
	}
	if !got.equal(set) {
		t.Errorf("got %+v: want %+v", got, set)
	}
	if n := strings.Count(roots, "BEGIN CERTIFICATE"); n != 2 {
		t.Errorf("roots.pem has %d certificates: want 2", n)
	}
	for name, bad := range map[string]string{
		"not JSON": "x", "not a certificate": `[{"pem":"x"}]`, "empty PEM": `[{}]`, "too many": "[" + strings.Repeat("{},", maxRoots) + "{}]",
	} {
		if _, err := decodeRoots(bad); err == nil {
			t.Errorf("%s: taken", name)
		}
	}
}

func TestReadingTheSecretOfACA(t *testing.T) {
	one, two := newCA(t, "one"), newCA(t, "two")
	leaf := one.leaf(t, parse(t, request(t, newKey(t), &x509.CertificateRequest{URIs: uris(t, checkout)})), nil)
	for name, tc := range map[string]struct {
		data map[string][]byte
		want int
	}{
		"ca.crt comes first":                      {map[string][]byte{"ca.crt": one.pem(), "tls.crt": two.pem()}, 1},
		"ca.crt with two roots":                   {map[string][]byte{"ca.crt": toPEM(one.cert, two.cert)}, 2},
		"tls.crt when there is no ca.crt":         {map[string][]byte{"ca.crt": {}, "tls.crt": toPEM(one.cert, two.cert)}, 1},
		"a certificate that is not a CA's":        {map[string][]byte{"ca.crt": toPEM(leaf)}, 0},
		"an empty Secret":                         {nil, 0},
		"garbage where the certificate should be": {map[string][]byte{"ca.crt": []byte("garbage")}, 0},
	} {
		t.Run(name, func(t *testing.T) {
			certs, err := caCertificates(tc.data)
			if (err == nil) != (tc.want > 0) || len(certs) != tc.want {
				t.Errorf("got %d roots and %v: want %d", len(certs), err, tc.want)
			}
		})
	}
}
