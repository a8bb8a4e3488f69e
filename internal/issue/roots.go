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
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/builder"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller"
	"sigs.k8s.io/controller-runtime/pkg/handler"
	"sigs.k8s.io/controller-runtime/pkg/predicate"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"
)

// Where the workload roots are and what they are kept in.
const (
	DefaultRootsSecret = "heddle-workload-ca"
	RootsConfigMap     = "heddle-workload-roots"
	keyState           = "roots.json" // what the operator reads back
	keyPEM             = "roots.pem"  // for other readers
)

// DefaultHold is how long a new root is announced before leaves of it are handed out. Config reaches connected proxies
// within a second; the rest is margin.
const DefaultHold = 15 * time.Second

// rereadEvery also reads the Secret without an event: a missed one must not end in leaves that nobody trusts.
const rereadEvery = 10 * time.Minute

// Roots knows the CA certificates that workload leaves chain to: those that the CA uses now, and those that leaves which
// still live may chain to. It keeps them in a ConfigMap, so that they outlive the operator, and every replica has the
// same. To take a root out of use at once, delete its entry there.
type Roots struct {
	Client    client.Client
	Live      client.Reader
	Namespace string
	Secret    string        // default DefaultRootsSecret
	Hold      time.Duration // default DefaultHold
	Log       logr.Logger
	Clock     func() time.Time
	// Changed is called after the roots changed, on the reconciler's goroutine; it must not block. May be nil.
	Changed func()

	mu  sync.RWMutex
	set rootSet
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
	wait := r.hold()
	for i := range r.set {
		for _, anchor := range anchors {
			if r.set[i].cert.Equal(anchor) {
				wait = min(wait, r.set.settled(&r.set[i], r.hold()).Sub(now))
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

func (r *Roots) hold() time.Duration {
	if r.Hold > 0 {
		return r.Hold
	}
	return DefaultHold
}

func (r *Roots) secret() types.NamespacedName {
	name := r.Secret
	if name == "" {
		name = DefaultRootsSecret
	}
	return types.NamespacedName{Namespace: r.Namespace, Name: name}
}

func (r *Roots) configMap() types.NamespacedName {
	return types.NamespacedName{Namespace: r.Namespace, Name: RootsConfigMap}
}

// SetupWithManager watches the Secret and the ConfigMap on every replica: writes are guarded by resourceVersion, and
// every replica would write the same.
func (r *Roots) SetupWithManager(mgr ctrl.Manager) error {
	only := func(key types.NamespacedName) builder.Predicates {
		return builder.WithPredicates(predicate.NewPredicateFuncs(func(o client.Object) bool {
			return client.ObjectKeyFromObject(o) == key
		}))
	}
	all := handler.EnqueueRequestsFromMapFunc(func(context.Context, client.Object) []reconcile.Request {
		return []reconcile.Request{{NamespacedName: r.configMap()}}
	})
	everywhere := false
	return ctrl.NewControllerManagedBy(mgr).
		Named("workload-roots").
		Watches(&corev1.Secret{}, all, only(r.secret())).
		Watches(&corev1.ConfigMap{}, all, only(r.configMap())).
		WithOptions(controller.Options{NeedLeaderElection: &everywhere}).
		Complete(r)
}

// +kubebuilder:rbac:groups="",resources=secrets,verbs=get;list;watch,namespace=heddle-system
// +kubebuilder:rbac:groups="",resources=configmaps,verbs=get;list;watch;create;update,namespace=heddle-system

// Reconcile reads the CA and the kept roots, and writes the roots if they changed.
func (r *Roots) Reconcile(ctx context.Context, _ reconcile.Request) (reconcile.Result, error) {
	current, err := r.current(ctx)
	if err != nil {
		r.Log.Error(err, "workload CA not readable, the roots stay as they are", "secret", r.secret())
	}
	kept, known, err := r.kept(ctx)
	if err != nil {
		return reconcile.Result{}, err
	}
	next := known.advance(current, r.Clock())
	if len(next) > 0 && (kept == nil || !next.equal(known)) {
		switch err := r.write(ctx, kept, next); {
		case apierrors.IsConflict(err), apierrors.IsAlreadyExists(err):
			return reconcile.Result{RequeueAfter: time.Second}, nil // another replica was first
		case err != nil:
			return reconcile.Result{}, err
		}
	}
	r.take(next)
	return reconcile.Result{RequeueAfter: rereadEvery}, nil
}

// current is what the CA's Secret says; nothing while there is none.
func (r *Roots) current(ctx context.Context) ([]*x509.Certificate, error) {
	secret := &corev1.Secret{}
	if err := r.Client.Get(ctx, r.secret(), secret); err != nil {
		return nil, fmt.Errorf("get Secret %s, which cert-manager writes for Certificate %s: %w", r.secret(), r.secret().Name, err)
	}
	certs, err := caCertificates(secret.Data)
	if err != nil {
		return nil, fmt.Errorf("Secret %s: %w", r.secret(), err)
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
		return nil, nil, fmt.Errorf("ConfigMap %s: %w; mend or delete it", r.configMap(), err)
	}
	return kept, set, nil
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
	if r.Changed != nil {
		r.Changed()
	}
}
