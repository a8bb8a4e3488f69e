// SPDX-License-Identifier: Apache-2.0

package controllers

import (
	"context"
	"fmt"
	"maps"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/types"
	corev1ac "k8s.io/client-go/applyconfigurations/core/v1"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/builder"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/handler"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"
	"sigs.k8s.io/controller-runtime/pkg/source"

	"github.com/heddle-mesh/heddle/internal/conditions"
)

// The label of namespaces whose pods are taken into the mesh.
const (
	InjectLabel   = "heddle.io/inject"
	InjectEnabled = "enabled"
)

// namespaceKey is the request of the roots controller.
type namespaceKey string

// rootsReconciler writes ConfigMap heddle-roots of a namespace. It owns two keys of it by server-side apply and touches
// no others; a namespace that leaves the mesh keeps it, for the pods that still run there.
type rootsReconciler struct {
	client     client.Client
	leadership *Leadership
	roots      *TrustRoots
	namespace  string // the operator's
}

func (r *rootsReconciler) setup(mgr ctrl.Manager) error {
	namespaceOf := handler.TypedEnqueueRequestsFromMapFunc(func(_ context.Context, ns *corev1.Namespace) []namespaceKey {
		return []namespaceKey{namespaceKey(ns.Name)}
	})
	configMapOf := handler.TypedEnqueueRequestsFromMapFunc(func(ctx context.Context, c *corev1.ConfigMap) []namespaceKey {
		switch {
		case c.Name != RootsConfigMap:
			return nil
		case c.Namespace == r.namespace:
			return r.all(ctx)
		default:
			return []namespaceKey{namespaceKey(c.Namespace)}
		}
	})
	return builder.TypedControllerManagedBy[namespaceKey](mgr).Named("roots").
		WatchesRawSource(source.TypedKind(mgr.GetCache(), &corev1.Namespace{}, namespaceOf)).
		WatchesRawSource(source.TypedKind(mgr.GetCache(), &corev1.ConfigMap{}, configMapOf)).
		WatchesRawSource(signalSource(&r.roots.Changed, time.Second, r.all)).
		WatchesRawSource(signalSource(&r.leadership.Begun, 0, r.all)).
		WithOptions(everywhere[namespaceKey]()).WithLogConstructor(logConstructor[namespaceKey](mgr, "roots")).
		Complete(r)
}

// all returns the namespaces that have the ConfigMap. An error leaves it to the next event of each.
func (r *rootsReconciler) all(ctx context.Context) []namespaceKey {
	list := &corev1.NamespaceList{}
	if err := r.client.List(ctx, list, client.MatchingLabels{InjectLabel: InjectEnabled}); err != nil {
		return nil
	}
	out := []namespaceKey{namespaceKey(r.namespace)}
	for i := range list.Items {
		out = append(out, namespaceKey(list.Items[i].Name))
	}
	return out
}

// Reconcile writes the ConfigMap of one namespace if it is not as it should be.
func (r *rootsReconciler) Reconcile(ctx context.Context, key namespaceKey) (reconcile.Result, error) {
	if !r.leadership.Leads() {
		return reconcile.Result{}, nil
	}
	if wanted, err := r.wanted(ctx, string(key)); !wanted || err != nil {
		return reconcile.Result{}, err
	}
	kept, err := r.get(ctx, r.namespace)
	if err != nil {
		return reconcile.Result{}, err
	}
	have := kept
	if string(key) != r.namespace {
		if have, err = r.get(ctx, string(key)); err != nil {
			return reconcile.Result{}, err
		}
	}
	want := r.roots.Merge(kept)
	if len(want) == 0 || containsAll(have, want) {
		return reconcile.Result{}, nil
	}
	apply := corev1ac.ConfigMap(RootsConfigMap, string(key)).
		WithLabels(map[string]string{"app.kubernetes.io/managed-by": "heddle"}).WithData(want)
	if err := r.client.Apply(ctx, apply, client.ForceOwnership, client.FieldOwner(conditions.FieldManager)); err != nil {
		return reconcile.Result{}, fmt.Errorf("apply ConfigMap %s/%s: %w", key, RootsConfigMap, err)
	}
	ctrl.LoggerFrom(ctx).Info("trust roots written", "namespace", string(key))
	return reconcile.Result{}, nil
}

// wanted says whether a namespace has the ConfigMap.
func (r *rootsReconciler) wanted(ctx context.Context, name string) (bool, error) {
	if name == r.namespace {
		return true, nil
	}
	ns := &corev1.Namespace{}
	if err := r.client.Get(ctx, types.NamespacedName{Name: name}, ns); err != nil {
		return false, client.IgnoreNotFound(err)
	}
	return ns.Labels[InjectLabel] == InjectEnabled && ns.DeletionTimestamp == nil, nil
}

// get returns the data of the ConfigMap in a namespace; none if there is none.
func (r *rootsReconciler) get(ctx context.Context, namespace string) (map[string]string, error) {
	c := &corev1.ConfigMap{}
	key := types.NamespacedName{Namespace: namespace, Name: RootsConfigMap}
	switch err := r.client.Get(ctx, key, c); {
	case apierrors.IsNotFound(err):
		return nil, nil
	case err != nil:
		return nil, fmt.Errorf("get ConfigMap %s: %w", key, err)
	}
	return c.Data, nil
}

func containsAll(have, want map[string]string) bool {
	both := maps.Clone(want)
	maps.DeleteFunc(both, func(k, v string) bool {
		got, ok := have[k]
		return ok && got == v
	})
	return len(both) == 0
}
