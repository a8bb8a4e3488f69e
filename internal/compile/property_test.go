// SPDX-License-Identifier: Apache-2.0

package compile

import (
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/testing/protocmp"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
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
	Good     []Origin
	Address  map[string]string
}

func outcomeOf(r *Result) outcome {
	o := outcome{Sections: map[meshconfig.Name]string{}, Findings: r.Findings, Shaped: r.Shaped, Effects: r.Effects, LastGood: r.LastGood, Good: r.Good, Address: map[string]string{}}
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

// keepAll remembers the good specs of a result, as the leader does; those of other objects of the name are gone.
func (w *world) keepAll(r *Result) {
	for _, f := range r.Findings {
		key := snapshot.ObjectKey{Kind: f.Origin.Kind, Namespace: f.Origin.Namespace, Name: f.Origin.Name}
		if old := w.lastGood[key]; old != nil && old.UID != f.Origin.UID {
			delete(w.lastGood, key)
		}
	}
	for _, o := range r.Good {
		good := &snapshot.LastGood{UID: o.UID, Generation: o.Generation}
		switch key := o.Namespace + "/" + o.Name; o.Kind {
		case v1alpha1.KindTrafficSplit:
			good.TrafficSplit = &w.splits[key].Spec
		case v1alpha1.KindServiceProfile:
			good.ServiceProfile = &w.profiles[key].Spec
		case v1alpha1.KindMeshPolicy:
			good.MeshPolicy = &w.policies[key].Spec
		}
		w.lastGood[snapshot.ObjectKey{Kind: o.Kind, Namespace: o.Namespace, Name: o.Name}] = good
	}
}

// What is in force stays so whatever others do, and that it is remembered changes nothing.
func TestWhatIsInForceStaysSo(t *testing.T) {
	seed := rand.Uint64()
	for run := range uint64(2) {
		w := newWorld(seed + run)
		w.keeps = false
		good := map[Origin]bool{}
		for step := range 120 {
			w.edit()
			r := Compile(w.snapshot())
			for _, f := range r.Findings {
				covered := strings.Contains(f.Message, "each port of Service")
				if f.Condition == v1alpha1.ConditionConflicted && f.Origin.Kind != v1alpha1.KindMeshPolicy && good[f.Origin] && f.Status != metav1.ConditionFalse && !covered {
					t.Errorf("was in force and has not changed: %s", f.Message)
				}
			}
			w.keepAll(r)
			again := Compile(w.snapshot())
			for name, section := range r.Sections {
				if diff := cmp.Diff(section, again.Sections[name], protocmp.Transform()); diff != "" {
					t.Errorf("section %s -before +after the last good specs were kept:\n%s", name, diff)
				}
			}
			good = map[Origin]bool{}
			for _, o := range r.Good {
				good[o] = true
			}
			if t.Failed() {
				t.Fatalf("seed %d, step %d", seed+run, step)
			}
		}
	}
}
