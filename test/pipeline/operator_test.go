// SPDX-License-Identifier: Apache-2.0

package pipeline

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log"
	"maps"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"connectrpc.com/connect"
	"google.golang.org/protobuf/proto"
	corev1 "k8s.io/api/core/v1"

	"github.com/heddle-mesh/heddle/internal/compile"
	"github.com/heddle-mesh/heddle/internal/controlapi"
	"github.com/heddle-mesh/heddle/internal/distribute"
	"github.com/heddle-mesh/heddle/internal/meshconfig"
	"github.com/heddle-mesh/heddle/test/pki"
)

// identities is the identity service. The token of a pod is its UID.
type identities struct {
	mesh *mesh
	ca   atomic.Pointer[pki.CA]
	leaf time.Duration // 0: an hour
}

// IssueCertificate implements controlapi.IdentityServiceHandler.
func (s *identities) IssueCertificate(
	_ context.Context, r *connect.Request[controlapi.IssueCertificateRequest],
) (*connect.Response[controlapi.IssueCertificateResponse], error) {
	pod, ok := s.mesh.pods.Lookup(r.Msg.GetToken())
	if !ok {
		return nil, connect.NewError(connect.CodeUnauthenticated, errors.New("a token of no live pod"))
	}
	now, life := time.Now(), s.leaf
	if life == 0 {
		life = time.Hour
	}
	chain, err := s.ca.Load().SignRequest(r.Msg.GetCsr(), pod.ID, now, now.Add(life))
	if err != nil {
		return nil, err
	}
	return connect.NewResponse(&controlapi.IssueCertificateResponse{Chain: chain}), nil
}

// replica is one replica of the operator.
type replica struct {
	*distribute.Node

	mesh    *mesh
	address string
	stop    func()
}

// replica adds a replica, which relays.
func (m *mesh) replica() *replica {
	m.Helper()
	own := m.serving.Server(m, serverName)
	node := distribute.NewNode(distribute.Options{
		MeshID: meshID, TrustDomain: trustDomain, ServerName: serverName, Version: "test",
		WorkloadRoots: m.cluster.workloadRoots, ServingRoots: m.serving.Pool,
		Certificate: func() *tls.Certificate { return own }, Pods: m.pods.Lookup,
		Leader: func() (string, bool) {
			if a := m.address.Load(); a != nil {
				return *a, true
			}
			return "", false
		},
		Log: m.log.WithName("replica"),
	})
	ctx, cancel := context.WithCancel(context.Background())
	ran := make(chan error, 1)
	go func() { ran <- node.Run(ctx) }()
	path, handler := node.Handler()
	address, stop := m.serve(path, handler)
	r := &replica{Node: node, mesh: m, address: address}
	r.stop = sync.OnceFunc(func() {
		if t := m.leader(); t != nil && t.replica == r {
			t.stop()
		}
		cancel()
		<-ran
		stop()
	})
	m.Cleanup(r.stop)
	m.replicas = append(m.replicas, r)
	return r
}

// serve serves a ConfigService beside the identity service, as the control server.
func (m *mesh) serve(path string, config http.Handler) (address string, stop func()) {
	m.Helper()
	own := m.serving.Server(m, serverName)
	mux := http.NewServeMux()
	mux.Handle(path, config)
	mux.Handle(controlapi.NewIdentityServiceHandler(m.identities))
	server := distribute.NewHTTPServer(func() *tls.Certificate { return own }, mux)
	server.ErrorLog = log.New(io.Discard, "", 0) // who goes away in a handshake is no news
	l := listen(m)
	served := make(chan error, 1)
	go func() { served <- server.ServeTLS(l, "", "") }()
	return l.Addr().String(), func() {
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		_ = server.Shutdown(ctx)
		_ = server.Close()
		<-served
	}
}

// term is a time of leading: it compiles what changed and publishes it.
type term struct {
	mesh      *mesh
	replica   *replica
	publisher *distribute.Publisher
	stop      func()
	wake      chan struct{} // of size 1

	result atomic.Pointer[compile.Result]

	mu        sync.Mutex
	published int                  // version of the cluster
	computed  map[compile.Unit]int // in all compilations
	err       error
}

// lead makes a replica the leader of a term, and the one that led before a relay.
func (m *mesh) lead(r *replica, number uint64) *term {
	m.Helper()
	if old := m.leader(); old != nil {
		old.stop()
		old.replica.SetRelay()
	}
	return m.takeOver(r, number)
}

// takeOver makes a replica the leader of a term. The one that led before goes on as if it had not heard of it.
func (m *mesh) takeOver(r *replica, number uint64) *term {
	m.Helper()
	return m.takeOverAt(r, 0, number)
}

