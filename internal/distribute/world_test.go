// SPDX-License-Identifier: Apache-2.0

package distribute

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"connectrpc.com/connect"
	"github.com/go-logr/logr"
	"google.golang.org/protobuf/proto"

	"github.com/heddle-mesh/heddle/internal/controlapi"
	"github.com/heddle-mesh/heddle/internal/identity"
	"github.com/heddle-mesh/heddle/internal/meshconfig"
	"github.com/heddle-mesh/heddle/internal/signedconfig"
	"github.com/heddle-mesh/heddle/test/pki"
)

const (
	serverName = "heddle-operator.heddle-system.svc"
	meshID     = "11111111-2222-3333-4444-555555555555"
	domain     = "cluster.local"
	patience   = 20 * time.Second
)

var shopper = identity.ID{TrustDomain: domain, Namespace: "shop", ServiceAccount: "web"}

// world is what the replicas of one cluster share.
type world struct {
	serving, workload, config *pki.CA
	signer                    *signedconfig.Signer
	pods                      *Pods
	leader                    atomic.Pointer[string] // address
	ahead                     atomic.Int64           // of the clock
}

func (w *world) now() time.Time { return time.Now().Add(time.Duration(w.ahead.Load())) }

func newWorld(t *testing.T) *world {
	t.Helper()
	w := &world{
		serving: pki.NewCA(t, "serving"), workload: pki.NewCA(t, "workloads"), config: pki.NewConfigCA(t, "config"), pods: &Pods{},
	}
	w.signer = w.config.Signer(t, time.Time{}, time.Time{})
	return w
}

// replica is one node with its server on loopback.
type replica struct {
	*Node

	address string
	stop    func()
}

func (w *world) replica(t *testing.T) *replica {
	t.Helper()
	own := w.serving.Server(t, serverName)
	n := NewNode(Options{
		MeshID: meshID, TrustDomain: domain, ServerName: serverName, Version: "test",
		WorkloadRoots: w.workload.Pool, ServingRoots: w.serving.Pool,
		Certificate: func() *tls.Certificate { return own },
		Pods:        w.pods.Lookup,
		Leader: func() (string, bool) {
			a := w.leader.Load()
			if a == nil {
				return "", false
			}
			return *a, true
		},
		Clock: w.now, Log: logr.Discard(),
	})
	path, handler := n.Handler()
	server := NewHTTPServer(func() *tls.Certificate { return own }, mux(path, handler))
	server.ErrorLog = log.New(io.Discard, "", 0) // handshakes that fail are part of some tests
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	check(t, err)
	ctx, cancel := context.WithCancel(t.Context())
	served, ran := make(chan error, 1), make(chan error, 1)
	go func() { served <- server.ServeTLS(listener, "", "") }()
	go func() { ran <- n.Run(ctx) }()
	r := &replica{Node: n, address: listener.Addr().String()}
	r.stop = sync.OnceFunc(func() {
		cancel()
		<-ran
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		_ = server.Shutdown(ctx) // lets the ends of the streams out
		_ = server.Close()
		<-served
	})
	t.Cleanup(r.stop)
	return r
}

func mux(path string, handler http.Handler) http.Handler {
	m := http.NewServeMux()
	m.Handle(path, handler)
	return m
}

// lead makes a replica the leader of a term.
func (w *world) lead(r *replica, term uint64) *Publisher {
	p := NewPublisher(PublisherOptions{
		MeshID: meshID, Term: term, Signer: w.signer,
		Resolve: func(name meshconfig.Name) proto.Message { return &meshconfig.Address{Address: name.Subject()} },
	})
	r.SetLeader(p)
	w.leader.Store(&r.address)
	return p
}

// far is the far end of a stream, driven by hand.
type far struct {
	t      *testing.T
	client *controlapi.Client
	conn   *connect.BidiStreamForClient[controlapi.StreamRequest, controlapi.StreamResponse]
}

// dial opens a stream and says nothing yet.
func (w *world) dial(t *testing.T, r *replica, certificate *tls.Certificate) *far {
	t.Helper()
	client := controlapi.Endpoint{
		Address: r.address, ServerName: serverName, Roots: w.serving.Pool(), Certificate: certificate,
	}.Client()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	t.Cleanup(func() { cancel(); client.Close() })
	return &far{t: t, client: client, conn: client.Config().Stream(ctx)}
}

// proxy opens a stream of a pod that exists, up to the hint.
func (w *world) proxy(t *testing.T, r *replica, uid string) *far {
	t.Helper()
	w.pods.Set(uid, shopper, false)
	f := w.dial(t, r, w.workload.Workload(t, shopper))
	f.hello(uid)
	f.hint()
	return f
}

func (f *far) send(m *controlapi.StreamRequest) {
	f.t.Helper()
	check(f.t, f.conn.Send(m))
}

func (f *far) hello(uid string) {
	f.t.Helper()
	f.send(helloOf(uid))
}

func helloOf(uid string) *controlapi.StreamRequest {
	return &controlapi.StreamRequest{Message: &controlapi.StreamRequest_Hello{
		Hello: &controlapi.Hello{PodUid: uid, Session: uint64(time.Now().UnixMilli())},
	}}
}

func (f *far) hint() []string {
	f.t.Helper()
	m := f.receive()
	if m.GetHint() == nil {
		f.t.Fatalf("first message is %v: want a hint", m)
	}
	return m.GetHint().GetNames()
}

