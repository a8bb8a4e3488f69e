// SPDX-License-Identifier: Apache-2.0

package issue

import (
	"context"
	"crypto/ed25519"
	"crypto/x509"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	cmapi "github.com/cert-manager/cert-manager/pkg/apis/certmanager/v1"
	cmmeta "github.com/cert-manager/cert-manager/pkg/apis/meta/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/heddle-mesh/heddle/internal/identity"
)

// certManagerBinary is cert-manager's own controllers, which test/cluster builds beside the API server.
const certManagerBinary = "cert-manager-controller"

// The real cert-manager, with the CAs of config/certmanager, signs for the identity service.
func TestWithCertManager(t *testing.T) {
	c := newClient(t)
	c.namespace = "heddle-system"
	runCertManager(t)
	ns := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: c.namespace}}
	if err := client.IgnoreAlreadyExists(c.Create(t.Context(), ns)); err != nil {
		t.Fatal(err)
	}
	c.run(t, "kubectl", "apply", "--server-side", "-k", filepath.Join("..", "..", "config", "certmanager"))
	eventually(t, "every Certificate of config/certmanager is ready", func() bool { return c.readyCertificates(t) == 6 })
	t.Run("what signs config has the key and the name that proxies look for", c.checkConfigSigner)

	earlier := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: c.namespace, Name: RootsConfigMap}} // with -count
	if err := client.IgnoreNotFound(c.Delete(t.Context(), earlier)); err != nil {
		t.Fatal(err)
	}
	c.startOperator(t)
	pod := c.newPod(t, "checkout-0", "checkout", nil)
	token := c.token(t, "checkout", pod, Audience)
	csr := requestFor(t, newKey(t), c.id("checkout"))
	start := time.Now()
	old, err := c.ask(t.Context(), csr, token)
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("a certificate took %s", time.Since(start).Round(time.Millisecond))
	c.verifies(t, old)
	c.nothingLeft(t)

	// A new key for the CA, as docs/install.md tells it.
	secret := &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: c.namespace, Name: DefaultRootsSecret}}
	if err := c.Delete(t.Context(), secret); err != nil {
		t.Fatal(err)
	}
	var chain [][]byte
	eventually(t, "leaves of the new CA are handed out", func() bool {
		c.forward(podEvery) // the pod may ask again, and in the end the new root is announced
		chain, err = c.ask(t.Context(), csr, token)
		return err == nil && len(c.roots.DER()) == 2
	})
	c.verifies(t, old)
	c.verifies(t, chain)
	c.logged(t, "certificate refused", string(ReasonRootPending))
	c.nothingLeft(t)
}

// runCertManager runs cert-manager's controllers until the test ends.
func runCertManager(t *testing.T) {
	t.Helper()
	binary := filepath.Join(os.Getenv("KUBEBUILDER_ASSETS"), certManagerBinary)
	if _, err := os.Stat(binary); err != nil {
		t.Fatalf("no cert-manager to run: %v: run make test-envtest", err)
	}
	dir := t.TempDir()
	log, err := os.Create(filepath.Join(dir, "log"))
	if err != nil {
		t.Fatal(err)
	}
	config := filepath.Join(dir, "kubeconfig")
	if err := os.WriteFile(config, kubeconfig, 0o600); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	command := exec.CommandContext(ctx, binary, "--kubeconfig", config, "--leader-elect=false", //nolint:gosec // a test's
		"--metrics-listen-address=127.0.0.1:0", "--internal-healthz-listen-address=127.0.0.1:0")
	command.Stdout, command.Stderr = log, log
	command.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := command.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		cancel()
		_ = command.Wait() // it was killed
		if t.Failed() {
			text, _ := os.ReadFile(log.Name())
			t.Logf("cert-manager said:\n%s", text)
		}
	})
}

func (c *cluster) run(t *testing.T, name string, args ...string) {
	t.Helper()
	config := filepath.Join(t.TempDir(), "kubeconfig")
	if err := os.WriteFile(config, kubeconfig, 0o600); err != nil {
		t.Fatal(err)
	}
	command := exec.CommandContext(t.Context(), filepath.Join(os.Getenv("KUBEBUILDER_ASSETS"), name), args...) //nolint:gosec // a test's
	command.Env = append(os.Environ(), "KUBECONFIG="+config)
	if out, err := command.CombinedOutput(); err != nil {
		t.Fatalf("%s %v: %v\n%s", name, args, err, out)
	}
}

func (c *cluster) readyCertificates(t *testing.T) int {
	t.Helper()
	list := &cmapi.CertificateList{}
	if err := c.List(t.Context(), list, client.InNamespace(c.namespace)); err != nil {
		t.Fatal(err)
	}
	ready := 0
	for i := range list.Items {
		for _, condition := range list.Items[i].Status.Conditions {
			if condition.Type == cmapi.CertificateConditionReady && condition.Status == cmmeta.ConditionTrue {
				ready++
			}
		}
	}
	return ready
}

func (c *cluster) checkConfigSigner(t *testing.T) {
	secret := &corev1.Secret{}
	if err := c.Get(t.Context(), client.ObjectKey{Namespace: c.namespace, Name: "heddle-config-signer"}, secret); err != nil {
		t.Fatal(err)
	}
	chain, err := parseChain(secret.Data["tls.crt"])
	if err != nil {
		t.Fatal(err)
	}
	leaf := chain[0]
	if _, ok := leaf.PublicKey.(ed25519.PublicKey); !ok {
		t.Errorf("its key is a %T: want Ed25519", leaf.PublicKey)
	}
	if len(leaf.DNSNames) != 1 || leaf.DNSNames[0] != "heddle-config-signer" || leaf.KeyUsage != x509.KeyUsageDigitalSignature || leaf.IsCA {
		t.Errorf("names %q, usages %b, CA %t", leaf.DNSNames, leaf.KeyUsage, leaf.IsCA)
	}
	if life := time.Until(leaf.NotAfter); life < 29*24*time.Hour || life > 30*24*time.Hour {
		t.Errorf("it lives %s: want 30 days", life)
	}
}

func (c *cluster) verifies(t *testing.T, chain [][]byte) {
	t.Helper()
	id, _, err := identity.VerifyPeer(c.roots.Pool(), time.Now(), x509.ExtKeyUsageClientAuth, chain)
	if err != nil || id.String() != c.id("checkout") {
		t.Errorf("got %s and %v", id, err)
	}
}
