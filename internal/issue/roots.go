// SPDX-License-Identifier: Apache-2.0

package issue

import (
	"context"
	"crypto/x509"
	"fmt"
	"sync"
	"time"

	"github.com/go-logr/logr"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// Where the workload roots are and what they are kept in.
const (
	DefaultRootsSecret = "heddle-workload-ca"
	RootsConfigMap     = "heddle-workload-roots"
	keyState           = "roots.json" // what the operator reads back
	keyPEM             = "roots.pem"  // for other readers
)

// pollEvery is how often the CA is read. It is read at once when a leaf of an unknown CA shows up, so that a rotation,
// which happens once in years, needs no watch on Secrets.
const pollEvery = 10 * time.Second

// holdNew is how long a new root is announced before leaves of it are handed out: until the leader has read it too, and
// connected proxies have it, which takes a second.
const holdNew = 3 * pollEvery

// RootsWriter is what Roots needs of a client.Client.
type RootsWriter interface {
	Create(ctx context.Context, o client.Object, options ...client.CreateOption) error
	Update(ctx context.Context, o client.Object, options ...client.UpdateOption) error
}

// RootsOptions are what Roots needs. All are required but Secret, Changed and Clock.
type RootsOptions struct {
	Client    RootsWriter
	Live      client.Reader // reads from the API server
	Namespace string        // the operator's
	Secret    string        // default DefaultRootsSecret
	Log       logr.Logger
	Clock     func() time.Time
	// Changed is called after the roots changed; it must not block.
	Changed func()
}

// Roots knows the CA certificates that workload leaves chain to: those that the CA uses now, and those that leaves which
// still live may chain to. It keeps them in a ConfigMap, so that they outlive the operator and every replica has the
// same. To take a root out of use at once, delete its entry there.
type Roots struct {
	RootsOptions
	every, hold time.Duration
	wake        chan struct{}

	mu  sync.RWMutex
	set rootSet
}

// NewRoots returns Roots, which are empty until they run.
func NewRoots(o RootsOptions) *Roots {
	if o.Secret == "" {
		o.Secret = DefaultRootsSecret
	}
	if o.Clock == nil {
		o.Clock = time.Now
	}
	if o.Changed == nil {
		o.Changed = func() {}
	}
	return &Roots{RootsOptions: o, every: pollEvery, hold: holdNew, wake: make(chan struct{}, 1)}
}

// DER returns the roots as the mesh section carries them, sorted by their bytes. It is empty before the first reading.
func (r *Roots) DER() [][]byte {
	r.mu.RLock()
	defer r.mu.RUnlock()
	der := make([][]byte, len(r.set))
	for i := range r.set {
		der[i] = r.set[i].cert.Raw
	}
	return der
}

// Pool returns the roots for verifying a peer; never nil.
func (r *Roots) Pool() *x509.CertPool {
	r.mu.RLock()
	defer r.mu.RUnlock()
	pool := x509.NewCertPool()
	for i := range r.set {
		pool.AddCert(r.set[i].cert)
	}
	return pool
}

// Unsettled says how much longer leaves that chain to these roots are held back; one settled root is enough.
func (r *Roots) Unsettled(anchors []*x509.Certificate, now time.Time) time.Duration {
	r.mu.RLock()
	defer r.mu.RUnlock()
	wait := r.hold
	for i := range r.set {
		for _, anchor := range anchors {
			if r.set[i].cert.Equal(anchor) {
				wait = min(wait, r.set.settled(&r.set[i], r.hold).Sub(now))
			}
		}
	}
	return max(wait, 0)
}

// expiry is when the first of the roots in use expires, in Unix seconds; 0 when there is none.
func (r *Roots) expiry() float64 {
	r.mu.RLock()
	defer r.mu.RUnlock()
	first := 0.0
	for i := range r.set {
		if at := float64(r.set[i].cert.NotAfter.Unix()); r.set[i].replaced.IsZero() && (first == 0 || at < first) {
			first = at
		}
	}
	return first
}

// Look has the CA read at once.
func (r *Roots) Look() {
	select {
	case r.wake <- struct{}{}:
	default:
	}
}

// NeedLeaderElection lets it run on every replica: writes are guarded by resourceVersion, and all would write the same.
func (*Roots) NeedLeaderElection() bool { return false }

// Start reads the CA every so often until the context ends.
func (r *Roots) Start(ctx context.Context) error {
	ticker := time.NewTicker(r.every)
	defer ticker.Stop()
	for {
		if err := r.refresh(ctx); err != nil && ctx.Err() == nil {
			r.Log.Error(err, "workload roots not read, they stay as they are")
		}
		select {
		case <-ticker.C:
		case <-r.wake:
		case <-ctx.Done():
			return nil
		}
	}
}

// +kubebuilder:rbac:groups="",resources=secrets,namespace=heddle-system,resourceNames=heddle-workload-ca,verbs=get
// +kubebuilder:rbac:groups="",resources=configmaps,namespace=heddle-system,verbs=create
// +kubebuilder:rbac:groups="",resources=configmaps,namespace=heddle-system,resourceNames=heddle-workload-roots,verbs=get;update

// refresh reads the CA and the kept roots, and writes the roots if they changed.
func (r *Roots) refresh(ctx context.Context) error {
	current, faultOfCA := r.current(ctx)
	kept, known, err := r.kept(ctx)
	if err != nil {
		return err
	}
	next := known.advance(current, r.Clock())
	if len(next) > 0 && (kept == nil || !next.equal(known)) {
		switch err := r.write(ctx, kept, next); {
		case apierrors.IsConflict(err), apierrors.IsAlreadyExists(err):
			r.Look() // another replica was first
			return faultOfCA
		case err != nil:
			return err
		}
	}
	r.take(next)
	return faultOfCA
}

// current is what the CA's Secret says; nothing while there is none.
func (r *Roots) current(ctx context.Context) ([]*x509.Certificate, error) {
	secret, key := &corev1.Secret{}, types.NamespacedName{Namespace: r.Namespace, Name: r.Secret}
	if err := r.Live.Get(ctx, key, secret); err != nil {
		return nil, fmt.Errorf("get Secret %s, which cert-manager writes for Certificate %s: %w", key, key.Name, err)
	}
	certs, err := caCertificates(secret.Data)
	if err != nil {
		return nil, fmt.Errorf("read Secret %s: %w", key, err)
	}
	return certs, nil
}

// kept is the ConfigMap as the API server has it, or nil, and what it holds.
func (r *Roots) kept(ctx context.Context) (*corev1.ConfigMap, rootSet, error) {
	kept := &corev1.ConfigMap{}
	switch err := r.Live.Get(ctx, r.configMap(), kept); {
	case apierrors.IsNotFound(err):
		// Someone deleted it: what this replica knows is better than nothing.
		r.mu.RLock()
		defer r.mu.RUnlock()
		return nil, r.set, nil
	case err != nil:
		return nil, nil, fmt.Errorf("get ConfigMap %s: %w", r.configMap(), err)
	}
	set, err := decodeRoots(kept.Data[keyState])
	if err != nil {
		return nil, nil, fmt.Errorf("read ConfigMap %s: %w; mend or delete it", r.configMap(), err)
	}
	return kept, set, nil
}

func (r *Roots) configMap() types.NamespacedName {
	return types.NamespacedName{Namespace: r.Namespace, Name: RootsConfigMap}
}

func (r *Roots) write(ctx context.Context, kept *corev1.ConfigMap, set rootSet) error {
	state, roots, err := set.encode()
	if err != nil {
		return err
	}
	if kept == nil {
		kept = &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{
			Namespace: r.Namespace, Name: RootsConfigMap, Labels: map[string]string{labelManagedBy: managedBy},
		}}
	}
	kept.Data = map[string]string{keyState: state, keyPEM: roots}
	if kept.ResourceVersion == "" {
		err = r.Client.Create(ctx, kept)
	} else {
		err = r.Client.Update(ctx, kept)
	}
	if err != nil {
		return fmt.Errorf("write ConfigMap %s: %w", r.configMap(), err)
	}
	return nil
}

// take makes the set the one in force.
func (r *Roots) take(set rootSet) {
	r.mu.Lock()
	changed := !r.set.equal(set)
	r.set = set
	r.mu.Unlock()
	if !changed {
		return
	}
	for i := range set {
		r.Log.Info("workload root in force", "sha256", set[i].fingerprint(), "notAfter", set[i].cert.NotAfter,
			"replaced", !set[i].replaced.IsZero())
	}
	r.Changed()
}
