// SPDX-License-Identifier: Apache-2.0

package issue

import (
	"context"
	"crypto/ecdsa"
	"crypto/x509"
	"encoding/pem"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"
	"time"

	"connectrpc.com/connect"
	cmapi "github.com/cert-manager/cert-manager/pkg/apis/certmanager/v1"
	cmmeta "github.com/cert-manager/cert-manager/pkg/apis/meta/v1"
	"github.com/go-logr/logr"
	"github.com/go-logr/logr/funcr"
	"github.com/prometheus/client_golang/prometheus"
	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/manager"
	metricsserver "sigs.k8s.io/controller-runtime/pkg/metrics/server"

	"github.com/heddle-mesh/heddle/internal/controlapi"
)

// cluster is one operator against the real API server: its identity service over HTTP/2 and TLS, its roots, and in
// cert-manager's place a loop that signs with a real CA, so that it can be told to fail. cert-manager itself runs in
// TestWithCertManager and in the end-to-end tests.
type cluster struct {
	client.Client
	namespace string // the operator's
	shop      string // a workload's
	server    *Server
	roots     *Roots
	identity  controlapi.IdentityServiceClient
	log       *lines
	registry  *prometheus.Registry

	mu     sync.Mutex
	ca     *ca
	mood   mood
	offset time.Duration
}

// mood is what becomes of requests.
type mood int

const (
	signs mood = iota
	denies
	fails
	approvesOnly
	ignores
	signsForAnother
)

// newCluster is a cluster in namespaces of its own, where the loop signs.
func newCluster(t *testing.T) *cluster {
	t.Helper()
	c := newClient(t)
	c.ca = newCA(t, "workload CA")
	c.namespace = c.newNamespace(t, "heddle-")
	c.writeCA(t)
	ctx, cancel := context.WithCancel(t.Context())
	var loop sync.WaitGroup
	loop.Go(func() { c.certManager(ctx, t) })
	t.Cleanup(func() {
		cancel()
		loop.Wait()
	})
	c.startOperator(t)
	return c
}

func newClient(t *testing.T) *cluster {
	t.Helper()
	if apiServer == nil {
		t.Fatal("KUBEBUILDER_ASSETS is not set: run make test-envtest")
	}
	c := &cluster{log: &lines{}, registry: prometheus.NewRegistry()}
	var err error
	if c.Client, err = client.New(apiServer, client.Options{Scheme: scheme}); err != nil {
		t.Fatal(err)
	}
	c.shop = c.newNamespace(t, "shop-")
	return c
}

