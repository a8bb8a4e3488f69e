// SPDX-License-Identifier: Apache-2.0

package controllers

import (
	"context"
	"fmt"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/builder"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"github.com/heddle-mesh/heddle/api/v1alpha1"
	"github.com/heddle-mesh/heddle/internal/collect"
	"github.com/heddle-mesh/heddle/internal/snapshot"
)

// LastGoodLabel marks the ControllerRevisions that hold the last good spec of an object; its value is the object's UID.
const LastGoodLabel = collect.LastGoodLabel

// lastGoodEvery is how often, at most, all objects are looked at after results.
const lastGoodEvery = 100 * time.Millisecond

// lastGoodReconciler keeps the newest spec of an object that was in force and good (see compile.Result) in a
// ControllerRevision, which goes with the object. It is the input that compile falls back to, so it outlives the operator.
type lastGoodReconciler struct {
	client     client.Client
	leadership *Leadership
	results    *Results
}

func (r *lastGoodReconciler) setup(mgr ctrl.Manager) error {
	all := func(context.Context) []snapshot.ObjectKey { return r.results.keys("") }
	return builder.TypedControllerManagedBy[snapshot.ObjectKey](mgr).Named("last-good").
		WatchesRawSource(signalSource(&r.results.Changed, lastGoodEvery, all)).
		WithOptions(everywhere[snapshot.ObjectKey]()).WithLogConstructor(logConstructor[snapshot.ObjectKey](mgr, "last-good")).
		Complete(r)
}

// Reconcile writes the revision of one object's spec, if that spec is to be kept and has none.
func (r *lastGoodReconciler) Reconcile(ctx context.Context, key snapshot.ObjectKey) (reconcile.Result, error) {
	object := newObject(key.Kind)
	if object == nil || !r.leadership.Leads() {
		return reconcile.Result{}, nil
	}
	if err := r.client.Get(ctx, types.NamespacedName{Namespace: key.Namespace, Name: key.Name}, object); err != nil {
		return reconcile.Result{}, client.IgnoreNotFound(err)
	}
	judged := r.results.Published().of(key.Kind, object)
	if judged == nil || judged.origin.Generation != object.GetGeneration() || !judged.good || object.GetDeletionTimestamp() != nil {
		return reconcile.Result{}, nil
	}
	kept := &appsv1.ControllerRevisionList{}
	if err := r.client.List(ctx, kept, client.InNamespace(key.Namespace),
		client.MatchingLabels{LastGoodLabel: string(object.GetUID())}); err != nil {
		return reconcile.Result{}, fmt.Errorf("list the ControllerRevisions of %s: %w", judged.origin, err)
	}
	revision, err := collect.Revision(object)
	if err != nil {
		return reconcile.Result{}, fmt.Errorf("last good spec of %s: %w", judged.origin, err)
	}
	return reconcile.Result{}, r.replace(ctx, kept.Items, revision)
}

// replace makes revision the only one. It is created before the others go, so that there is always one.
func (r *lastGoodReconciler) replace(ctx context.Context, kept []appsv1.ControllerRevision, revision *appsv1.ControllerRevision) error {
	exists := false
	for i := range kept {
		exists = exists || kept[i].Name == revision.Name
	}
	if !exists {
		if err := r.client.Create(ctx, revision); err != nil && !apierrors.IsAlreadyExists(err) {
			return fmt.Errorf("create ControllerRevision %s/%s: %w", revision.Namespace, revision.Name, err)
		}
	}
	for i := range kept {
		if kept[i].Revision >= revision.Revision {
			continue // ours, or one that a cache that is behind does not know the object of
		}
		old := &appsv1.ControllerRevision{ObjectMeta: metav1.ObjectMeta{Namespace: kept[i].Namespace, Name: kept[i].Name}}
		if err := r.client.Delete(ctx, old); client.IgnoreNotFound(err) != nil {
			return fmt.Errorf("delete ControllerRevision %s/%s: %w", old.Namespace, old.Name, err)
		}
	}
	return nil
}

func newObject(kind string) client.Object {
	switch kind {
	case v1alpha1.KindTrafficSplit:
		return &v1alpha1.TrafficSplit{}
	case v1alpha1.KindServiceProfile:
		return &v1alpha1.ServiceProfile{}
	case v1alpha1.KindMeshPolicy:
		return &v1alpha1.MeshPolicy{}
	default:
		return nil
	}
}