func subscribeTo(names ...meshconfig.Name) *controlapi.StreamRequest {
	var subs []*controlapi.Subscription
	for _, name := range names {
		subs = append(subs, &controlapi.Subscription{Name: string(name)})
	}
	return &controlapi.StreamRequest{Message: &controlapi.StreamRequest_Subscribe{
		Subscribe: &controlapi.Subscribe{Subscriptions: subs},
	}}
}

func (f *far) subscribe(names ...meshconfig.Name) {
	f.t.Helper()
	f.send(subscribeTo(names...))
}

// subscribeHolding subscribes to what is held already.
func (f *far) subscribeHolding(sub meshconfig.Name, held ...*signedconfig.Envelope) {
	f.t.Helper()
	s := &controlapi.Subscription{Name: string(sub)}
	for _, e := range held {
		digest := e.Digest()
		s.Held = append(s.Held, &controlapi.Held{Name: e.Section, Digest: digest[:], Serial: e.Serial.String()})
	}
	f.send(&controlapi.StreamRequest{Message: &controlapi.StreamRequest_Subscribe{
		Subscribe: &controlapi.Subscribe{Subscriptions: []*controlapi.Subscription{s}},
	}})
}

func (f *far) ack(e *signedconfig.Envelope) {
	f.t.Helper()
	digest := e.Digest()
	f.send(&controlapi.StreamRequest{Message: &controlapi.StreamRequest_Ack{
		Ack: &controlapi.Ack{Name: e.Section, Digest: digest[:]},
	}})
}

func (f *far) nack(e *signedconfig.Envelope, reason string) {
	f.t.Helper()
	digest := e.Digest()
	f.send(&controlapi.StreamRequest{Message: &controlapi.StreamRequest_Nack{
		Nack: &controlapi.Nack{Name: e.Section, Digest: digest[:], Reason: reason},
	}})
}

func (f *far) receive() *controlapi.StreamResponse {
	f.t.Helper()
	m, err := f.conn.Receive()
	check(f.t, err)
	return m
}

// envelopes receives one envelope of each of these sections, in whatever order they come, and fails on any other.
func (f *far) envelopes(want ...meshconfig.Name) []*signedconfig.Envelope {
	f.t.Helper()
	got := make([]*signedconfig.Envelope, len(want))
	for range want {
		m := f.receive()
		e, err := signedconfig.Decode(m.GetEnvelope())
		if err != nil {
			f.t.Fatalf("got %v, not an envelope of %v: %v", m, want, err)
		}
		i := slices.Index(want, meshconfig.Name(e.Section))
		if i < 0 || got[i] != nil {
			f.t.Fatalf("got section %s: want each of %v once", e.Section, want)
		}
		got[i] = e
	}
	return got
}

func (f *far) envelope(want meshconfig.Name) *signedconfig.Envelope {
	f.t.Helper()
	return f.envelopes(want)[0]
}

// refused receives the end of the stream and fails unless it has this code.
func (f *far) refused(want connect.Code) {
	f.t.Helper()
	for {
		_, err := f.conn.Receive()
		if err == nil {
			continue
		}
		if connect.CodeOf(err) != want {
			f.t.Fatalf("stream ended with %v: want %v", err, want)
		}
		return
	}
}

func (f *far) close() { f.client.Close() }

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

// Sections to publish.

func mesh(root *x509.Certificate) *meshconfig.Mesh {
	return &meshconfig.Mesh{TrustDomain: domain, WorkloadRoots: [][]byte{root.Raw}, Networks: []string{"10.0.0.0/8"}}
}

func routes(service string, weight uint32) *meshconfig.Routes {
	return &meshconfig.Routes{Service: service, Ports: []*meshconfig.ServicePort{{
		Port: 80, Protocol: meshconfig.Protocol_PROTOCOL_HTTP1,
		Backends: []*meshconfig.WeightedBackend{{Name: "v1", Service: service, Port: 80, Weight: weight}},
	}}}
}

func endpoints(service string, shard, shards uint32, addresses ...string) *meshconfig.Endpoints {
	m := &meshconfig.Endpoints{Service: service, Shard: shard, Shards: shards}
	for _, a := range addresses {
		m.Endpoints = append(m.Endpoints, &meshconfig.Endpoint{
			Address: a, Ports: []*meshconfig.EndpointPort{{ServicePort: 80, Port: 8080}},
		})
	}
	return m
}

func inbound() *meshconfig.Inbound {
	return &meshconfig.Inbound{DefaultPolicy: &meshconfig.PortPolicy{
		Mtls: meshconfig.MTLSMode_MTLS_MODE_STRICT, DefaultAction: meshconfig.Action_ACTION_ALLOW,
	}}
}

type sections = map[meshconfig.Name]proto.Message

// shop is a mesh with one service of two shards.
func (w *world) shop() sections {
	return sections{
		meshconfig.MeshName:                          mesh(w.workload.Certificate),
		meshconfig.InboundName("aaaa"):               inbound(),
		meshconfig.RoutesName("checkout.shop"):       routes("checkout.shop", 1),
		meshconfig.EndpointsName("checkout.shop", 0): endpoints("checkout.shop", 0, 2, "10.0.0.1"),
		meshconfig.EndpointsName("checkout.shop", 1): endpoints("checkout.shop", 1, 2, "10.0.0.2"),
	}
}

func podUID(i int) string { return fmt.Sprintf("00000000-0000-0000-0000-%012d", i) }