// startOperator runs the identity service until the test ends.
func (c *cluster) startOperator(t *testing.T) {
	t.Helper()
	operator := c.newManager(t)
	c.roots = NewRoots(RootsOptions{
		Client: operator.GetClient(), Live: operator.GetAPIReader(), Namespace: c.namespace, Log: c.logger(), Clock: c.now,
	})
	c.roots.every = time.Hour // whatever must be seen sooner has its own way
	var err error
	if c.server, err = New(Options{
		Client: operator.GetClient(), Live: operator.GetAPIReader(), Cache: operator.GetCache(), Roots: c.roots,
		TrustDomain: "cluster.local", Namespace: c.namespace, LeafDuration: time.Hour,
		Log: c.logger(), Clock: c.now, Metrics: c.registry,
	}); err != nil {
		t.Fatal(err)
	}
	for _, runnable := range []manager.Runnable{c.roots, c.server} {
		if err := operator.Add(runnable); err != nil {
			t.Fatal(err)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	var group sync.WaitGroup
	group.Go(func() {
		if err := operator.Start(ctx); err != nil {
			t.Errorf("operator: %v", err)
		}
	})
	t.Cleanup(func() {
		cancel()
		group.Wait()
	})
	c.serve(t)
	eventually(t, "the first root is in force", func() bool { return len(c.roots.DER()) == 1 })
}

func (c *cluster) newManager(t *testing.T) manager.Manager {
	t.Helper()
	inOurs := cache.ByObject{Namespaces: map[string]cache.Config{c.namespace: {}}}
	operator, err := ctrl.NewManager(c.asOperator(t), ctrl.Options{
		Scheme:  scheme,
		Metrics: metricsserver.Options{BindAddress: "0"},
		Logger:  logr.Discard(),
		Cache: cache.Options{ByObject: map[client.Object]cache.ByObject{
			&cmapi.CertificateRequest{}: inOurs,
		}},
	})
	if err != nil {
		t.Fatal(err)
	}
	return operator
}

func (c *cluster) serve(t *testing.T) {
	t.Helper()
	mux := http.NewServeMux()
	mux.Handle(c.server.Handler())
	server := httptest.NewUnstartedServer(mux)
	server.EnableHTTP2 = true
	server.StartTLS()
	t.Cleanup(server.Close)
	c.identity = controlapi.NewIdentityServiceClient(server.Client(), server.URL)
}

// certManager signs what is there, again and again, as its approver and its CA issuer would.
func (c *cluster) certManager(ctx context.Context, t *testing.T) {
	t.Helper()
	ticker := time.NewTicker(20 * time.Millisecond)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		list := &cmapi.CertificateRequestList{}
		if err := c.List(ctx, list, client.InNamespace(c.namespace)); err != nil {
			continue
		}
		for i := range list.Items {
			request := &list.Items[i]
			if len(request.Status.Conditions) == 0 {
				c.decide(t, request)
				_ = c.Status().Update(ctx, request) // it may be gone, or the next round does it
			}
		}
	}
}

func (c *cluster) decide(t *testing.T, request *cmapi.CertificateRequest) {
	t.Helper()
	c.mu.Lock()
	defer c.mu.Unlock()
	set := func(kind cmapi.CertificateRequestConditionType, status cmmeta.ConditionStatus, reason, message string) {
		request.Status.Conditions = append(request.Status.Conditions,
			cmapi.CertificateRequestCondition{Type: kind, Status: status, Reason: reason, Message: message})
	}
	approve := func() {
		set(cmapi.CertificateRequestConditionApproved, cmmeta.ConditionTrue, "cert-manager.io", "approved")
	}
	switch c.mood {
	case ignores:
	case denies:
		set(cmapi.CertificateRequestConditionDenied, cmmeta.ConditionTrue, "policy", "not in this house")
	case fails:
		approve()
		set(cmapi.CertificateRequestConditionReady, cmmeta.ConditionFalse, cmapi.CertificateRequestReasonFailed, "no key")
	case approvesOnly:
		approve()
		set(cmapi.CertificateRequestConditionReady, cmmeta.ConditionFalse, cmapi.CertificateRequestReasonPending, "Referenced secret not found")
	case signs, signsForAnother:
		approve()
		c.sign(t, request)
		set(cmapi.CertificateRequestConditionReady, cmmeta.ConditionTrue, cmapi.CertificateRequestReasonIssued, "issued")
	}
}

// sign is called with c.mu held.
func (c *cluster) sign(t *testing.T, request *cmapi.CertificateRequest) {
	t.Helper()
	block, _ := pem.Decode(request.Spec.Request)
	csr := parse(t, block.Bytes)
	if c.mood == signsForAnother {
		csr = parse(t, requestFor(t, newKey(t), csr.URIs[0].String()))
	}
	now := c.nowLocked()
	leaf := c.ca.leaf(t, csr, func(cert *x509.Certificate) {
		cert.NotBefore, cert.NotAfter = now.Add(-time.Second), now.Add(request.Spec.Duration.Duration)
	})
	request.Status.Certificate, request.Status.CA = toPEM(leaf), c.ca.pem()
}

func (c *cluster) setMood(m mood) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.mood = m
}

// now is the operator's clock, which a test can put forward.
func (c *cluster) now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.nowLocked()
}

func (c *cluster) nowLocked() time.Time { return time.Now().Add(c.offset) }

func (c *cluster) forward(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.offset += d
}

func (c *cluster) newNamespace(t *testing.T, prefix string) string {
	t.Helper()
	ns := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{GenerateName: prefix}}
	if err := c.Create(t.Context(), ns); err != nil {
		t.Fatal(err)
	}
	return ns.Name
}

