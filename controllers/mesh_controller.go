// SPDX-License-Identifier: Apache-2.0

package controllers

import (
	"context"
	"errors"
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	networkingv1 "k8s.io/api/networking/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/builder"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/event"
	"sigs.k8s.io/controller-runtime/pkg/handler"
	"sigs.k8s.io/controller-runtime/pkg/predicate"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"
	"sigs.k8s.io/controller-runtime/pkg/source"

	"github.com/heddle-mesh/heddle/api/v1alpha1"
	"github.com/heddle-mesh/heddle/internal/compile"
	"github.com/heddle-mesh/heddle/internal/distribute"
	"github.com/heddle-mesh/heddle/internal/snapshot"
)

// missingPoll is how often the cluster is read while a CRD of ours is gone.
const missingPoll = 5 * time.Second

// Collector reads the cluster; *collect.Collector does.
type Collector interface {
	Take(ctx context.Context) (*snapshot.Snapshot, error)
}

// meshReconciler compiles and publishes the mesh. All events are one request: what comes while it works is one more run.
type meshReconciler struct {
	collector  Collector
	leadership *Leadership
	results    *Results
	inputs     *Signal // changes of inputs that are not objects, such as the workload roots
	metrics    *metrics
	clock      func() time.Time

	// Of the last run; one worker owns them.
	memo       *compile.Memo
	noNetworks bool
}

func (r *meshReconciler) setup(mgr ctrl.Manager) error {
	b := builder.TypedControllerManagedBy[oneKey](mgr).Named("mesh").
		WatchesRawSource(signalSource(&r.leadership.Begun, 0, onlyKey)).
		WatchesRawSource(signalSource(r.inputs, 0, onlyKey)).
		WithOptions(everywhere[oneKey]()).WithLogConstructor(logConstructor[oneKey](mgr, "mesh"))
	for _, s := range []source.TypedSource[oneKey]{
		input(mgr, &corev1.Service{}, anyChange[*corev1.Service]()),
		input(mgr, &discoveryv1.EndpointSlice{}, anyChange[*discoveryv1.EndpointSlice]()),
		input(mgr, &corev1.Pod{}, changeOf(podInput)),
		input(mgr, &corev1.Node{}, changeOf(nodeInput)),
		input(mgr, &v1alpha1.TrafficSplit{}, changeOf(objectInput[*v1alpha1.TrafficSplit])),
		input(mgr, &v1alpha1.ServiceProfile{}, changeOf(objectInput[*v1alpha1.ServiceProfile])),
		input(mgr, &v1alpha1.MeshPolicy{}, changeOf(objectInput[*v1alpha1.MeshPolicy])),
	} {
		b = b.WatchesRawSource(s)
	}
	// Kubernetes serves ServiceCIDRs since 1.33; a kind that it does not serve would hold the controller up.
	if _, err := mgr.GetRESTMapper().RESTMapping(networkingv1.SchemeGroupVersion.WithKind("ServiceCIDR").GroupKind()); err == nil {
		b = b.WatchesRawSource(input(mgr, &networkingv1.ServiceCIDR{}, anyChange[*networkingv1.ServiceCIDR]()))
	}
	return b.Complete(r)
}

// Reconcile compiles what is there now and publishes it.
func (r *meshReconciler) Reconcile(ctx context.Context, _ oneKey) (reconcile.Result, error) {
	publisher := r.leadership.Publisher()
	if publisher == nil {
		return reconcile.Result{}, nil
	}
	start := r.clock()
	snap, err := r.collector.Take(ctx)
	if err != nil {
		return reconcile.Result{}, fmt.Errorf("read the cluster: %w", err)
	}
	taken := r.clock()
	var result *compile.Result
	result, r.memo = compile.CompileWith(snap, r.memo)
	compiled := r.clock()
	r.results.compiling(result)
	err = publisher.Publish(result.Sections)
	r.metrics.compiled(snap, result, taken.Sub(start), compiled.Sub(taken), r.clock().Sub(compiled))
	switch {
	case errors.Is(err, distribute.ErrFenced):
		r.leadership.Resign(publisher, err)
		return reconcile.Result{}, nil
	case errors.Is(err, distribute.ErrNotLeader):
		return reconcile.Result{}, nil
	}
	// What could be published is; what could not keeps its last version and is tried again.
	r.results.publish(result)
	if err != nil {
		return reconcile.Result{}, fmt.Errorf("publish: %w", err)
	}
	if none := meshNetworks(result) == 0; none != r.noNetworks {
		r.noNetworks = none
		if none {
			ctrl.LoggerFrom(ctx).Info("no Node has a podCIDR and there is no ServiceCIDR: " +
				"proxies call addresses that they do not know in plaintext; give the operator --mesh-networks")
		}
	}
	if len(snap.Missing) > 0 {
		ctrl.LoggerFrom(ctx).Info("the API server does not serve kinds of the mesh: what is known of them stays in force", "kinds", snap.Missing)
		return reconcile.Result{RequeueAfter: missingPoll}, nil // their return makes no event
	}
	return reconcile.Result{}, nil
}

// input is a kind that shapes config.
func input[T client.Object](mgr ctrl.Manager, kind T, changes predicate.TypedPredicate[T]) source.TypedSource[oneKey] {
	one := handler.TypedEnqueueRequestsFromMapFunc(func(ctx context.Context, _ T) []oneKey { return onlyKey(ctx) })
	return source.TypedKind(mgr.GetCache(), kind, one, changes)
}

// anyChange lets through all but a resync.
func anyChange[T client.Object]() predicate.TypedPredicate[T] {
	return predicate.TypedResourceVersionChangedPredicate[T]{}
}

// changeOf lets an update through when what matters of the object differs: a kubelet writes the status of its pods and
// nodes all the time.
func changeOf[T client.Object](matters func(T) any) predicate.TypedPredicate[T] {
	return predicate.TypedFuncs[T]{
		UpdateFunc: func(e event.TypedUpdateEvent[T]) bool {
			return e.ObjectOld.GetUID() != e.ObjectNew.GetUID() ||
				!equality.Semantic.DeepEqual(matters(e.ObjectOld), matters(e.ObjectNew))
		},
	}
}

// podInput is what of a pod can change config: not what the kubelet reports of its containers.
func podInput(p *corev1.Pod) any {
	return []any{
		p.Labels, p.Annotations, p.OwnerReferences, p.DeletionTimestamp, p.Spec, p.Status.Phase, p.Status.PodIP, p.Status.PodIPs,
	}
}

func nodeInput(n *corev1.Node) any {
	return []any{n.Labels, n.Annotations, n.Spec, n.Status.Addresses, n.DeletionTimestamp}
}

// objectInput is what of an object of ours can change config: not its status, which we write.
func objectInput[T client.Object](o T) any {
	return []any{o.GetGeneration(), o.GetLabels(), o.GetAnnotations(), o.GetDeletionTimestamp()}
}
