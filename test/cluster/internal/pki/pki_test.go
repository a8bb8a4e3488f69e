// SPDX-License-Identifier: Apache-2.0

package pki

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/heddle-mesh/heddle/test/cluster/internal/home"
)

func made(t *testing.T) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "pki")
	if err := Ensure(dir); err != nil {
		t.Fatal(err)
	}
	return dir
}

func TestLeavesVerify(t *testing.T) {
	dir := made(t)
	for _, l := range leaves() {
		ca, err := certificate(dir, l.ca)
		if err != nil {
			t.Fatal(err)
		}
		roots := x509.NewCertPool()
		roots.AddCert(ca)
		pair, err := tls.LoadX509KeyPair(filepath.Join(dir, l.name+".crt"), filepath.Join(dir, l.name+".key"))
		if err != nil {
			t.Fatal(err)
		}
		for _, usage := range []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth, x509.ExtKeyUsageServerAuth} {
			if _, err := pair.Leaf.Verify(x509.VerifyOptions{Roots: roots, KeyUsages: []x509.ExtKeyUsage{usage}}); err != nil {
				t.Errorf("%s: %v", l.name, err)
			}
		}
		for _, name := range l.names() {
			if err := pair.Leaf.VerifyHostname(name); err != nil {
				t.Errorf("%s: %v", l.name, err)
			}
		}
	}
	admin, err := certificate(dir, "admin")
	if err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(admin.Subject.Organization, []string{"system:masters"}) {
		t.Errorf("the administrator's groups are %q", admin.Subject.Organization)
	}
}

func TestEnsureKeepsWhatIsGood(t *testing.T) {
	dir := made(t)
	before, err := os.ReadFile(filepath.Join(dir, "ca.crt"))
	if err != nil {
		t.Fatal(err)
	}
	if err := Ensure(dir); err != nil {
		t.Fatal(err)
	}
	after, err := os.ReadFile(filepath.Join(dir, "ca.crt"))
	if err != nil {
		t.Fatal(err)
	}
	if string(before) != string(after) {
		t.Error("a good CA was made anew")
	}
}

func TestEnsureReplaces(t *testing.T) {
	dir := made(t)
	if good, err := valid(dir, time.Now().Add(life+time.Hour)); good || err != nil {
		t.Errorf("certificates are good after their end: %v, %v", good, err)
	}
	if err := os.Remove(filepath.Join(dir, "kubelet.crt")); err != nil {
		t.Fatal(err)
	}
	if good, err := valid(dir, time.Now()); good || err != nil {
		t.Errorf("a missing certificate is good: %v, %v", good, err)
	}
	if err := Ensure(dir); err != nil {
		t.Fatal(err)
	}
	if good, err := valid(dir, time.Now()); !good || err != nil {
		t.Errorf("after Ensure: %v, %v", good, err)
	}
}

func TestKubeconfig(t *testing.T) {
	data, err := os.ReadFile(filepath.Join(made(t), filepath.Base(home.Home("/h").Kubeconfig())))
	if err != nil {
		t.Fatal(err)
	}
	var config struct {
		Clusters []struct {
			Cluster struct {
				Server string
				CA     []byte `json:"certificate-authority-data"`
			}
		}
		Users []struct {
			User struct {
				Certificate []byte `json:"client-certificate-data"`
				Key         []byte `json:"client-key-data"`
			}
		}
	}
	if err := json.Unmarshal(data, &config); err != nil {
		t.Fatal(err)
	}
	user, cluster := config.Users[0].User, config.Clusters[0].Cluster
	if _, err := tls.X509KeyPair(user.Certificate, user.Key); err != nil {
		t.Error(err)
	}
	if !x509.NewCertPool().AppendCertsFromPEM(cluster.CA) || cluster.Server != "https://198.18.0.1:6443" {
		t.Errorf("cluster is %+v", cluster)
	}
}
