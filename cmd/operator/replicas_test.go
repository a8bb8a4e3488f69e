// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	mathrand "math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/go-logr/logr"
	"github.com/prometheus/client_golang/prometheus"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/yaml"

	"github.com/heddle-mesh/heddle/internal/issue"
	"github.com/heddle-mesh/heddle/internal/meshconfig"
	"github.com/heddle-mesh/heddle/internal/signedconfig"
	"github.com/heddle-mesh/heddle/test/pki"
)

const namespace = "heddle-system"

// installation is what `kubectl apply -k config/default` and cert-manager leave behind.
type installation struct {
	config, serving, workloads *pki.CA
	as                         *rest.Config // the operator's service account, with the Role of config/rbac
}

// installed is the one installation of the API server, made by the first test that needs it.
var installed *installation

func install(t *testing.T) *installation {
	t.Helper()
	if apiServer == nil {
		t.Fatal("KUBEBUILDER_ASSETS names no API server: make test-envtest")
	}
	if installed != nil {
		return installed
	}
	i := &installation{
		config: pki.NewConfigCA(t, "config"), serving: pki.NewCA(t, "serving"), workloads: pki.NewCA(t, "workloads"),
		as: rest.CopyConfig(apiServer),
	}
	i.as.QPS = -1
	i.as.Impersonate = rest.ImpersonationConfig{
		UserName: "system:serviceaccount:" + namespace + ":heddle-operator", Groups: []string{"system:authenticated"},
	}
	create(t, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: namespace}})
	_, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	signer := i.config.Issue(t, &x509.Certificate{
		DNSNames: []string{signedconfig.SignerName}, KeyUsage: x509.KeyUsageDigitalSignature,
	}, key.Public())
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	create(t,
		&corev1.Secret{
			ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: "heddle-config-signer"}, Type: corev1.SecretTypeTLS,
			Data: map[string][]byte{
				"tls.crt": pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: signer.Raw}),
				"tls.key": pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}),
				"ca.crt":  i.config.PEM(),
			},
		},
		&corev1.Secret{
			ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: "heddle-workload-ca"},
			Data:       map[string][]byte{"ca.crt": i.workloads.PEM()},
		},
	)
	applyRBAC(t)
	installed = i
	return i
}

// applyRBAC applies config/rbac, so that a right that is missing there fails here.
func applyRBAC(t *testing.T) {
	t.Helper()
	for _, file := range []string{"role.yaml", "role_binding.yaml"} {
		data, err := os.ReadFile(filepath.Join("..", "..", "config", "rbac", file))
		if err != nil {
			t.Fatal(err)
		}
		for _, document := range strings.Split(string(data), "\n---\n") {
			var kind metav1.TypeMeta
			document = strings.TrimPrefix(document, "---\n")
			if err := yaml.Unmarshal([]byte(document), &kind); err != nil {
				t.Fatal(err)
			}
			object := map[string]client.Object{
				"ClusterRole": &rbacv1.ClusterRole{}, "Role": &rbacv1.Role{},
				"ClusterRoleBinding": &rbacv1.ClusterRoleBinding{}, "RoleBinding": &rbacv1.RoleBinding{},
			}[kind.Kind]
			if err := yaml.UnmarshalStrict([]byte(document), object); err != nil {
				t.Fatal(err)
			}
			create(t, object)
		}
	}
}

func create(t *testing.T, objects ...client.Object) {
	t.Helper()
	for _, o := range objects {
		if err := api.Create(t.Context(), o); err != nil {
			t.Fatal(err)
		}
	}
}

// start runs a replica on ports of its own until stop.
func (i *installation) start(t *testing.T) (r *replica, stop func()) {
	t.Helper()
	dir := t.TempDir()
	o := &options{
		namespace: namespace, podIP: "127.0.0.1", trustDomain: "cluster.local", proxyImage: "proxy",
		controlPort: freePort(t), webhookPort: freePort(t), controlCerts: dir, webhookCerts: dir,
		metricsBind: "0", healthBind: "0", leafDuration: time.Hour, issuer: issue.DefaultIssuer,
		controlAddress: "heddle-operator:8443",
	}
	writeCertificate(t, dir, i.serving.Server(t, o.serverName()), i.serving)
	r, err := newReplica(t.Context(), i.as, o, logr.Discard(), prometheus.NewRegistry())
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	stopped := make(chan struct{})
	go func() {
		defer close(stopped)
		if err := r.manager.Start(ctx); err != nil {
			t.Error(err)
		}
	}()
	stop = sync.OnceFunc(func() {
		cancel()
		<-stopped
	})
	t.Cleanup(stop)
	eventually(t, "the control server does not listen", func() bool { return r.control.ready(nil) == nil })
	return r, stop
}

// freePort is outside of the range from which the kernel takes ports for others.
func freePort(t *testing.T) int {
	t.Helper()
	const first, last = 10_000, 30_000
	for {
		port := first + mathrand.IntN(last-first)
		l, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", port))
		if errors.Is(err, syscall.EADDRINUSE) {
			continue
		}
		if err != nil {
			t.Fatal(err)
		}
		l.Close()
		return port
	}
}

func eventually(t *testing.T, otherwise string, ok func() bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	ticker := time.NewTicker(20 * time.Millisecond)
	defer ticker.Stop()
	for !ok() {
		select {
		case <-ticker.C:
		case <-ctx.Done():
			t.Fatal(otherwise)
		}
	}
}

func TestReplicasServeTheSameConfigAndReplaceEachOther(t *testing.T) {
	i := install(t)
	a, stopA := i.start(t)
	eventually(t, "the only replica does not lead", func() bool { return a.leads() })
	b, _ := i.start(t)
	p := i.newProxy(t, a.meshID)
	binding := meshconfig.BindingName(string(p.pod.UID))

	fromLeader, relayed := p.mustAsk(t, a, i, meshconfig.MeshName), p.mustAsk(t, b, i, meshconfig.MeshName)
	if fromLeader.Serial != relayed.Serial || fromLeader.Digest() != relayed.Digest() {
		t.Errorf("the leader has %s, the other replica %s", fromLeader.Serial, relayed.Serial)
	}
	first := p.mustAsk(t, b, i, binding)
	if first.Audience != signedconfig.AudiencePod(string(p.pod.UID)) || b.leads() {
		t.Errorf("a binding for %s, from a replica that leads: %t", first.Audience, b.leads())
	}

	start := time.Now()
	stopA()
	eventually(t, "nobody took over", b.leads)
	t.Logf("a leader that stopped was replaced after %s", time.Since(start).Round(time.Millisecond))
	second := p.mustAsk(t, b, i, binding)
	if second.Serial.Term <= first.Serial.Term || second.Digest() != first.Digest() {
		t.Errorf("the binding was at %s and is at %s: want a later term and the same content", first.Serial, second.Serial)
	}

	roots := &corev1.ConfigMap{}
	if err := api.Get(t.Context(), client.ObjectKey{Namespace: p.pod.Namespace, Name: "heddle-roots"}, roots); err != nil ||
		roots.Data["config.pem"] != string(i.config.PEM()) || roots.Data["operator.pem"] != string(i.serving.PEM()) {
		t.Errorf("the pod would mount %v, %v", roots.Data, err)
	}
	if _, err := (&proxy{pod: p.pod, cert: i.serving.Server(t, "web")}).ask(t, b, i, binding); err == nil {
		t.Error("a caller without a workload certificate got a binding")
	}
}
