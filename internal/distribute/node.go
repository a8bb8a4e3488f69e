// SPDX-License-Identifier: Apache-2.0

package distribute

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"net/http"
	"sync"
	"time"

	"github.com/go-logr/logr"

	"github.com/heddle-mesh/heddle/internal/controlapi"
	"github.com/heddle-mesh/heddle/internal/meshconfig"
)

// Options are what a node needs. All but Clock, Log and Version are required. The callbacks may be called at any time
// and concurrently, and return what is valid now.
type Options struct {
	MeshID      string // UID of the kube-system namespace
	TrustDomain string
	ServerName  string // exact DNS name of the control servers
	Version     string // of the program

	WorkloadRoots func() *x509.CertPool   // of proxies' certificates; nil: none yet
	ServingRoots  func() *x509.CertPool   // of the control servers' certificates; nil: none yet
	Certificate   func() *tls.Certificate // the control server's own: a relay presents it to the leader; nil: none yet

	Pods   func(uid string) (Pod, bool)     // Pods.Lookup
	Leader func() (address string, ok bool) // host:port of the leader's control server; false: unknown, or this one

	Clock func() time.Time
	Log   logr.Logger
}

// Node is a replica's part in distributing config. It begins as a relay. Its streams outlive a switch of roles.
type Node struct {
	opts     Options
	hub      *Hub
	tracker  *tracker
	counters *counters
	server   *server
	relay    *relay

	mu        sync.Mutex
	publisher *Publisher    // nil: relays
	switched  chan struct{} // closed at the next switch
}

// NewNode returns a node that does nothing yet: serve its Handler and Run it.
func NewNode(opts Options) *Node {
	if opts.Clock == nil {
		opts.Clock = time.Now
	}
	n := &Node{opts: opts, counters: newCounters(), switched: make(chan struct{})}
	n.hub = newHub(func() { n.tracker.notify() })
	n.tracker = newTracker(n.hub)
	n.server = newServer(n)
	n.relay = newRelay(n)
	n.hub.setSource(n.relay)
	return n
}

// Handler returns the path and handler of ConfigService, for NewHTTPServer.
func (n *Node) Handler() (string, http.Handler) { return n.server.handler() }

// Run relays from the leader, or signs the heartbeat, until the context ends. Then all streams end.
func (n *Node) Run(ctx context.Context) error {
	defer n.server.close()
	for ctx.Err() == nil {
		n.mu.Lock()
		publisher, switched := n.publisher, n.switched
		n.mu.Unlock()
		n.runRole(ctx, publisher, switched)
	}
	return nil
}

// runRole does the work of one role until the next switch.
func (n *Node) runRole(ctx context.Context, publisher *Publisher, switched <-chan struct{}) {
	ctx, cancel := context.WithCancel(ctx)
	var wg sync.WaitGroup
	defer wg.Wait()
	defer cancel()
	wg.Go(func() {
		if publisher != nil {
			publisher.run(ctx)
		} else {
			n.relay.run(ctx)
		}
	})
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for ticks := 1; ; ticks++ {
		select {
		case <-ctx.Done():
			return
		case <-switched:
			return
		case <-tick.C:
			n.tracker.expire(n.opts.Clock())
			if publisher != nil && ticks%healthEvery == 0 && n.tracker.sumHealth() {
				n.tracker.notify()
			}
		}
	}
}

// SetLeader makes the node lead with a publisher of a new term.
func (n *Node) SetLeader(p *Publisher) {
	n.opts.Log.Info("this replica leads", "epoch", p.opts.Epoch, "term", p.opts.Term)
	n.become(p)
}

// SetRelay makes the node relay from the leader.
func (n *Node) SetRelay() {
	n.opts.Log.Info("this replica relays")
	n.become(nil)
}

func (n *Node) become(p *Publisher) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.publisher != nil {
		n.publisher.bind(nil, nil)
	}
	n.publisher = p
	n.hub.prune()
	if p == nil {
		n.hub.setSource(n.relay)
		n.server.endReplicas()
	} else {
		p.bind(n.hub, n.counters)
		n.hub.setSource(p)
	}
	close(n.switched)
	n.switched = make(chan struct{})
}

// leader returns the publisher of a node that leads, or nil.
func (n *Node) leader() *Publisher {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.publisher
}

// Hub returns the newest envelopes that the node has.
func (n *Node) Hub() *Hub { return n.hub }

// Programmed says how far sections have come. It is complete on the leader only.
func (n *Node) Programmed(names []meshconfig.Name) Programmed {
	return n.tracker.programmed(names, n.leader().unpublished(names))
}

// Changed is received from, by one receiver, when Programmed may have changed since the last time.
func (n *Node) Changed() <-chan struct{} { return n.tracker.changed }

// Counters returns what the node has counted.
func (n *Node) Counters() Counters { return n.counters.snapshot() }

// Streams returns how many streams of proxies and of replicas are open.
func (n *Node) Streams() (proxies, replicas int) { return n.server.count() }

// NewHTTPServer returns the control server: HTTP/2 on TLS 1.3 alone, with dead peers noticed by pings. Client
// certificates are asked for and judged by the handlers, since IdentityService needs none. Run's end ends the streams:
// call Shutdown after it.
func NewHTTPServer(certificate func() *tls.Certificate, handler http.Handler) *http.Server {
	protocols := new(http.Protocols)
	protocols.SetHTTP2(true)
	return &http.Server{
		Handler:           handler,
		ReadHeaderTimeout: firstMessageTimeout,
		IdleTimeout:       time.Minute,
		MaxHeaderBytes:    16 << 10,
		Protocols:         protocols,
		HTTP2: &http.HTTP2Config{
			MaxConcurrentStreams: 100,
			SendPingTimeout:      controlapi.PingAfter,
			PingTimeout:          controlapi.PingTimeout,
		},
		TLSConfig: &tls.Config{
			MinVersion: tls.VersionTLS13,
			ClientAuth: tls.RequestClientCert,
			// A resumed session would carry a certificate that was checked when it was made.
			SessionTicketsDisabled: true,
			GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) {
				if c := certificate(); c != nil {
					return c, nil
				}
				return nil, errNoCertificate
			},
		},
	}
}
