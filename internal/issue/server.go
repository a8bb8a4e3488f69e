// SPDX-License-Identifier: Apache-2.0

// Package issue gives workloads their certificates: a service account token and a certificate request come in, the
// token is checked with the API server and the request against the token, cert-manager signs, the result is checked
// and handed out. It also keeps the workload roots, through rotations of the CA.
package issue

import (
	"context"
	"fmt"
	"time"

	cmapi "github.com/cert-manager/cert-manager/pkg/apis/certmanager/v1"
	cmmeta "github.com/cert-manager/cert-manager/pkg/apis/meta/v1"
	"github.com/go-logr/logr"
	"github.com/prometheus/client_golang/prometheus"
	toolscache "k8s.io/client-go/tools/cache"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/heddle-mesh/heddle/internal/controlapi"
	"github.com/heddle-mesh/heddle/internal/identity"
)

// Bounds of a leaf's life. A root that was replaced is kept for as long as a leaf may live, so the maximum is fixed.
const (
	DefaultLeafDuration = 24 * time.Hour
	MinLeafDuration     = time.Minute
	MaxLeafDuration     = 7 * 24 * time.Hour
)

// ClampLeafDuration returns the nearest allowed life of a leaf.
func ClampLeafDuration(d time.Duration) time.Duration {
	return min(max(d, MinLeafDuration), MaxLeafDuration)
}

// Bounds of what goes on at once. An authenticated request waits for cert-manager, some 20 ms each when idle; a review
// is one call to the API server.
const (
	maxReviews, maxReviewsWaiting = 64, 512
	maxSigning, maxSigningWaiting = 32, 2048
	slotWait                      = 5 * time.Second
	signTimeout                   = 10 * time.Second
	requestTimeout                = 25 * time.Second
	maxMessage                    = MaxCSR + maxToken + 64

	podEvery, podBurst   = 5 * time.Second, 8 // a leaf of a minute renews every 30 s
	peerEvery, peerBurst = 20 * time.Millisecond, 100
)

// DefaultIssuer is who signs unless the operator is told otherwise: an Issuer beside it, so that only who may create
// requests in its namespace can have workload certificates made.
var DefaultIssuer = cmmeta.IssuerReference{Group: "cert-manager.io", Kind: "Issuer", Name: "heddle-workload-ca"}

// Client is what a Server needs of a client.Client.
type Client interface {
	client.Reader
	Create(ctx context.Context, o client.Object, options ...client.CreateOption) error
	Delete(ctx context.Context, o client.Object, options ...client.DeleteOption) error
}

// Options are what a Server needs. All are required but Issuer, LeafDuration and Clock, and Cache where Start is not
// called but Notice is.
type Options struct {
	Client Client          // reads from the cache
	Live   client.Reader   // reads from the API server
	Cache  cache.Informers // the one behind Client; needs RequestLabels in Namespace
	Roots  *Roots

	TrustDomain  string
	Namespace    string // the operator's: where CertificateRequests are made
	Issuer       cmmeta.IssuerReference
	LeafDuration time.Duration // clamped

	Log     logr.Logger
	Clock   func() time.Time
	Metrics prometheus.Registerer
}

// Server answers the IdentityService. Every replica runs one.
type Server struct {
	Options
	signTimeout time.Duration
	peers, pods *limiter
	reviews     *slots
	signing     *slots
	waiters     waiters
	metrics     *metrics
}

var _ controlapi.IdentityServiceHandler = (*Server)(nil)

// New makes a Server. Add it to the manager, and serve its Handler.
func New(o Options) (*Server, error) {
	if err := identity.ValidateTrustDomain(o.TrustDomain); err != nil {
		return nil, err
	}
	if o.Issuer.Name == "" {
		o.Issuer = DefaultIssuer
	}
	if o.LeafDuration == 0 {
		o.LeafDuration = DefaultLeafDuration
	}
	o.LeafDuration = ClampLeafDuration(o.LeafDuration)
	if o.Clock == nil {
		o.Clock = time.Now
	}
	s := &Server{
		Options:     o,
		signTimeout: signTimeout,
		peers:       newLimiter(peerEvery, peerBurst),
		pods:        newLimiter(podEvery, podBurst),
		reviews:     newSlots(maxReviews, maxReviewsWaiting, slotWait),
		signing:     newSlots(maxSigning, maxSigningWaiting, slotWait),
	}
	var err error
	if s.metrics, err = newMetrics(o.Metrics, o.Roots); err != nil {
		return nil, err
	}
	return s, nil
}

