// SPDX-License-Identifier: Apache-2.0

package sandbox

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/heddle-mesh/heddle/api/v1alpha1"
	"github.com/heddle-mesh/heddle/internal/collect"
	"github.com/heddle-mesh/heddle/internal/compile"
	"github.com/heddle-mesh/heddle/internal/conditions"
)

// objectOf returns the object that findings are about, if that generation of it is still there.
func (c *control) objectOf(ctx context.Context, origin compile.Origin) client.Object {
	var object client.Object
	switch origin.Kind {
	case v1alpha1.KindTrafficSplit:
		object = &v1alpha1.TrafficSplit{}
	case v1alpha1.KindServiceProfile:
		object = &v1alpha1.ServiceProfile{}
	case v1alpha1.KindMeshPolicy:
		object = &v1alpha1.MeshPolicy{}
	default:
		return nil
	}
	err := c.cluster.Get(ctx, types.NamespacedName{Namespace: origin.Namespace, Name: origin.Name}, object)
	if err != nil || object.GetUID() != origin.UID || object.GetGeneration() != origin.Generation {
		return nil
	}
	return object
}

// keepGood keeps the spec of each object that is good, for when a later one is not.
func (c *control) keepGood(ctx context.Context, result *compile.Result) error {
	for _, origin := range result.Good {
		object := c.objectOf(ctx, origin)
		if object == nil {
			continue
		}
		next, err := collect.Revision(object)
		if err != nil {
			return err
		}
		kept := &appsv1.ControllerRevisionList{}
		if err := c.cluster.List(ctx, kept, client.MatchingLabels{collect.LastGoodLabel: string(object.GetUID())}); err != nil {
			return err
		}
		if err := c.cluster.Create(ctx, next); err != nil && !apierrors.IsAlreadyExists(err) {
			return err
		}
		for i := range kept.Items {
			if old := &kept.Items[i]; old.Revision < next.Revision {
				if err := c.cluster.Delete(ctx, old); client.IgnoreNotFound(err) != nil {
					return err
				}
			}
		}
	}
	return nil
}

// reporter prints the conditions of objects when they change.
type reporter struct {
	control *control
	out     *locked
	changed bool              // since the last report
	told    map[string]string // by object
	since   map[string]time.Time
	status  map[string]v1alpha1.Status
}

func newReporter(c *control, out *locked) *reporter {
	return &reporter{
		control: c, out: out, told: make(map[string]string), since: make(map[string]time.Time), status: make(map[string]v1alpha1.Status),
	}
}

// slow is how long the proxies may take before it is told that they are not done.
const slow = 2 * time.Second

// report prints what is new. from says which file an object is from.
func (r *reporter) report(from map[string]string, now time.Time) {
	result := r.control.result.Load()
	if result == nil || !r.changed && len(r.since) == 0 {
		return
	}
	r.changed = false
	byOrigin := make(map[compile.Origin][]conditions.Verdict)
	var origins []compile.Origin
	for _, f := range result.Findings {
		if byOrigin[f.Origin] == nil {
			origins = append(origins, f.Origin)
		}
		byOrigin[f.Origin] = append(byOrigin[f.Origin], conditions.Verdict{
			Condition: f.Condition, Status: f.Status, Reason: f.Reason, Message: f.Message,
		})
	}
	present := make(map[string]bool, len(origins))
	for _, origin := range origins {
		name := origin.String()
		present[name] = true
		status := tables[origin.Kind].Merge(r.status[name], r.judgement(result, origin, byOrigin[origin]), metav1.NewTime(now))
		r.status[name] = status
		line, pending := summary(status)
		if line == r.told[name] {
			delete(r.since, name)
			continue
		}
		if _, waits := r.since[name]; !waits {
			r.since[name] = now
		}
		if pending && now.Sub(r.since[name]) < slow {
			continue
		}
		r.told[name] = line
		delete(r.since, name)
		r.out.printf("%s %s: %s", from[name], name, line)
	}
	for name := range r.told {
		if !present[name] {
			r.out.printf("%s: gone", name)
			delete(r.told, name)
			delete(r.status, name)
		}
	}
}

var tables = map[string]conditions.Table{
	v1alpha1.KindTrafficSplit:   conditions.TrafficSplit,
	v1alpha1.KindServiceProfile: conditions.ServiceProfile,
	v1alpha1.KindMeshPolicy:     conditions.MeshPolicy,
}

// judgement is what is known of an object, for conditions.
func (r *reporter) judgement(result *compile.Result, origin compile.Origin, verdicts []conditions.Verdict) conditions.Judgement {
	shaped := result.Shaped[origin]
	far := r.control.node.Programmed(shaped)
	j := conditions.Judgement{
		Generation: origin.Generation, Shaped: len(shaped) > 0, Verdicts: verdicts,
		LastGood: slices.Contains(result.LastGood, origin),
		Progress: conditions.Progress{Subscribed: far.Subscribed, Acked: far.Acked, More: far.MoreUnpublished + far.MoreNacks},
	}
	for _, why := range far.Unpublished {
		j.Progress.Unpublished = append(j.Progress.Unpublished, why.Error())
	}
	for _, nack := range far.Nacks {
		pod := nack.PodUID
		if known, ok := result.Pod(nack.PodUID); ok {
			pod = known.Namespace + "/" + known.Name
		}
		j.Progress.Refusals = append(j.Progress.Refusals, fmt.Sprintf("pod %s refused %s: %s", pod, nack.Section, nack.Reason))
	}
	return j
}

// summary is the conditions in a line: Ready, and those that hold it back. It is pending while proxies are on their way.
func summary(status v1alpha1.Status) (line string, pending bool) {
	var parts []string
	for _, c := range status.Conditions {
		bad := c.Status == metav1.ConditionFalse
		if c.Type == v1alpha1.ConditionConflicted {
			bad = c.Status == metav1.ConditionTrue
		}
		switch {
		case c.Type == v1alpha1.ConditionReady:
			pending = c.Status == metav1.ConditionUnknown && c.Reason == v1alpha1.ReasonPending
			parts = slices.Insert(parts, 0, fmt.Sprintf("Ready=%s (%s, generation %d)", c.Status, status.Programmed, c.ObservedGeneration))
		case c.Type == v1alpha1.ConditionStalled:
		case bad || c.Type == v1alpha1.ConditionProgrammed && c.Status != metav1.ConditionTrue:
			parts = append(parts, fmt.Sprintf("%s=%s %s: %s", c.Type, c.Status, c.Reason, c.Message))
		}
	}
	return strings.Join(parts, "; "), pending
}
