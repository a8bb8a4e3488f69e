// SPDX-License-Identifier: Apache-2.0

package inject

import (
	"encoding/json"
	"errors"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"

	jsonpatch "github.com/evanphx/json-patch/v5"
	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/yaml"

	"github.com/heddle-mesh/heddle/internal/probe"
)

var update = flag.Bool("update", false, "rewrite the golden files")

func testConfig(t testing.TB) *Config {
	t.Helper()
	c := &Config{
		Image: "registry.example/heddle-proxy:v1", Version: "v1",
		ControlAddress: "heddle-operator.heddle-system.svc:8443", ControlServerName: "heddle-operator.heddle-system.svc",
		MeshID: "6f2ad1c8-0000-4000-8000-000000000000", TrustDomain: "cluster.local",
	}
	if err := c.Validate(); err != nil {
		t.Fatal(err)
	}
	return c
}

// podOf reads a pod, strictly. Unless the text has containers, one named app is added.
func podOf(t testing.TB, text string) *corev1.Pod {
	t.Helper()
	pod := &corev1.Pod{}
	if err := yaml.UnmarshalStrict([]byte(text), pod); err != nil {
		t.Fatalf("%v in\n%s", err, text)
	}
	if len(pod.Spec.Containers) == 0 {
		pod.Spec.Containers = []corev1.Container{{Name: "app", Image: "app"}}
	}
	return pod
}

// injected is the pod after a pass that must succeed. It checks what holds for every pass: the input is unchanged, the
// patch leads to the result, and a second pass changes nothing.
func injected(t testing.TB, pod *corev1.Pod) *corev1.Pod {
	t.Helper()
	c, before := testConfig(t), pod.DeepCopy()
	out, _, err := c.Inject(pod, nil)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(before, pod); diff != "" {
		t.Errorf("the pass changed its input: %s", diff)
	}
	if diff := cmp.Diff(canonical(t, out), applied(t, pod, out)); diff != "" {
		t.Errorf("the patch leads elsewhere: %s", diff)
	}
	again, _, err := c.Inject(out, nil)
	if err != nil {
		t.Fatalf("the second pass: %v", err)
	}
	if operations := patch(out, again); len(operations) != 0 {
		t.Errorf("the second pass has %d operations: %v", len(operations), operations)
	}
	return out
}

// applied is the pod after the patch, applied as the API server does.
func applied(t testing.TB, from, to *corev1.Pod) *corev1.Pod {
	t.Helper()
	operations, err := json.Marshal(patch(from, to))
	if err != nil {
		t.Fatal(err)
	}
	decoded, err := jsonpatch.DecodePatch(operations)
	if err != nil {
		t.Fatal(err)
	}
	original, err := json.Marshal(from)
	if err != nil {
		t.Fatal(err)
	}
	result, err := decoded.Apply(original)
	if err != nil {
		t.Fatalf("%v in %s", err, operations)
	}
	out := &corev1.Pod{}
	if err := json.Unmarshal(result, out); err != nil {
		t.Fatal(err)
	}
	return canonical(t, out)
}

// canonical is the pod as it comes back from JSON.
func canonical(t testing.TB, pod *corev1.Pod) *corev1.Pod {
	t.Helper()
	b, err := json.Marshal(pod)
	if err != nil {
		t.Fatal(err)
	}
	out := &corev1.Pod{}
	if err := json.Unmarshal(b, out); err != nil {
		t.Fatal(err)
	}
	return out
}

func container(t testing.TB, pod *corev1.Pod, name string) *corev1.Container {
	t.Helper()
	for c := range containers(pod) {
		if c.Name == name {
			return c
		}
	}
	t.Fatalf("no container %s", name)
	return nil
}

func probesOf(t testing.TB, pod *corev1.Pod) map[string]probe.Spec {
	t.Helper()
	specs, err := probe.Decode(env(container(t, pod, ContainerProxy), probe.EnvProbes))
	if err != nil {
		t.Fatal(err)
	}
	byName := map[string]probe.Spec{}
	for _, spec := range specs {
		byName[spec.Name] = spec
	}
	return byName
}

// refusedFor says that the pod is refused with a fault that has all the words.
func refusedFor(t *testing.T, pod *corev1.Pod, labels map[string]string, words ...string) {
	t.Helper()
	_, _, err := testConfig(t).Inject(pod, labels)
	refusal, ok := errors.AsType[*Refusal](err)
	if !ok {
		t.Fatalf("got %v: want a refusal with %q", err, words)
	}
	for _, fault := range refusal.Faults {
		all := true
		for _, word := range words {
			all = all && strings.Contains(fault, word)
		}
		if all {
			return
		}
	}
	t.Errorf("got %q: want one with %q", refusal.Faults, words)
}

func golden(t *testing.T, name string, got any) {
	t.Helper()
	text, err := yaml.Marshal(got)
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join("testdata", name)
	if *update {
		if err := os.WriteFile(file, text, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), string(text)); diff != "" {
		t.Errorf("%s differs (go test ./webhook/inject -update rewrites it): %s", file, diff)
	}
}
