// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log"
	"maps"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"connectrpc.com/connect"
	"github.com/go-logr/logr"
	"google.golang.org/protobuf/proto"

	"github.com/heddle-mesh/heddle/internal/controlapi"
	"github.com/heddle-mesh/heddle/internal/distribute"
	"github.com/heddle-mesh/heddle/internal/identity"
	"github.com/heddle-mesh/heddle/internal/meshconfig"
	"github.com/heddle-mesh/heddle/internal/signedconfig"
	"github.com/heddle-mesh/heddle/test/pki"
)

const (
	serverName = "heddle-operator.heddle-system.svc"
	meshID     = "11111111-2222-3333-4444-555555555555"
	domain     = "cluster.local"
	token      = "the-pod's-token"
	patience   = 30 * time.Second
)

var shopper = identity.ID{TrustDomain: domain, Namespace: "shop", ServiceAccount: "web"}

// world is a cluster: its CAs, its pods and who leads.
type world struct {
	serving, workload, config *pki.CA
	signer                    *signedconfig.Signer
	pods                      *distribute.Pods
	leader                    atomic.Pointer[string]
	identities                *identities
}

func newWorld(tb testing.TB) *world {
	tb.Helper()
	w := &world{
		serving: pki.NewCA(tb, "serving"), workload: pki.NewCA(tb, "workloads"), config: pki.NewConfigCA(tb, "config"),
		pods: &distribute.Pods{},
	}
	w.signer = w.config.Signer(tb, time.Time{}, time.Time{})
	w.identities = &identities{ca: w.workload}
	w.identities.token.Store(new(token))
	return w
}

// identities is the identity service, which signs for whoever has the token.
type identities struct {
	ca     *pki.CA
	issued atomic.Int64
	broken atomic.Bool
	token  atomic.Pointer[string]
}

func (s *identities) IssueCertificate(
	_ context.Context, req *connect.Request[controlapi.IssueCertificateRequest],
) (*connect.Response[controlapi.IssueCertificateResponse], error) {
	if s.broken.Load() {
		return nil, connect.NewError(connect.CodeUnavailable, errors.New("cert-manager is away"))
	}
	if req.Msg.GetToken() != *s.token.Load() {
		return nil, connect.NewError(connect.CodeUnauthenticated, errors.New("not the token"))
	}
	now := time.Now()
	chain, err := s.ca.SignRequest(req.Msg.GetCsr(), shopper, now.Add(-time.Minute), now.Add(time.Hour))
	if err != nil {
		return nil, err
	}
	s.issued.Add(1)
	return connect.NewResponse(&controlapi.IssueCertificateResponse{Chain: chain}), nil
}

// operator is one replica.
type operator struct {
	*distribute.Node

	address string
	stop    func()
}

func (w *world) operator(tb testing.TB) *operator {
	tb.Helper()
	own := w.serving.Server(tb, serverName)
	node := distribute.NewNode(distribute.Options{
		MeshID: meshID, TrustDomain: domain, ServerName: serverName,
		WorkloadRoots: w.workload.Pool, ServingRoots: w.serving.Pool,
		Certificate: func() *tls.Certificate { return own },
		Pods:        w.pods.Lookup,
		Leader: func() (string, bool) {
			if a := w.leader.Load(); a != nil {
				return *a, true
			}
			return "", false
		},
		Log: logr.Discard(),
	})
	ctx, cancel := context.WithCancel(context.Background())
	ran := make(chan error, 1)
	go func() { ran <- node.Run(ctx) }()
	path, handler := node.Handler()
	address, stop := w.serve(tb, path, handler)
	o := &operator{Node: node, address: address}
	o.stop = sync.OnceFunc(func() { cancel(); <-ran; stop() })
	tb.Cleanup(o.stop)
	return o
}

// serve serves a ConfigService beside the identity service.
func (w *world) serve(tb testing.TB, path string, config http.Handler) (address string, stop func()) {
	tb.Helper()
	own := w.serving.Server(tb, serverName)
	mux := http.NewServeMux()
	mux.Handle(path, config)
	mux.Handle(controlapi.NewIdentityServiceHandler(w.identities))
	server := distribute.NewHTTPServer(func() *tls.Certificate { return own }, mux)
	server.ErrorLog = log.New(io.Discard, "", 0) // handshakes that fail are part of some tests
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	check(tb, err)
	served := make(chan error, 1)
	go func() { served <- server.ServeTLS(listener, "", "") }()
	return listener.Addr().String(), func() {
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		_ = server.Shutdown(ctx)
		_ = server.Close()
		<-served
	}
}

// lead makes an operator the leader of a term.
func (w *world) lead(o *operator, term uint64) *distribute.Publisher {
	p := distribute.NewPublisher(distribute.PublisherOptions{
		MeshID: meshID, Term: term, Signer: w.signer,
		Resolve: func(name meshconfig.Name) proto.Message { return &meshconfig.Address{Address: name.Subject()} },
	})
	o.SetLeader(p)
	w.leader.Store(&o.address)
	return p
}

// proxy is an agent with a table that remembers what it was told.
type proxy struct {
	*Agent

	stop func()

	mu         sync.Mutex
	table      map[meshconfig.Name]proto.Message
	removed    map[meshconfig.Name]bool
	refuse     map[meshconfig.Name]bool // what the table cannot put in force
	terminated int
}