// NeedLeaderElection lets it run on every replica.
func (*Server) NeedLeaderElection() bool { return false }

// +kubebuilder:rbac:groups=authentication.k8s.io,resources=tokenreviews,verbs=create
// +kubebuilder:rbac:groups="",resources=pods,verbs=get;list;watch
// +kubebuilder:rbac:groups=cert-manager.io,resources=certificaterequests,verbs=get;list;watch;create;delete,namespace=heddle-system

// Start watches CertificateRequests until the context ends.
func (s *Server) Start(ctx context.Context) error {
	informer, err := s.Cache.GetInformer(ctx, &cmapi.CertificateRequest{})
	if err != nil {
		return fmt.Errorf("watch CertificateRequests, for which cert-manager must be installed: %w", err)
	}
	notify := func(obj any) {
		if request, ok := obj.(*cmapi.CertificateRequest); ok {
			s.Notice(request)
		}
	}
	registration, err := informer.AddEventHandler(toolscache.ResourceEventHandlerFuncs{
		AddFunc:    notify,
		UpdateFunc: func(_, obj any) { notify(obj) },
	})
	if err != nil {
		return fmt.Errorf("watch CertificateRequests: %w", err)
	}
	<-ctx.Done()
	return informer.RemoveEventHandler(registration)
}

// Notice takes the newest state of a CertificateRequest, for whoever waits for it.
func (s *Server) Notice(request *cmapi.CertificateRequest) { s.waiters.notify(request) }

// issue goes from what costs us least to what costs most.
func (s *Server) issue(ctx context.Context, e *exchange, msg *controlapi.IssueCertificateRequest) (*issuedChain, error) {
	csr, err := parseRequest(msg.GetCsr())
	if err != nil {
		return nil, err
	}
	if e.caller, err = s.authenticate(ctx, msg.GetToken()); err != nil {
		return nil, err
	}
	if !s.pods.allow(string(e.caller.podUID), s.Clock()) {
		return nil, refuse(ReasonRateLimited, "too many requests from pod %s: try again later", e.caller.pod)
	}
	id := e.caller.identity(s.TrustDomain)
	if csr.uri != id.String() {
		return nil, refuse(ReasonIdentity, "certificate request asks for %.256q: the token is of %s", csr.uri, id)
	}
	release, err := s.signing.acquire(ctx)
	if err != nil {
		return nil, err
	}
	defer release()
	chainPEM, err := s.sign(ctx, csr, e.caller)
	if err != nil {
		return nil, err
	}
	return s.accept(chainPEM, csr, id)
}

// authenticate returns the caller whose token it is, when its pod is alive and in the mesh.
func (s *Server) authenticate(ctx context.Context, token string) (*caller, error) {
	release, err := s.reviews.acquire(ctx)
	if err != nil {
		return nil, err
	}
	defer release()
	c, err := s.review(ctx, token)
	if err != nil {
		return nil, err
	}
	return c, s.checkPod(ctx, c)
}

// accept checks what cert-manager signed, and holds back a leaf of a root that has only just been announced: proxies
// that have not heard of it yet would refuse this pod.
func (s *Server) accept(chainPEM []byte, csr *certificateRequest, id identity.ID) (*issuedChain, error) {
	now := s.Clock()
	want := &expected{id: id, key: csr.key, roots: s.Roots.Pool(), now: now}
	chain, err := want.verify(chainPEM)
	if err != nil {
		s.Roots.Look() // the CA may be a new one
		return nil, refuse(ReasonChain, "the certificate that %s %s returned for %s is not usable: %v", s.Issuer.Kind, s.Issuer.Name, id, err)
	}
	if wait := s.Roots.Unsettled(chain.anchors, now); wait > 0 {
		return nil, refuse(ReasonRootPending, "the workload CA changed: its root is being announced to all proxies, try again in %s", wait.Round(time.Second))
	}
	chain.id = id
	return chain, nil
}
