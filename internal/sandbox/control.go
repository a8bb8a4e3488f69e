// SPDX-License-Identifier: Apache-2.0

package sandbox

import (
	"context"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	cmapi "github.com/cert-manager/cert-manager/pkg/apis/certmanager/v1"
	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/protobuf/proto"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/heddle-mesh/heddle/internal/collect"
	"github.com/heddle-mesh/heddle/internal/compile"
	"github.com/heddle-mesh/heddle/internal/distribute"
	"github.com/heddle-mesh/heddle/internal/identity"
	"github.com/heddle-mesh/heddle/internal/issue"
	"github.com/heddle-mesh/heddle/internal/meshconfig"
	"github.com/heddle-mesh/heddle/internal/snapshot"
)

// What the operator is called in a cluster.
const (
	operatorNamespace = "heddle-system"
	serverName        = "heddle-operator." + operatorNamespace + ".svc"
)

// control is the operator: the one replica, which leads.
type control struct {
	options *Options
	cluster *cluster
	tokens  tokens
	pods    distribute.Pods
	known   map[string]bool // UIDs of pods

	serving, config, workload *authority
	certificate               *tls.Certificate // of the control server
	meshID                    string

	roots      *issue.Roots
	rooted     chan struct{} // closed when there are roots
	identities *issue.Server
	node       *distribute.Node
	publisher  *distribute.Publisher
	collector  *collect.Collector
	memo       *compile.Memo
	result     atomic.Pointer[compile.Result]
	listener   net.Listener
}

// newControl makes the operator. Nothing runs yet.
func newControl(ctx context.Context, o *Options) (*control, error) {
	c := &control{options: o, known: make(map[string]bool), rooted: make(chan struct{}), meshID: rand.Text()}
	if err := c.makeAuthorities(); err != nil {
		return nil, err
	}
	c.cluster = newCluster(func() metav1.Time { return metav1.NewTime(o.Clock().Truncate(time.Second)) })
	c.cluster.review = c.tokens.review
	c.cluster.sign = func(request *cmapi.CertificateRequest) {
		c.workload.decide(request)
		c.identities.Notice(request.DeepCopy())
	}
	ca := &corev1.Secret{Data: map[string][]byte{"ca.crt": c.workload.pem()}}
	ca.Namespace, ca.Name = operatorNamespace, issue.DefaultRootsSecret
	if err := c.cluster.Create(ctx, ca); err != nil {
		return nil, err
	}
	c.roots = issue.NewRoots(issue.RootsOptions{
		Client: c.cluster, Live: c.cluster, Namespace: operatorNamespace, Log: o.Log.WithName("roots"), Clock: o.Clock,
		Changed: sync.OnceFunc(func() { close(c.rooted) }),
	})
	var err error
	c.identities, err = issue.New(issue.Options{
		Client: c.cluster, Live: c.cluster, Roots: c.roots, TrustDomain: o.TrustDomain, Namespace: operatorNamespace,
		LeafDuration: o.LeafDuration, Log: o.Log.WithName("issue"), Clock: o.Clock, Metrics: prometheus.NewRegistry(),
	})
	if err != nil {
		return nil, err
	}
	c.collector = &collect.Collector{Cache: c.cluster, Live: c.cluster, Options: func() snapshot.Options {
		return snapshot.Options{
			TrustDomain: o.TrustDomain, OperatorNamespace: operatorNamespace,
			WorkloadRoots: c.roots.DER(), Networks: []string{serviceNetwork},
		}
	}}
	return c, c.makeNode()
}

func (c *control) makeAuthorities() error {
	o := c.options
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	_, configKey, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return err
	}
	var errs [4]error
	c.serving, errs[0] = newAuthority("heddle-sandbox-serving-ca", key, o.Clock)
	c.config, errs[1] = newAuthority("heddle-sandbox-config-ca", configKey, o.Clock)
	c.workload, errs[2] = workloadAuthority(o.PKI, o.Clock)
	if err := errors.Join(errs[:3]...); err != nil {
		return err
	}
	c.certificate, err = c.serving.server(serverName)
	return err
}

