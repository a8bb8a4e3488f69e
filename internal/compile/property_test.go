// SPDX-License-Identifier: Apache-2.0

package compile

import (
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"testing"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/proto"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	"sigs.k8s.io/randfill"

	"github.com/heddle-mesh/heddle/api/v1alpha1"
	"github.com/heddle-mesh/heddle/internal/meshconfig"
	"github.com/heddle-mesh/heddle/internal/snapshot"
)

// outcome is all that a result says, in a form that compares.
type outcome struct {
	Sections map[meshconfig.Name]string
	Findings []Finding
	Shaped   map[Origin][]meshconfig.Name
	Effects  map[Origin]Effect
	LastGood []Origin
	Address  map[string]string
}

func outcomeOf(r *Result) outcome {
	o := outcome{Sections: map[meshconfig.Name]string{}, Findings: r.Findings, Shaped: r.Shaped, Effects: r.Effects, LastGood: r.LastGood, Address: map[string]string{}}
	for name, m := range r.Sections {
		o.Sections[name] = string(meshconfig.Encode(m))
	}
	for _, format := range []string{"10.0.0.%d", "10.96.0.%d"} {
		for i := range 40 {
			ip := netip.MustParseAddr(fmt.Sprintf(format, i))
			o.Address[ip.String()] = string(meshconfig.Encode(r.Address(ip)))
		}
	}
	return o
}

func hashOf(t testing.TB, s *snapshot.Snapshot) [32]byte {
	t.Helper()
	good := map[string]*snapshot.LastGood{}
	for key, g := range s.LastGood {
		good[fmt.Sprint(key)] = g
	}
	data, err := json.Marshal([]any{
		s.Options, s.Nodes, s.Services, s.EndpointSlices, s.Pods, s.TrafficSplits, s.ServiceProfiles, s.MeshPolicies, good,
	})
	if err != nil {
		t.Fatal(err)
	}
	return sha256.Sum256(data)
}

func TestAMemoChangesNothingButTheWork(t *testing.T) {
	seed := rand.Uint64()
	for run := range uint64(4) {
		w := newWorld(seed + run)
		for range 40 {
			w.edit()
		}
		var memo *Memo
		var before *Result
		for step := range 80 {
			w.edit()
			s := w.snapshot()
			hash := hashOf(t, s)
			var with *Result
			with, memo = CompileWith(s, memo)
			if hashOf(t, s) != hash {
				t.Fatalf("seed %d, step %d: the snapshot was changed", seed+run, step)
			}
			w.shuffle(s)
			without := Compile(s)
			if diff := cmp.Diff(outcomeOf(without), outcomeOf(with)); diff != "" {
				t.Fatalf("seed %d, step %d: -without a memo, in another order +with\n%s", seed+run, step, diff)
			}
			checkResult(t, with)
			if before != nil {
				checkPointers(t, before, with)
			}
			before = with
			if t.Failed() {
				t.Fatalf("seed %d, step %d", seed+run, step)
			}
		}
	}
}

// checkPointers asserts that a section that did not change is the same pointer.
func checkPointers(t *testing.T, before, after *Result) {
	t.Helper()
	for name, m := range after.Sections {
		if old := before.Sections[name]; old != nil && old != m && proto.Equal(old, m) {
			t.Errorf("section %s is equal to the one before, and not the same pointer", name)
		}
	}
}

// garbage fills a snapshot with what no API server would store.
func garbage(f *randfill.Filler) *snapshot.Snapshot {
	s := &snapshot.Snapshot{Options: testOptions()}
	var (
		services []corev1.Service
		pods     []corev1.Pod
		endpoint []discoveryv1.EndpointSlice
		splits   []v1alpha1.TrafficSplit
		profiles []v1alpha1.ServiceProfile
		policies []v1alpha1.MeshPolicy
	)
	f.Fill(&services)
	f.Fill(&pods)
	f.Fill(&endpoint)
	f.Fill(&splits)
	f.Fill(&profiles)
	f.Fill(&policies)
	// Names of few, so that objects find each other.
	name := func(i int) string { return []string{"a", "b", "c", "A?", ""}[i%5] }
	for i := range services {
		services[i].Namespace, services[i].Name = "n", name(i)
		services[i].Spec.Selector = map[string]string{"app": name(i)}
		s.Services = append(s.Services, &services[i])
	}
	for i := range pods {
		pods[i].Namespace, pods[i].Name = "n", name(i)
		pods[i].Labels = map[string]string{"app": name(i), injectedKey: injectedValue}
		pods[i].Spec.InitContainers = append(pods[i].Spec.InitContainers, corev1.Container{Name: proxyContainer})
		s.Pods = append(s.Pods, &pods[i])
	}
	for i := range endpoint {
		endpoint[i].Namespace, endpoint[i].Labels = "n", map[string]string{discoveryv1.LabelServiceName: name(i)}
		s.EndpointSlices = append(s.EndpointSlices, &endpoint[i])
	}
	for i := range splits {
		splits[i].Namespace, splits[i].Spec.Service.Name = "n", name(i)
		s.TrafficSplits = append(s.TrafficSplits, &splits[i])
	}
	for i := range profiles {
		profiles[i].Namespace, profiles[i].Spec.Service.Name = "n", name(i)
		s.ServiceProfiles = append(s.ServiceProfiles, &profiles[i])
	}
	for i := range policies {
		policies[i].Namespace = "n"
		s.MeshPolicies = append(s.MeshPolicies, &policies[i])
	}
	return s
}

func checkGarbage(t *testing.T, s *snapshot.Snapshot) {
	t.Helper()
	r, memo := CompileWith(s, nil)
	checkResult(t, r)
	again, _ := CompileWith(s, memo)
	if diff := cmp.Diff(outcomeOf(r), outcomeOf(again)); diff != "" {
		t.Errorf("the second time -before +after:\n%s", diff)
	}
}

func TestGarbageIsCompiled(t *testing.T) {
	seed := rand.Int64()
	for i := range int64(60) {
		f := randfill.NewWithSeed(seed+i).NilChance(0.3).NumElements(0, 4).MaxDepth(12)
		checkGarbage(t, garbage(f))
		if t.Failed() {
			t.Fatalf("seed %d", seed+i)
		}
	}
}

func FuzzCompile(f *testing.F) {
	f.Add([]byte("seed"))
	f.Fuzz(func(t *testing.T, data []byte) {
		checkGarbage(t, garbage(randfill.NewFromGoFuzz(data).NilChance(0.3).NumElements(0, 3).MaxDepth(10)))
	})
}