// writeCA writes the CA's Secret as cert-manager does.
func (c *cluster) writeCA(t *testing.T) {
	t.Helper()
	c.mu.Lock()
	authority := c.ca
	c.mu.Unlock()
	key, err := x509.MarshalECPrivateKey(authority.key.(*ecdsa.PrivateKey))
	if err != nil {
		t.Fatal(err)
	}
	secret := &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: c.namespace, Name: DefaultRootsSecret}}
	if _, err := ctrl.CreateOrUpdate(t.Context(), c.Client, secret, func() error {
		if secret.Type == "" {
			secret.Type = corev1.SecretTypeTLS
		}
		secret.Data = map[string][]byte{
			"ca.crt": authority.pem(), "tls.crt": authority.pem(),
			"tls.key": pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: key}),
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
}

// rotate gives the CA another key and certificate.
func (c *cluster) rotate(t *testing.T) {
	t.Helper()
	next := newCA(t, "workload CA")
	c.mu.Lock()
	c.ca = next
	c.mu.Unlock()
	c.writeCA(t)
}

// newPod makes a pod, which nobody runs, with a proxy unless change takes it away.
func (c *cluster) newPod(t *testing.T, name, account string, change func(*corev1.Pod)) *corev1.Pod {
	t.Helper()
	sa := &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Namespace: c.shop, Name: account}}
	if err := client.IgnoreAlreadyExists(c.Create(t.Context(), sa)); err != nil {
		t.Fatal(err)
	}
	pod := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Namespace: c.shop, Name: name, Annotations: map[string]string{AnnotationInjected: "true"}},
		Spec:       corev1.PodSpec{ServiceAccountName: account, Containers: []corev1.Container{{Name: "app", Image: "app"}}},
	}
	if change != nil {
		change(pod)
	}
	if err := c.Create(t.Context(), pod); err != nil {
		t.Fatal(err)
	}
	return pod
}

// token asks the API server for a token as the kubelet does; without a pod it is bound to none.
func (c *cluster) token(t *testing.T, account string, pod *corev1.Pod, audience string) string {
	t.Helper()
	seconds := int64(3600)
	request := &authenticationv1.TokenRequest{Spec: authenticationv1.TokenRequestSpec{Audiences: []string{audience}, ExpirationSeconds: &seconds}}
	if pod != nil {
		request.Spec.BoundObjectRef = &authenticationv1.BoundObjectReference{APIVersion: "v1", Kind: "Pod", Name: pod.Name, UID: pod.UID}
	}
	sa := &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Namespace: c.shop, Name: account}}
	if err := c.SubResource("token").Create(t.Context(), sa, request); err != nil {
		t.Fatal(err)
	}
	return request.Status.Token
}

func (c *cluster) ask(ctx context.Context, csr []byte, token string) ([][]byte, error) {
	answer, err := c.identity.IssueCertificate(ctx, connect.NewRequest(&controlapi.IssueCertificateRequest{Csr: csr, Token: token}))
	if err != nil {
		return nil, err
	}
	return answer.Msg.GetChain(), nil
}

func requestFor(t testing.TB, key *ecdsa.PrivateKey, uri string) []byte {
	t.Helper()
	return request(t, key, &x509.CertificateRequest{URIs: uris(t, uri)})
}

// lines are what was logged.
type lines struct {
	mu  sync.Mutex
	all []string
}

func (c *cluster) logger() logr.Logger {
	return funcr.New(func(_, args string) {
		c.log.mu.Lock()
		defer c.log.mu.Unlock()
		c.log.all = append(c.log.all, args)
	}, funcr.Options{Verbosity: 1})
}

func eventually(t *testing.T, what string, check func() bool) {
	t.Helper()
	deadline := time.NewTimer(30 * time.Second)
	defer deadline.Stop()
	ticker := time.NewTicker(20 * time.Millisecond)
	defer ticker.Stop()
	for !check() {
		select {
		case <-ticker.C:
		case <-deadline.C:
			t.Fatalf("not within 30 s: %s", what)
		}
	}
}