// takeOverAt is takeOver in an epoch.
func (m *mesh) takeOverAt(r *replica, epoch uint32, number uint64) *term {
	m.Helper()
	t := &term{mesh: m, replica: r, wake: make(chan struct{}, 1), computed: make(map[compile.Unit]int), published: -1}
	t.publisher = distribute.NewPublisher(distribute.PublisherOptions{
		MeshID: meshID, Epoch: epoch, Term: number, Signer: m.signer, Resolve: t.resolve, Log: m.log.WithName("publisher"),
	})
	r.SetLeader(t.publisher)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() { defer close(done); t.run(ctx) }()
	t.stop = func() { cancel(); <-done }
	m.Cleanup(t.stop)
	m.mu.Lock()
	m.leading = t
	m.mu.Unlock()
	m.address.Store(&r.address)
	t.notify()
	return t
}

// resolve is Resolve of distribute.PublisherOptions.
func (t *term) resolve(name meshconfig.Name) proto.Message {
	ip, err := netip.ParseAddr(name.Subject())
	result := t.result.Load()
	if err != nil || result == nil {
		return &meshconfig.Address{Address: name.Subject()}
	}
	return result.Address(ip)
}

func (t *term) notify() {
	select {
	case t.wake <- struct{}{}:
	default:
	}
}

// run compiles and publishes whenever something changed, after a while in which more may.
func (t *term) run(ctx context.Context) {
	var memo *compile.Memo
	for {
		select {
		case <-ctx.Done():
			return
		case <-t.wake:
		}
		timer := time.NewTimer(t.mesh.holdOff())
		select {
		case <-ctx.Done():
			timer.Stop()
			return
		case <-timer.C:
		}
		snap, version := t.mesh.cluster.snapshot()
		var result *compile.Result
		result, memo = compile.CompileWith(snap, memo)
		t.result.Store(result)
		err := t.publisher.Publish(result.Sections)
		t.mesh.cluster.keepGood(result.Good)
		t.note(version, memo, err)
	}
}

func (t *term) note(version int, memo *compile.Memo, err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.published, t.err = version, errors.Join(t.err, err)
	for _, unit := range units {
		t.computed[unit] += memo.Computed(unit)
	}
}

var units = []compile.Unit{compile.UnitMesh, compile.UnitInbound, compile.UnitRoutes, compile.UnitEndpoints}

// state returns the version of the cluster that is published.
func (t *term) state() (published int, computed map[compile.Unit]int, err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.published, maps.Clone(t.computed), t.err
}

// settle waits until the cluster as it is now is published and every proxy has put in force what it holds of it.
func (m *mesh) settle() {
	m.Helper()
	var why string
	if !comes(func() bool { why = m.unsettled(); return why == "" }) {
		m.Fatal("in vain: the cluster as it is now is in force everywhere: " + why)
	}
}

// unsettled says what is not in force yet.
func (m *mesh) unsettled() string {
	t := m.leader()
	published, _, err := t.state()
	if err != nil {
		return err.Error()
	}
	if published < m.cluster.now() {
		return "a change is not published yet"
	}
	proxies := m.proxies()
	if n := t.replica.Programmed([]meshconfig.Name{meshconfig.MeshName}).Subscribed; n != len(proxies) {
		return fmt.Sprintf("the leader knows of %d proxies of %d", n, len(proxies))
	}
	names := slices.Collect(maps.Keys(t.result.Load().Sections))
	for _, p := range proxies {
		names = append(names, p.dialled()...)
	}
	if n := t.replica.Programmed(names); n.Acked != n.Subscribed {
		return fmt.Sprintf("%d of %d have acked, %v", n.Acked, n.Subscribed, n.Nacks)
	}
	for _, p := range proxies { // last, since it takes longest
		if d := p.agent.Dump(); len(d.Unheld) > 0 || !d.Connected {
			return fmt.Sprintf("%s: connected %t, waits for %v", p.pod.Name, d.Connected, d.Unheld)
		}
	}
	return ""
}

// counted sums what a node counted by kind of section, all but heartbeats.
func counted(by map[meshconfig.Kind]uint64) (n uint64) {
	for kind, more := range by {
		if kind != meshconfig.KindHeartbeat {
			n += more
		}
	}
	return n
}

// resolveHost is the cluster's DNS: "name.namespace" or an address, and a port.
func (m *mesh) resolveHost(host string) (netip.AddrPort, error) {
	name, port, ok := strings.Cut(host, ":")
	if !ok {
		port = "80"
	}
	if s := m.cluster.service(name); s != nil {
		name = s.Spec.ClusterIP
		if name == corev1.ClusterIPNone {
			name = m.firstPod(s)
		}
	}
	return netip.ParseAddrPort(name + ":" + port)
}

// firstPod is an address of a headless Service.
func (m *mesh) firstPod(s *corev1.Service) string {
	for _, o := range m.cluster.all() {
		if p, ok := o.(*corev1.Pod); ok && p.Namespace == s.Namespace && p.Labels["app"] == s.Spec.Selector["app"] {
			return p.Status.PodIP
		}
	}
	return ""
}
