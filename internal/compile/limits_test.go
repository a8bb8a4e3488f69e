// SPDX-License-Identifier: Apache-2.0

package compile

import (
	"fmt"
	"strings"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/heddle-mesh/heddle/internal/evaluate"
	"github.com/heddle-mesh/heddle/internal/meshconfig"
	"github.com/heddle-mesh/heddle/internal/snapshot"
	"github.com/heddle-mesh/heddle/test/gen"
)

// A proxy would refuse a port with more limits, so those of the widest policies are left out, and say so.
func TestOnlySoManyLimitsApplyToAPort(t *testing.T) {
	s := &snapshot.Snapshot{Options: testOptions()}
	s.Services = append(s.Services, gen.Service("shop", "web", gen.ClusterIP("10.96.0.1"), gen.Port("http", 80, 8080)))
	s.Pods = append(s.Pods, gen.Pod("shop", "web", "10.0.0.1", gen.App("web")))
	for i := range 1 + evaluate.MaxRateLimits/maxEntries {
		policy := gen.MeshPolicy("shop", fmt.Sprintf("p%d", i))
		if i > 0 {
			gen.ForService("web")(policy)
		}
		for j := range maxEntries {
			gen.Limit(fmt.Sprintf("l%d", j), 1)(policy)
		}
		s.MeshPolicies = append(s.MeshPolicies, policy)
	}
	r := Compile(s)
	checkResult(t, r)
	for _, m := range r.Sections {
		inbound, ok := m.(*meshconfig.Inbound)
		if !ok {
			continue
		}
		limits := inbound.GetPorts()[0].GetRateLimits()
		if len(limits) != evaluate.MaxRateLimits || limits[0].GetName() != "shop/p1/l0" {
			t.Errorf("%d limits, the first %s; want %d of the policies for the Service", len(limits), limits[0].GetName(), evaluate.MaxRateLimits)
		}
	}
	for _, f := range r.Findings {
		if f.Condition != "ResolvedRefs" {
			continue
		}
		if tooMany := f.Status == metav1.ConditionFalse && strings.Contains(f.Message, "more than 64 limits of all policies apply to port 8080"); tooMany != (f.Origin.Name == "p0") {
			t.Errorf("%s: %s %s", f.Origin, f.Status, f.Message)
		}
	}
}
