// SPDX-License-Identifier: Apache-2.0

package controllers

import (
	"context"
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/tools/events"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/builder"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/predicate"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"github.com/heddle-mesh/heddle/api/v1alpha1"
	"github.com/heddle-mesh/heddle/internal/compile"
	"github.com/heddle-mesh/heddle/internal/conditions"
	"github.com/heddle-mesh/heddle/internal/distribute"
	"github.com/heddle-mesh/heddle/internal/meshconfig"
)

// statusEvery is how often, at most, the status of all objects is looked at after results and acks.
const statusEvery = time.Second

// kind is what the status controllers of the three kinds differ in.
type kind[T client.Object] struct {
	name   string
	object func() T // an empty one
	table  conditions.Table
	status func(T) v1alpha1.Status // that all kinds share
	// configuration is what to apply; nil if that and the rest of the status are as they should be already.
	configuration func(o T, next v1alpha1.Status, seen *sight) runtime.ApplyConfiguration
}

// sight is what of an object is in force, and what proxies see of it; nil before it was judged.
type sight struct {
	compile.Effect

	now    time.Time
	health distribute.Health // of the service that the object is about, and of its backends
	kept   bool              // the routes that the effect is in are not published: what status said of it before still holds
}

// statusReconciler writes the status of one object of a kind.
type statusReconciler[T client.Object] struct {
	kind       kind[T]
	client     client.Client
	leadership *Leadership
	results    *Results
	programmed func([]meshconfig.Name) distribute.Programmed
	health     func(service string, backends ...string) distribute.Health
	recorder   events.EventRecorder
	clock      func() time.Time
}

func (r *statusReconciler[T]) setup(mgr ctrl.Manager, named string) error {
	list := func(context.Context) []reconcile.Request {
		var out []reconcile.Request
		for _, key := range r.results.keys(r.kind.name) {
			out = append(out, reconcile.Request{NamespacedName: types.NamespacedName{Namespace: key.Namespace, Name: key.Name}})
		}
		return out
	}
	return ctrl.NewControllerManagedBy(mgr).Named(named).
		For(r.kind.object(), builder.WithPredicates(predicate.GenerationChangedPredicate{})).
		WatchesRawSource(signalSource(&r.results.Changed, statusEvery, list)).
		WithOptions(everywhere[reconcile.Request]()).WithLogConstructor(logConstructor[reconcile.Request](mgr, named)).
		Complete(r)
}

// Reconcile writes the status that follows from the newest result, if it differs.
func (r *statusReconciler[T]) Reconcile(ctx context.Context, request reconcile.Request) (reconcile.Result, error) {
	if !r.leadership.Leads() {
		return reconcile.Result{}, nil
	}
	object := r.kind.object()
	if err := r.client.Get(ctx, request.NamespacedName, object); err != nil {
		return reconcile.Result{}, client.IgnoreNotFound(err)
	}
	published := r.results.Published()
	judged := published.of(r.kind.name, object)
	var judgement conditions.Judgement
	var seen *sight
	if judged != nil {
		judgement = r.judgement(published, judged)
		seen = r.look(published.Effects[judged.origin])
		if len(judgement.Progress.Unpublished) > 0 {
			own := r.programmed([]meshconfig.Name{meshconfig.RoutesName(seen.Service)})
			seen.kept = len(own.Unpublished) > 0
		}
	}
	old := r.kind.status(object)
	next := r.kind.table.Merge(old, judgement, metav1.NewTime(r.clock()))
	configuration := r.kind.configuration(object, next, seen)
	again := reconcile.Result{RequeueAfter: seen.changesIn()}
	if configuration == nil {
		return again, nil
	}
	if err := r.client.Status().Apply(ctx, configuration, conditions.ApplyOptions()...); err != nil {
		// An object that was deleted meanwhile has no status to write.
		return reconcile.Result{}, client.IgnoreNotFound(err)
	}
	r.announce(object, old, next)
	return again, nil
}

// look puts what proxies see of an object beside what of it is in force.
func (r *statusReconciler[T]) look(effect compile.Effect) *sight {
	return &sight{Effect: effect, now: r.clock(), health: r.health(effect.Service, effect.Backends...)}
}

// judgement is what is known of an object, for conditions.
func (r *statusReconciler[T]) judgement(p *Published, j *judged) conditions.Judgement {
	shaped := p.Shaped[j.origin]
	out := conditions.Judgement{Generation: j.origin.Generation, Shaped: len(shaped) > 0, LastGood: j.lastGood}
	for _, f := range j.findings {
		out.Verdicts = append(out.Verdicts, conditions.Verdict{
			Condition: f.Condition, Status: f.Status, Reason: f.Reason, Message: f.Message,
		})
	}
	far := r.programmed(shaped)
	out.Progress = conditions.Progress{Subscribed: far.Subscribed, Acked: far.Acked, More: far.MoreUnpublished + far.MoreNacks}
	for _, why := range far.Unpublished {
		out.Progress.Unpublished = append(out.Progress.Unpublished, why.Error())
	}
	for _, nack := range far.Nacks {
		pod := nack.PodUID
		if known, ok := p.Pod(nack.PodUID); ok {
			pod = known.Namespace + "/" + known.Name
		}
		out.Progress.Refusals = append(out.Progress.Refusals, fmt.Sprintf("pod %s refused %s: %s", pod, nack.Section, nack.Reason))
	}
	return out
}

// announce raises an Event when an object takes over, or loses, what another wants too.
func (r *statusReconciler[T]) announce(o T, old, next v1alpha1.Status) {
	was := meta.FindStatusCondition(old.Conditions, v1alpha1.ConditionConflicted)
	is := meta.FindStatusCondition(next.Conditions, v1alpha1.ConditionConflicted)
	if was == nil || is == nil || was.Status == is.Status {
		return
	}
	if is.Status == metav1.ConditionTrue {
		r.recorder.Eventf(o, nil, corev1.EventTypeWarning, v1alpha1.ReasonConflicted, "Conflict", "%s", is.Message)
		return
	}
	r.recorder.Eventf(o, nil, corev1.EventTypeNormal, "TookOver", "TakeOver",
		"this object is in force now; before, %s", was.Message)
}

// same says whether all that is applied is there already.
func same(old, next v1alpha1.Status, rest bool) bool { return rest && conditions.Same(old, next) }
