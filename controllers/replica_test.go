// SPDX-License-Identifier: Apache-2.0

package controllers

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-logr/logr"
	"github.com/go-logr/logr/funcr"
	"github.com/prometheus/client_golang/prometheus"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	metricsserver "sigs.k8s.io/controller-runtime/pkg/metrics/server"

	"github.com/heddle-mesh/heddle/internal/distribute"
	"github.com/heddle-mesh/heddle/internal/leader"
	"github.com/heddle-mesh/heddle/internal/signedconfig"
	"github.com/heddle-mesh/heddle/test/pki"
)

// meshID is no UID, so that a test that mixes it up with one shows.
const meshID = "mesh-of-tests"

// installation is an operator's namespace with a config signer, as cert-manager would leave it.
type installation struct {
	namespace string
	ca        *pki.CA // of config
	serving   *pki.CA
	workloads *pki.CA
}

func newInstallation(t *testing.T) *installation {
	t.Helper()
	i := &installation{
		namespace: newNamespace(t, nil),
		ca:        pki.NewConfigCA(t, "config"), serving: pki.NewCA(t, "serving"), workloads: pki.NewCA(t, "workloads"),
	}
	i.renewSigner(t)
	return i
}

// renewSigner writes the Secret of the config signer anew, by the CA that the installation has now.
func (i *installation) renewSigner(t *testing.T) {
	t.Helper()
	_, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	cert := i.ca.Issue(t, &x509.Certificate{
		DNSNames: []string{signedconfig.SignerName}, KeyUsage: x509.KeyUsageDigitalSignature,
	}, key.Public())
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	secret := &corev1.Secret{
		ObjectMeta: metav1.ObjectMeta{Namespace: i.namespace, Name: SignerSecret}, Type: corev1.SecretTypeTLS,
		Data: map[string][]byte{
			"tls.crt": pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cert.Raw}),
			"tls.key": pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}),
			"ca.crt":  i.ca.PEM(),
		},
	}
	if err := api.Create(t.Context(), secret); apierrors.IsAlreadyExists(err) {
		err = api.Update(t.Context(), secret)
		if err != nil {
			t.Fatal(err)
		}
	} else if err != nil {
		t.Fatal(err)
	}
}

// replica is one operator without its servers.
type replica struct {
	leadership *Leadership
	node       *distribute.Node
	metrics    *prometheus.Registry
	stop       func()
}

// start runs a replica until stop or the end of the test.
func (i *installation) start(t *testing.T) *replica {
	t.Helper()
	log := testLog(t)
	mgr, err := ctrl.NewManager(apiServer, ctrl.Options{
		Scheme: scheme, Logger: log, Cache: CacheOptions(i.namespace), Metrics: metricsserver.Options{BindAddress: "0"},
		HealthProbeBindAddress: "0",
	})
	if err != nil {
		t.Fatal(err)
	}
	trust := &TrustRoots{Clock: time.Now}
	trust.Learn(RootsOperator, []*x509.Certificate{i.serving.Certificate})
	serving := i.serving.Server(t, "heddle-operator."+i.namespace+".svc")
	r := &replica{metrics: prometheus.NewRegistry()}
	r.node = distribute.NewNode(distribute.Options{
		MeshID: meshID, TrustDomain: "cluster.local", ServerName: serving.Leaf.DNSNames[0], Version: "test",
		WorkloadRoots: i.workloads.Pool, ServingRoots: i.serving.Pool,
		Certificate: func() *tls.Certificate { return serving },
		Pods:        (&distribute.Pods{}).Lookup, Leader: func() (string, bool) { return "", false }, Log: logr.Discard(),
	})
	cluster, err := kubernetes.NewForConfig(apiServer)
	if err != nil {
		t.Fatal(err)
	}
	r.leadership = &Leadership{
		MeshID: meshID, Scheme: scheme, Node: r.node, Results: &Results{}, Clock: time.Now, Log: log,
		Fence:   &leader.Fence{ConfigMaps: cluster.CoreV1(), Namespace: i.namespace},
		CatchUp: &leader.CatchUp{Cache: mgr.GetClient(), Live: mgr.GetAPIReader(), Lists: Inputs()},
		Signers: &Signers{Live: mgr.GetAPIReader(), Namespace: i.namespace, Roots: trust, Clock: time.Now, Log: log},
	}
	election := leader.NewElection(leader.Options{
		Leases: cluster.CoordinationV1(), Namespace: i.namespace, Name: "heddle-operator", Address: "127.0.0.1:8443",
		Lead: r.leadership.Lead, Log: log,
	})
	if err := Setup(mgr, Options{
		Namespace: i.namespace, Collector: i.collector(mgr), Leadership: r.leadership, Inputs: &Signal{}, Metrics: r.metrics,
	}); err != nil {
		t.Fatal(err)
	}
	for _, f := range []func(context.Context) error{election.Start, r.node.Run} {
		if err := mgr.Add(everywhereRunnable(f)); err != nil {
			t.Fatal(err)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	stopped := make(chan struct{})
	go func() {
		defer close(stopped)
		if err := mgr.Start(ctx); err != nil {
			t.Error(err)
		}
	}()
	r.stop = sync.OnceFunc(func() {
		cancel()
		<-stopped
	})
	t.Cleanup(r.stop)
	return r
}

type everywhereRunnable func(context.Context) error

func (everywhereRunnable) NeedLeaderElection() bool { return false }

func (f everywhereRunnable) Start(ctx context.Context) error { return f(ctx) }

// testLog logs to the test until it ends; what is said after that is lost.
func testLog(t *testing.T) logr.Logger {
	t.Helper()
	var mu sync.Mutex
	over := false
	t.Cleanup(func() {
		mu.Lock()
		defer mu.Unlock()
		over = true
	})
	return funcr.New(func(prefix, args string) {
		mu.Lock()
		defer mu.Unlock()
		if !over && testing.Verbose() {
			t.Log(prefix, args)
		}
	}, funcr.Options{})
}

// newNamespace makes a namespace of a name that no other test has.
func newNamespace(t *testing.T, labels map[string]string) string {
	t.Helper()
	ns := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{GenerateName: "test-", Labels: labels}}
	if err := api.Create(t.Context(), ns); err != nil {
		t.Fatal(err)
	}
	return ns.Name
}

// eventually waits until check says nothing is wrong, and fails with what it said last.
func eventually(t *testing.T, check func() string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	ticker := time.NewTicker(50 * time.Millisecond)
	defer ticker.Stop()
	for {
		wrong := check()
		if wrong == "" {
			return
		}
		select {
		case <-ticker.C:
		case <-ctx.Done():
			t.Fatal(wrong)
		}
	}
}

// get reads an object from the API server into itself.
func get[T client.Object](t *testing.T, o T) T {
	t.Helper()
	if err := api.Get(t.Context(), client.ObjectKeyFromObject(o), o); err != nil {
		t.Fatal(err)
	}
	return o
}

func create(t *testing.T, objects ...client.Object) {
	t.Helper()
	for _, o := range objects {
		o.SetResourceVersion("")
		o.SetUID("")
		o.SetGeneration(0)
		o.SetCreationTimestamp(metav1.Time{})
		if err := api.Create(t.Context(), o); err != nil {
			t.Fatal(err)
		}
	}
}

// line is the conditions of a status in one line: "Accepted=True ... Ready=False(Invalid)".
func line(conditions []metav1.Condition) string {
	var out []string
	for _, c := range conditions {
		out = append(out, c.Type+"="+string(c.Status)+"("+c.Reason+")")
	}
	return strings.Join(out, " ")
}