// makeNode makes what distributes, as the leader of the first term. Proxies of an earlier sandbox are of another mesh.
func (c *control) makeNode() error {
	o := c.options
	signer, err := c.config.signer()
	if err != nil {
		return err
	}
	c.node = distribute.NewNode(distribute.Options{
		MeshID: c.meshID, TrustDomain: o.TrustDomain, ServerName: serverName, Version: o.Version,
		WorkloadRoots: c.roots.Pool, ServingRoots: c.serving.pool,
		Certificate: func() *tls.Certificate { return c.certificate }, Pods: c.pods.Lookup,
		Leader: func() (string, bool) { return "", false }, Clock: o.Clock, Log: o.Log.WithName("distribute"),
	})
	c.publisher = distribute.NewPublisher(distribute.PublisherOptions{
		MeshID: c.meshID, Term: 1, Signer: signer, Resolve: c.resolve, Clock: o.Clock, Log: o.Log.WithName("publisher"),
	})
	c.node.SetLeader(c.publisher)
	return nil
}

// resolve answers for sections that are made on demand.
func (c *control) resolve(name meshconfig.Name) proto.Message {
	ip, err := netip.ParseAddr(name.Subject())
	result := c.result.Load()
	if err != nil || result == nil {
		return &meshconfig.Address{Address: name.Subject()}
	}
	return result.Address(ip)
}

func (c *control) address() string    { return c.listener.Addr().String() }
func (c *control) servingPEM() []byte { return c.serving.pem() }
func (c *control) configPEM() []byte  { return c.config.pem() }

// run serves proxies until the context ends. listening is closed once they can call.
func (c *control) run(ctx context.Context, listening chan<- struct{}) error {
	var err error
	if c.listener, err = new(net.ListenConfig).Listen(ctx, "tcp", "127.0.0.1:0"); err != nil {
		return err
	}
	mux := http.NewServeMux()
	mux.Handle(c.node.Handler())
	mux.Handle(c.identities.Handler())
	server := distribute.NewHTTPServer(func() *tls.Certificate { return c.certificate }, mux)
	server.ErrorLog = log.New(io.Discard, "", 0) // a proxy that goes away in a handshake is no news
	var running sync.WaitGroup
	running.Go(func() { _ = c.roots.Start(ctx) }) // it ends with the context
	running.Go(func() { _ = c.node.Run(ctx) })
	running.Go(func() {
		<-ctx.Done()
		closing, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
		defer cancel()
		if err := server.Shutdown(closing); err != nil {
			_ = server.Close()
		}
	})
	running.Go(func() {
		select {
		case <-c.rooted:
			close(listening)
		case <-ctx.Done():
		}
	})
	err = server.ServeTLS(c.listener, "", "")
	running.Wait()
	if !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("control server: %w", err)
	}
	return nil
}

// feed tells the distributor which pods live.
func (c *control) feed(ctx context.Context) error {
	pods := &corev1.PodList{}
	if err := c.cluster.List(ctx, pods); err != nil {
		return err
	}
	now := make(map[string]bool, len(pods.Items))
	for i := range pods.Items {
		p := &pods.Items[i]
		if !isMeshed(p) {
			continue
		}
		now[string(p.UID)] = true
		c.pods.Set(string(p.UID), identity.ID{
			TrustDomain: c.options.TrustDomain, Namespace: p.Namespace, ServiceAccount: p.Spec.ServiceAccountName,
		}, p.DeletionTimestamp != nil)
	}
	for uid := range c.known {
		if !now[uid] {
			c.pods.Delete(uid)
		}
	}
	c.known = now
	return nil
}

// publish compiles what the cluster holds and publishes it.
func (c *control) publish(ctx context.Context) error {
	if err := c.feed(ctx); err != nil {
		return err
	}
	snap, err := c.collector.Take(ctx)
	if err != nil {
		return err
	}
	var result *compile.Result
	result, c.memo = compile.CompileWith(snap, c.memo)
	c.result.Store(result)
	err = c.publisher.Publish(result.Sections)
	return errors.Join(err, c.keepGood(ctx, result))
}
