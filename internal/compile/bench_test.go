// SPDX-License-Identifier: Apache-2.0

package compile

import (
	"fmt"
	"strconv"
	"testing"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"

	"github.com/heddle-mesh/heddle/api/v1alpha1"
	"github.com/heddle-mesh/heddle/internal/meshconfig"
	"github.com/heddle-mesh/heddle/internal/snapshot"
	"github.com/heddle-mesh/heddle/test/gen"
)

// bigCluster has n services of m pods each, with a split, a profile and a policy for every tenth.
func bigCluster(n, m int) *snapshot.Snapshot {
	s := &snapshot.Snapshot{Options: testOptions()}
	for i := range n {
		namespace, app := fmt.Sprintf("ns-%d", i%20), fmt.Sprintf("app-%d", i)
		svc := gen.Service(namespace, app, gen.ClusterIP(fmt.Sprintf("10.96.%d.%d", i/250, i%250+1)), gen.Port("http", 80, 8080))
		var pods []*corev1.Pod
		for j := range m {
			ip := fmt.Sprintf("10.%d.%d.%d", 1+i/250, i%250, j+1)
			pods = append(pods, gen.Pod(namespace, fmt.Sprintf("%s-5d4f-%d", app, j), ip, gen.App(app)))
		}
		s.Services = append(s.Services, svc)
		s.Pods = append(s.Pods, pods...)
		s.EndpointSlices = append(s.EndpointSlices, gen.Slices([]*corev1.Service{svc}, pods)...)
		if i%10 == 0 && i%40 < 20 { // its second backend is the next but one of the namespace, which has no split
			s.TrafficSplits = append(s.TrafficSplits, gen.TrafficSplit(namespace, app, app, gen.Backend(app, 90), gen.Backend(fmt.Sprintf("app-%d", i+20), 10)))
			s.ServiceProfiles = append(s.ServiceProfiles, gen.ServiceProfile(namespace, app, app, gen.Route("all", "15s")))
			s.MeshPolicies = append(s.MeshPolicies, gen.MeshPolicy(namespace, app, gen.ForService(app), gen.Authorize(v1alpha1.ActionDeny,
				gen.AuthRule("web", v1alpha1.ActionAllow, []v1alpha1.AuthorizationSource{{ServiceAccounts: []string{"web"}}}, nil))))
		}
	}
	s.Sort()
	return s
}

// replace returns a copy of the list in which one object has a new version and a change.
func replace[T any, P interface {
	*T
	DeepCopy() P
	SetResourceVersion(string)
}](list []P, i, version int, change func(P)) []P {
	out := append([]P(nil), list...)
	o := out[i].DeepCopy()
	o.SetResourceVersion("v" + strconv.Itoa(version))
	change(o)
	out[i] = o
	return out
}

// edits are what happens in a cluster, each with the units of work that it may cost.
var edits = []struct {
	name string
	do   func(s *snapshot.Snapshot, version int)
	cost map[Unit]int
}{
	{"nothing", func(*snapshot.Snapshot, int) {}, nil},
	{"an endpoint", func(s *snapshot.Snapshot, v int) {
		s.EndpointSlices = replace(s.EndpointSlices, 3, v, func(x *discoveryv1.EndpointSlice) {
			ready := v%2 == 0
			x.Endpoints[0].Conditions.Ready = &ready
		})
	}, map[Unit]int{UnitEndpoints: 1}},
	{"the status of a pod", func(s *snapshot.Snapshot, v int) {
		s.Pods = replace(s.Pods, 3, v, func(p *corev1.Pod) { p.Status.Message = strconv.Itoa(v) })
	}, nil},
	{"a weight", func(s *snapshot.Snapshot, v int) {
		s.TrafficSplits = replace(s.TrafficSplits, 3, v, func(x *v1alpha1.TrafficSplit) {
			weight := int32(v % 100)
			x.Spec.Backends[0].Weight = &weight
		})
	}, map[Unit]int{UnitRoutes: 1}},
	{"a policy", func(s *snapshot.Snapshot, v int) {
		s.MeshPolicies = replace(s.MeshPolicies, 3, v, func(x *v1alpha1.MeshPolicy) {
			x.Spec.Authorization.Rules[0].Name = "r" + strconv.Itoa(v)
		})
	}, map[Unit]int{UnitInbound: 1}},
}

func TestAnEditCostsWhatItChanges(t *testing.T) {
	for _, edit := range edits {
		t.Run(edit.name, func(t *testing.T) {
			s := bigCluster(100, 3)
			before, memo := CompileWith(s, nil)
			edit.do(s, 1)
			after, memo := CompileWith(s, memo)
			for _, u := range []Unit{UnitMesh, unitBinding, UnitInbound, UnitRoutes, UnitEndpoints} {
				if got, want := memo.Computed(u), edit.cost[u]; got != want {
					t.Errorf("%d units of kind %d were computed, want %d", got, u, want)
				}
			}
			changed := 0
			for name, m := range after.Sections {
				if before.Sections[name] != m {
					changed++
				}
			}
			want := 0
			for _, n := range edit.cost {
				want += n
			}
			if changed != want {
				t.Errorf("%d sections changed, want %d", changed, want)
			}
		})
	}
}

func BenchmarkCompile(b *testing.B) {
	s := bigCluster(1000, 10)
	b.Run("full", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			Compile(s)
		}
	})
	for _, edit := range edits {
		b.Run("after a change of "+edit.name, func(b *testing.B) {
			s := *s
			_, memo := CompileWith(&s, nil)
			b.ReportAllocs()
			for i := 0; b.Loop(); i++ {
				edit.do(&s, i)
				_, memo = CompileWith(&s, memo)
			}
		})
	}
	b.Run("addresses", func(b *testing.B) {
		r := Compile(s)
		name := meshconfig.BindingName(string(s.Pods[0].UID))
		if r.Sections[name] == nil {
			b.Fatal("no binding")
		}
		b.ReportAllocs()
		for b.Loop() {
			r.index()
			r.addresses()
		}
	})
}
