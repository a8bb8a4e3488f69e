// SPDX-License-Identifier: Apache-2.0

package compile

import (
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/heddle-mesh/heddle/api/v1alpha1"
	"github.com/heddle-mesh/heddle/internal/snapshot"
	"github.com/heddle-mesh/heddle/test/gen"
)

// Status counts the proxies of what an object shaped, and says that nothing of a conflict's loser is in force if that is
// nothing.
func TestALoserShapesWhatIsLeftOfIt(t *testing.T) {
	deny := gen.Authorize(v1alpha1.ActionAllow, gen.AuthRule("r", v1alpha1.ActionDeny, nil, nil))
	for what, tc := range map[string]struct {
		more   []gen.Option[v1alpha1.MeshPolicy] // of the younger policy
		alone  bool                              // it has a pod of its own
		shapes bool
	}{
		"all of it is lost":              {},
		"its rules deny all the same":    {more: []gen.Option[v1alpha1.MeshPolicy]{deny}, shapes: true},
		"its limits count all the same":  {more: []gen.Option[v1alpha1.MeshPolicy]{gen.Limit("l", 1)}, shapes: true},
		"it decides on another workload": {alone: true, shapes: true},
	} {
		t.Run(what, func(t *testing.T) {
			front := gen.Labels[corev1.Pod]("tier", "front")
			s := &snapshot.Snapshot{Options: testOptions()}
			s.Pods = append(s.Pods, gen.Pod("shop", "web", "10.0.0.1", gen.App("web"), front))
			if tc.alone {
				s.Pods = append(s.Pods, gen.Pod("shop", "web-2", "10.0.0.2", front))
			}
			older := gen.MeshPolicy("shop", "older", gen.ForWorkload("app", "web"), gen.MTLS(v1alpha1.MTLSStrict), gen.Age[v1alpha1.MeshPolicy](time.Hour))
			younger := gen.MeshPolicy("shop", "younger", append(tc.more, gen.ForWorkload("tier", "front"), gen.MTLS(v1alpha1.MTLSDisabled))...)
			s.MeshPolicies = append(s.MeshPolicies, older, younger)
			r := Compile(s)
			checkResult(t, r)
			for _, f := range r.Findings {
				if f.Condition != v1alpha1.ConditionConflicted {
					continue
				}
				isYounger := f.Origin.Name == "younger"
				if (f.Status == "True") != isYounger {
					t.Errorf("%s: Conflicted is %s", f.Origin, f.Status)
				}
				if shapes := len(r.Shaped[f.Origin]) > 0; shapes != (!isYounger || tc.shapes) {
					t.Errorf("%s shapes something: %t", f.Origin, shapes)
				}
			}
		})
	}
}
