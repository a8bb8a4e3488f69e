// SPDX-License-Identifier: Apache-2.0

package compile

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"github.com/heddle-mesh/heddle/api/v1alpha1"
)

// maxProblems is how many problems a message lists.
const maxProblems = 5

// report collects what is found about objects, in any order.
type report struct {
	verdicts map[Origin]*verdict
}

// verdict is what was found about one object.
type verdict struct {
	errs      field.ErrorList
	judged    bool  // there is a spec that could be in force, so that it is known what else is wrong
	isInForce bool  // it is
	lastGood  int64 // the generation of what is in force, if it is not the live one
	refs      []problem
	conflicts []problem
}

type problem struct {
	reason  string
	message string
}

func (r *report) open(origin Origin, errs field.ErrorList, judged bool) {
	r.verdicts[origin] = &verdict{errs: errs, judged: judged}
}

// inForce says that a spec of an object is in force: the live one, or the last good one of a generation.
func (r *report) inForce(origin Origin, lastGood int64) {
	r.verdicts[origin].isInForce, r.verdicts[origin].lastGood = true, lastGood
}

// unresolved says that something that an object names is not there. field is its path in the object.
func (r *report) unresolved(origin Origin, reason, format string, args ...any) {
	r.verdicts[origin].refs = append(r.verdicts[origin].refs, problem{reason, fmt.Sprintf(format, args...)})
}

// conflict says that another object has what this one wants.
func (r *report) conflict(origin Origin, format string, args ...any) {
	r.verdicts[origin].conflicts = append(r.verdicts[origin].conflicts, problem{v1alpha1.ReasonConflicted, fmt.Sprintf(format, args...)})
}

// findings returns three findings for each object, sorted.
func (r *report) findings() (findings []Finding, lastGood []Origin) {
	origins := make([]Origin, 0, len(r.verdicts))
	for o := range r.verdicts {
		origins = append(origins, o)
	}
	slices.SortFunc(origins, compareOrigins)
	findings = make([]Finding, 0, 3*len(origins))
	for _, o := range origins {
		v := r.verdicts[o]
		findings = append(findings, v.accepted(o), v.conflicted(o), v.resolved(o))
		if v.lastGood != 0 {
			lastGood = append(lastGood, o)
		}
	}
	return findings, lastGood
}

func compareOrigins(a, b Origin) int {
	return cmp.Or(
		cmp.Compare(a.Kind, b.Kind), cmp.Compare(a.Namespace, b.Namespace), cmp.Compare(a.Name, b.Name),
		cmp.Compare(a.UID, b.UID), cmp.Compare(a.Generation, b.Generation),
	)
}

func (v *verdict) accepted(o Origin) Finding {
	f := Finding{o, v1alpha1.ConditionAccepted, metav1.ConditionTrue, v1alpha1.ReasonAccepted, "The spec is valid."}
	if len(v.errs) == 0 {
		return f
	}
	f.Status, f.Reason = metav1.ConditionFalse, v1alpha1.ReasonInvalid
	if v.errs[0].Type == field.ErrorTypeForbidden && v.errs[0].Field == targetPath.Child("kind").String() && len(v.errs) == 1 {
		f.Reason = v1alpha1.ReasonNotPermitted
	}
	problems := make([]problem, len(v.errs))
	for i, err := range v.errs {
		problems[i].message = err.Error()
	}
	f.Message = o.String() + ": " + sentences(problems)
	f.Message += v.stays()
	if !v.isInForce {
		f.Message += " Nothing of it is in force."
	}
	return f
}

// stays says what is in force in place of the live spec, if anything is.
func (v *verdict) stays() string {
	if v.lastGood == 0 {
		return ""
	}
	return fmt.Sprintf(" The last good spec, of generation %d, stays in force.", v.lastGood)
}

func (v *verdict) resolved(o Origin) Finding {
	f := Finding{o, v1alpha1.ConditionResolvedRefs, metav1.ConditionTrue, v1alpha1.ReasonResolvedRefs, "Everything that the spec names exists."}
	if !v.judged {
		return notJudged(f)
	}
	if len(v.refs) > 0 {
		sortProblems(v.refs)
		f.Status, f.Reason, f.Message = metav1.ConditionFalse, v.refs[0].reason, o.String()+": "+sentences(v.refs)
	}
	return f
}

func (v *verdict) conflicted(o Origin) Finding {
	f := Finding{o, v1alpha1.ConditionConflicted, metav1.ConditionFalse, v1alpha1.ReasonNoConflict, "No other object wants the same."}
	if !v.judged {
		return notJudged(f)
	}
	if len(v.conflicts) > 0 {
		sortProblems(v.conflicts)
		f.Status, f.Reason, f.Message = metav1.ConditionTrue, v.conflicts[0].reason, o.String()+": "+sentences(v.conflicts)+v.stays()
	}
	return f
}

func notJudged(f Finding) Finding {
	f.Status, f.Reason, f.Message = metav1.ConditionUnknown, v1alpha1.ReasonPending, "Not judged, because the spec is not accepted."
	return f
}

// reasons in the order in which they are the reason of a condition that has several.
var reasons = []string{
	v1alpha1.ReasonServiceNotFound, v1alpha1.ReasonBackendNotFound, v1alpha1.ReasonWorkloadNotFound,
	v1alpha1.ReasonPortNotFound, v1alpha1.ReasonProtocolMismatch, v1alpha1.ReasonConflicted,
}

func sortProblems(problems []problem) {
	slices.SortFunc(problems, func(a, b problem) int {
		return cmp.Or(
			cmp.Compare(slices.Index(reasons, a.reason), slices.Index(reasons, b.reason)),
			cmp.Compare(a.message, b.message),
		)
	})
}

// sentences joins the messages of problems, each once.
func sentences(problems []problem) string {
	var out []string
	for _, p := range problems {
		if message := p.message + "."; !slices.Contains(out, message) {
			out = append(out, message)
		}
	}
	if more := len(out) - maxProblems; more > 0 {
		out = append(out[:maxProblems], fmt.Sprintf("And %d more.", more))
	}
	return strings.Join(out, " ")
}
