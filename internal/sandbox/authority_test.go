// SPDX-License-Identifier: Apache-2.0

package sandbox

import (
	"crypto/tls"
	"crypto/x509"
	"os"
	"path/filepath"
	"testing"
	"time"

	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"

	"github.com/heddle-mesh/heddle/internal/identity"
)

var front = identity.ID{TrustDomain: "cluster.local", Namespace: "web", ServiceAccount: "front"}

func TestTheCAIsKept(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "pki")
	var chains [][]byte
	for range 2 {
		chain, key, err := Certificate(dir, front, time.Hour, time.Now)
		check(t, err)
		pair, err := tls.X509KeyPair(chain, key)
		check(t, err)
		a, err := workloadAuthority(dir, time.Now)
		check(t, err)
		for _, usage := range []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth, x509.ExtKeyUsageServerAuth} {
			if id, _, err := identity.VerifyPeer(a.pool(), time.Now(), usage, pair.Certificate); err != nil || id != front {
				t.Errorf("%v %v", id, err)
			}
		}
		chains = append(chains, a.certificate.Raw)
	}
	if string(chains[0]) != string(chains[1]) {
		t.Error("the second run made another CA")
	}
	info, err := os.Stat(filepath.Join(dir, caKeyFile))
	check(t, err)
	if info.Mode().Perm() != 0o600 {
		t.Errorf("the key has mode %v", info.Mode())
	}
}

func TestACAThatIsNoneIsRefused(t *testing.T) {
	fresh := func() string {
		dir := t.TempDir()
		_, err := workloadAuthority(dir, time.Now)
		check(t, err)
		return dir
	}
	for name, spoil := range map[string]func(dir string){
		"half of it": func(dir string) { check(t, os.Remove(filepath.Join(dir, caFile))) },
		"another key": func(dir string) {
			key, err := os.ReadFile(filepath.Join(fresh(), caKeyFile))
			check(t, err)
			check(t, os.WriteFile(filepath.Join(dir, caKeyFile), key, 0o600))
		},
		"a leaf": func(dir string) {
			chain, key, err := Certificate(dir, front, time.Hour, time.Now)
			check(t, err)
			check(t, os.WriteFile(filepath.Join(dir, caFile), chain, 0o600))
			check(t, os.WriteFile(filepath.Join(dir, caKeyFile), key, 0o600))
		},
	} {
		dir := fresh()
		spoil(dir)
		if _, err := workloadAuthority(dir, time.Now); err == nil {
			t.Errorf("%s: it is taken", name)
		}
	}
	if _, err := workloadAuthority(fresh(), func() time.Time { return time.Now().Add(2 * caLife) }); err == nil {
		t.Error("one that expired is taken")
	}
}

func TestATokenIsItsPodsAlone(t *testing.T) {
	var known tokens
	pod := &corev1.Pod{}
	pod.Namespace, pod.Name, pod.UID, pod.Spec.ServiceAccountName = "shop", "cart-0", "1", "cart"
	token := known.give(pod)
	review := func(token string) authenticationv1.TokenReviewStatus {
		r := &authenticationv1.TokenReview{Spec: authenticationv1.TokenReviewSpec{Token: token}}
		known.review(r)
		return r.Status
	}
	if got := review(token); !got.Authenticated || got.User.Username != "system:serviceaccount:shop:cart" {
		t.Errorf("%+v", got)
	}
	for _, other := range []string{"", token + "x"} {
		if review(other).Authenticated {
			t.Errorf("%q is taken", other)
		}
	}
	known.take(token)
	if review(token).Authenticated {
		t.Error("a token that was taken back is good")
	}
}
