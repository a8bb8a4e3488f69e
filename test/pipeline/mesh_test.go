// SPDX-License-Identifier: Apache-2.0

package pipeline

import (
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/go-logr/logr"
	"github.com/go-logr/logr/funcr"
	corev1 "k8s.io/api/core/v1"

	"github.com/heddle-mesh/heddle/internal/distribute"
	"github.com/heddle-mesh/heddle/internal/identity"
	"github.com/heddle-mesh/heddle/internal/signedconfig"
	"github.com/heddle-mesh/heddle/internal/snapshot"
	"github.com/heddle-mesh/heddle/test/gen"
	"github.com/heddle-mesh/heddle/test/pki"
)

const (
	trustDomain = "cluster.local"
	namespace   = "shop"
	meshID      = "11111111-2222-3333-4444-555555555555"
	serverName  = "heddle-operator.heddle-system.svc"
	podNetwork  = "10.0.0.0/8" // with the addresses of Services
)

// settings of a mesh; the zero value is good.
type settings struct {
	leaf        time.Duration // life of a workload's certificate; an hour
	authorities *authorities  // of another mesh
	replicas    int           // of the operator; 1. The first leads.
	verbose     bool
}

// authorities are the CAs of a mesh.
type authorities struct {
	serving, workload, config *pki.CA
	signer                    *signedconfig.Signer
}

func newAuthorities(tb testing.TB) *authorities {
	tb.Helper()
	a := &authorities{serving: pki.NewCA(tb, "serving"), workload: pki.NewCA(tb, "workloads"), config: pki.NewConfigCA(tb, "config")}
	a.signer = a.config.Signer(tb, time.Time{}, time.Time{})
	return a
}

// mesh is a cluster with the operator, workloads and their proxies.
type mesh struct {
	*testing.T
	*authorities

	log        logr.Logger
	cluster    *cluster
	network    *network
	pods       *distribute.Pods
	identities *identities
	address    atomic.Pointer[string] // of the leader
	replicas   []*replica

	mu        sync.Mutex
	random    *rand.Rand // of the hold-offs
	leading   *term
	workloads map[string]*workload
	loads     [][]atomic.Int64 // calls by each worker
}

// start makes a mesh without workloads, with one replica of the operator.
func start(t *testing.T) *mesh { t.Helper(); return startWith(t, settings{}) }

func startWith(t *testing.T, s settings) *mesh {
	t.Helper()
	if s.authorities == nil {
		s.authorities = newAuthorities(t)
	}
	seed := newSeed()
	m := &mesh{
		T: t, authorities: s.authorities, log: logr.Discard(), network: newNetwork(), pods: &distribute.Pods{},
		random: rand.New(rand.NewPCG(seed, 0)), workloads: make(map[string]*workload),
	}
	if s.verbose {
		m.log = funcr.New(func(prefix, args string) { t.Log(prefix, args) }, funcr.Options{})
	}
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("of the hold-offs: -seed %d", seed)
		}
	})
	m.cluster = newCluster(snapshot.Options{
		TrustDomain: trustDomain, OperatorNamespace: "heddle-system",
		WorkloadRoots: [][]byte{m.authorities.workload.Certificate.Raw}, Networks: []string{podNetwork},
	})
	m.identities = &identities{mesh: m, leaf: s.leaf}
	m.identities.ca.Store(m.authorities.workload)
	for range max(1, s.replicas) {
		m.replica()
	}
	m.lead(m.replicas[0], 1)
	return m
}

// holdOff is how long the leader waits for more changes before it compiles.
func (m *mesh) holdOff() time.Duration {
	m.mu.Lock()
	defer m.mu.Unlock()
	return time.Duration(m.random.Int64N(int64(6 * time.Millisecond)))
}

// apply creates or updates objects. It does not wait for what comes of it.
func (m *mesh) apply(objects ...object) {
	m.Helper()
	for _, o := range objects {
		m.cluster.put(o)
		if p, ok := o.(*corev1.Pod); ok {
			m.pods.Set(string(p.UID), idOf(p), p.DeletionTimestamp != nil)
		}
		m.changed()
	}
}

// delete deletes objects.
func (m *mesh) delete(objects ...object) {
	m.Helper()
	for _, o := range objects {
		m.cluster.remove(o)
		if p, ok := o.(*corev1.Pod); ok {
			m.pods.Delete(string(p.UID))
		}
		m.changed()
	}
}

func (m *mesh) changed() {
	if t := m.leader(); t != nil {
		t.notify()
	}
}

// leader returns who leads, or nil.
func (m *mesh) leader() *term {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.leading
}

func idOf(p *corev1.Pod) identity.ID {
	return identity.ID{TrustDomain: trustDomain, Namespace: p.Namespace, ServiceAccount: p.Spec.ServiceAccountName}
}

// run adds pods to the cluster, each with its application and, if it is meshed, its proxy, and waits until these are
// ready: before, nobody is sent to a pod.
func (m *mesh) run(pods ...*corev1.Pod) {
	m.Helper()
	for _, p := range pods {
		starting := p.DeepCopy()
		starting.Status.Phase = corev1.PodPending
		m.apply(starting)
		w := newWorkload(m, p)
		m.mu.Lock()
		m.workloads[p.Namespace+"/"+p.Name] = w
		m.mu.Unlock()
		if w.meshed() {
			w.startProxy()
		}
	}
	for _, p := range pods {
		m.workload(p.Namespace + "/" + p.Name).awaitReady()
		m.apply(p)
	}
}

// workload returns a pod that was run, by "namespace/name".
func (m *mesh) workload(key string) *workload {
	m.Helper()
	m.mu.Lock()
	defer m.mu.Unlock()
	w := m.workloads[key]
	if w == nil {
		m.Fatalf("no workload %s", key)
	}
	return w
}

// proxies returns the proxies that run.
func (m *mesh) proxies() []*proxy {
	m.mu.Lock()
	defer m.mu.Unlock()
	var out []*proxy
	for _, w := range m.workloads {
		if p := w.running(); p != nil {
			out = append(out, p)
		}
	}
	return out
}

// Objects of the shop.

// service builds a Service with a port of each kind, at 10.96.0.<n>.
func service(name string, n int) *corev1.Service {
	return gen.Service(namespace, name, gen.ClusterIP(fmt.Sprintf("10.96.0.%d", n)),
		gen.Port("http", 80, httpPort), gen.Port("grpc", 90, grpcPort), gen.Port("tcp", 70, tcpPort))
}

// pod builds the pod "<app>-<n>" of an application, at 10.0.<app>.<n>; the number of the application is the caller's.
func pod(app string, number, n int, options ...gen.Option[corev1.Pod]) *corev1.Pod {
	options = append([]gen.Option[corev1.Pod]{gen.App(app)}, options...)
	return gen.Pod(namespace, fmt.Sprintf("%s-%d", app, n), fmt.Sprintf("10.0.%d.%d", number, n), options...)
}

// shop is a mesh with a caller and what it calls: web-1, and cart-1 and cart-v2-1 behind Services.
func shop(t *testing.T, s settings) *mesh {
	t.Helper()
	m := startWith(t, s)
	m.apply(service("cart", 1), service("cart-v2", 2))
	m.run(pod("web", 1, 1), pod("cart", 2, 1), pod("cart-v2", 3, 1))
	m.settle()
	return m
}
