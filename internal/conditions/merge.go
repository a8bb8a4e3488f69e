// SPDX-License-Identifier: Apache-2.0

package conditions

import (
	"fmt"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/heddle-mesh/heddle/api/v1alpha1"
)

// maxMessage bounds a condition's message, in bytes; the schema allows 32768.
const maxMessage = 2048

// Merge returns the status that follows from a judgement, given the one that is there. It is a function of its
// arguments. An object that was never judged gets Ready=Unknown, and one whose newest generation was not judged yet keeps
// what it has: observedGeneration tells.
func (t Table) Merge(old v1alpha1.Status, j Judgement, now metav1.Time) v1alpha1.Status {
	if j.Generation == 0 || j.Generation < old.ObservedGeneration {
		if meta.FindStatusCondition(old.Conditions, v1alpha1.ConditionReady) != nil {
			return old
		}
		next := v1alpha1.Status{}
		next.Conditions = keepTimes(old.Conditions, []metav1.Condition{
			{Type: v1alpha1.ConditionReady, Status: metav1.ConditionUnknown, Reason: v1alpha1.ReasonPending, Message: "not judged yet"},
		}, now)
		return next
	}
	judged := t.judge(j.Verdicts)
	inForce := j.inForce(judged)
	programmed := j.Progress.condition(inForce)
	ready := t.summarize(judged, programmed)
	all := append(slices.Clone(judged), programmed, ready)
	if stalled, ok := t.stalled(judged); ok {
		all = append(all, stalled)
	}
	for i := range all {
		all[i].ObservedGeneration = j.Generation
		all[i].Message = bounded(all[i].Message)
	}
	next := v1alpha1.Status{ObservedGeneration: j.Generation, Conditions: keepTimes(old.Conditions, all, now)}
	if inForce {
		next.Programmed = fmt.Sprintf("%d/%d", j.Progress.Acked, j.Progress.Subscribed)
	}
	return next
}

// judge makes the condition of each row: good unless a verdict speaks against it. Of several bad verdicts the first
// gives the reason, and all give the message.
func (t Table) judge(verdicts []Verdict) []metav1.Condition {
	out := make([]metav1.Condition, 0, len(t)+3)
	for _, r := range t {
		c := metav1.Condition{Type: r.kind, Status: r.good, Reason: r.reason, Message: r.message}
		var messages []string
		for _, v := range verdicts {
			if v.Condition != r.kind || v.Status == r.good || slices.Contains(messages, v.Message) {
				continue
			}
			if len(messages) == 0 {
				c.Status, c.Reason = v.Status, v.Reason
			}
			messages = append(messages, v.Message)
		}
		if len(messages) > 0 {
			c.Message = strings.Join(messages, "; ")
		}
		out = append(out, c)
	}
	return out
}

// inForce says whether anything of the judged generation reaches proxies, or would if there were any: it is accepted, no
// earlier one is in its place, and a conflict has left something of it. What a reference lacks takes only its own share.
func (j *Judgement) inForce(judged []metav1.Condition) bool {
	return meta.IsStatusConditionTrue(judged, v1alpha1.ConditionAccepted) && !j.LastGood &&
		(j.Shaped || !meta.IsStatusConditionTrue(judged, v1alpha1.ConditionConflicted))
}

// summarize is Ready: what holds it back first, in the order of the table.
func (t Table) summarize(judged []metav1.Condition, programmed metav1.Condition) metav1.Condition {
	for i, r := range t {
		if c := judged[i]; c.Status != r.good {
			status := metav1.ConditionFalse
			if c.Status == metav1.ConditionUnknown {
				status = metav1.ConditionUnknown
			}
			return metav1.Condition{Type: v1alpha1.ConditionReady, Status: status, Reason: c.Reason, Message: c.Message}
		}
	}
	ready := metav1.Condition{
		Type: v1alpha1.ConditionReady, Status: programmed.Status, Reason: programmed.Reason, Message: programmed.Message,
	}
	if programmed.Status == metav1.ConditionTrue {
		ready.Reason = v1alpha1.ReasonReady
	}
	return ready
}

// stalled is there only for what does not mend itself (kstatus reads it so).
func (t Table) stalled(judged []metav1.Condition) (metav1.Condition, bool) {
	for i, r := range t {
		if c := judged[i]; r.stalls && c.Status == metav1.ConditionFalse {
			return metav1.Condition{
				Type: v1alpha1.ConditionStalled, Status: metav1.ConditionTrue, Reason: c.Reason, Message: c.Message,
			}, true
		}
	}
	return metav1.Condition{}, false
}

// condition is Programmed.
func (p Progress) condition(inForce bool) metav1.Condition {
	c := metav1.Condition{Type: v1alpha1.ConditionProgrammed, Message: fmt.Sprintf("%d/%d proxies", p.Acked, p.Subscribed)}
	switch {
	case !inForce:
		c.Status, c.Reason = metav1.ConditionFalse, v1alpha1.ReasonNotInForce
		c.Message = "this generation of the object is not in force"
	case len(p.Unpublished) > 0:
		c.Status, c.Reason = metav1.ConditionFalse, v1alpha1.ReasonNotPublished
		c.Message += ": not published, so that proxies keep what they have: " + p.faults()
	case len(p.Refusals) > 0:
		c.Status, c.Reason = metav1.ConditionFalse, v1alpha1.ReasonNacked
		c.Message += ": " + p.faults()
	case p.Subscribed == 0:
		c.Status, c.Reason = metav1.ConditionTrue, v1alpha1.ReasonNoSubscribers
		c.Message = "no connected proxy uses it at the moment"
	case p.Acked < p.Subscribed:
		c.Status, c.Reason = metav1.ConditionUnknown, v1alpha1.ReasonPending
	default:
		c.Status, c.Reason = metav1.ConditionTrue, v1alpha1.ReasonProgrammed
	}
	return c
}

// faults lists what holds the sections back.
func (p Progress) faults() string {
	all := strings.Join(slices.Concat(p.Unpublished, p.Refusals), "; ")
	if p.More > 0 {
		all += fmt.Sprintf("; and %d more", p.More)
	}
	return all
}

// keepTimes gives each condition the time at which its status last changed.
func keepTimes(old, next []metav1.Condition, now metav1.Time) []metav1.Condition {
	for i := range next {
		next[i].LastTransitionTime = now
		if was := meta.FindStatusCondition(old, next[i].Type); was != nil && was.Status == next[i].Status {
			next[i].LastTransitionTime = was.LastTransitionTime
		}
	}
	return next
}

func bounded(message string) string {
	if len(message) <= maxMessage {
		return message
	}
	return strings.ToValidUTF8(message[:maxMessage], "") + " ..."
}