// files makes what is mounted into a pod, and returns its options.
func (w *world) files(tb testing.TB, uid, address string) Options {
	tb.Helper()
	dir := tb.TempDir()
	check(tb, os.WriteFile(filepath.Join(dir, operatorRootsFile), w.serving.PEM(), 0o600))
	check(tb, os.WriteFile(filepath.Join(dir, configRootsFile), w.config.PEM(), 0o600))
	check(tb, os.WriteFile(filepath.Join(dir, "token"), []byte(token+"\n"), 0o600))
	return Options{
		ControlAddress: address, ControlServerName: serverName, MeshID: meshID, ID: shopper, PodUID: uid, Version: "test",
		RootsDir: dir, TokenFile: filepath.Join(dir, "token"), StateDir: filepath.Join(dir, "state"), Log: logr.Discard(),
	}
}

// start runs an agent.
func start(tb testing.TB, opts Options) *proxy {
	tb.Helper()
	p := prepare(tb, opts)
	p.run(tb)
	return p
}

// prepare makes an agent that does not run yet.
func prepare(tb testing.TB, opts Options) *proxy {
	tb.Helper()
	p := &proxy{
		table: make(map[meshconfig.Name]proto.Message), removed: make(map[meshconfig.Name]bool), refuse: make(map[meshconfig.Name]bool),
	}
	opts.Apply = func(name meshconfig.Name, m proto.Message) error {
		p.mu.Lock()
		defer p.mu.Unlock()
		if p.refuse[name] {
			return errors.New("the table says no")
		}
		p.table[name] = m
		return nil
	}
	opts.Remove = func(name meshconfig.Name) {
		p.mu.Lock()
		defer p.mu.Unlock()
		delete(p.table, name)
		p.removed[name] = true
	}
	opts.Terminating = func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		p.terminated++
	}
	a, err := New(opts)
	check(tb, err)
	p.Agent = a
	return p
}

func (p *proxy) run(tb testing.TB) {
	tb.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- p.Run(ctx) }()
	p.stop = sync.OnceFunc(func() { cancel(); <-done })
	tb.Cleanup(p.stop)
}

// in returns what is in force of a section.
func (p *proxy) in(name meshconfig.Name) proto.Message {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.table[name]
}

func (p *proxy) wasRemoved(name meshconfig.Name) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.removed[name]
}

func (p *proxy) all() map[meshconfig.Name]proto.Message {
	p.mu.Lock()
	defer p.mu.Unlock()
	return maps.Clone(p.table)
}

// weight returns the weight in the routes in force, 0 without any.
func (p *proxy) weight() uint32 {
	r, ok := p.in(routesName).(*meshconfig.Routes)
	if !ok {
		return 0
	}
	return r.GetPorts()[0].GetBackends()[0].GetWeight()
}

func (p *proxy) ready() bool { return p.Ready() == nil }

func check(tb testing.TB, err error) {
	tb.Helper()
	if err != nil {
		tb.Fatal(err)
	}
}

// await waits until something is so.
func await(tb testing.TB, what string, so func() bool) {
	tb.Helper()
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	deadline := time.NewTimer(patience)
	defer deadline.Stop()
	for !so() {
		select {
		case <-tick.C:
		case <-deadline.C:
			tb.Fatalf("in vain: %s", what)
		}
	}
}

// The mesh that is published: one service, and the pods by UID.

const checkout = "checkout.shop"

var (
	routesName  = meshconfig.RoutesName(checkout)
	inboundName = meshconfig.InboundName("aaaa")
)

type sections = map[meshconfig.Name]proto.Message

func (w *world) shop(uids ...string) sections {
	s := sections{
		meshconfig.MeshName:                   w.mesh(),
		inboundName:                           inbound(),
		routesName:                            routes(checkout, 1),
		meshconfig.EndpointsName(checkout, 0): &meshconfig.Endpoints{Service: checkout, Shards: 1},
	}
	for _, uid := range uids {
		w.pods.Set(uid, shopper, false)
		s[meshconfig.BindingName(uid)] = binding(uid, inboundName)
	}
	return s
}

func (w *world) mesh() *meshconfig.Mesh {
	return &meshconfig.Mesh{TrustDomain: domain, WorkloadRoots: [][]byte{w.workload.Certificate.Raw}, Networks: []string{"10.0.0.0/8"}}
}

func inbound() *meshconfig.Inbound {
	return &meshconfig.Inbound{DefaultPolicy: &meshconfig.PortPolicy{
		Mtls: meshconfig.MTLSMode_MTLS_MODE_STRICT, DefaultAction: meshconfig.Action_ACTION_ALLOW,
	}}
}

func binding(uid string, inbound meshconfig.Name) *meshconfig.Binding {
	return &meshconfig.Binding{PodUid: uid, Pod: "shop/" + uid, Identity: shopper.String(), Inbound: string(inbound), Workload: "web"}
}

func routes(service string, weight uint32) *meshconfig.Routes {
	return &meshconfig.Routes{Service: service, Ports: []*meshconfig.ServicePort{{
		Port: 80, Protocol: meshconfig.Protocol_PROTOCOL_HTTP1,
		Backends: []*meshconfig.WeightedBackend{{Name: "v1", Service: service, Port: 80, Weight: weight}},
	}}}
}

func podUID(i int) string { return fmt.Sprintf("00000000-0000-0000-0000-%012d", i) }
