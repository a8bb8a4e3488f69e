// SPDX-License-Identifier: Apache-2.0

package envtest

import (
	"testing"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"sigs.k8s.io/yaml"

	"github.com/heddle-mesh/heddle/api/v1alpha1"
)

func TestTheServerFillsInTheDefaultsThatTheGoTypesKnow(t *testing.T) {
	obj := object(t, v1alpha1.KindTrafficSplit, "case", withMatch(`{path: {value: /a}, headers: [{name: a, value: b}]}`))
	if err := tryCreate(t, obj); err != nil {
		t.Fatal(err)
	}
	var split v1alpha1.TrafficSplit
	if err := runtime.DefaultUnstructuredConverter.FromUnstructured(obj.Object, &split); err != nil {
		t.Fatal(err)
	}
	rule := split.Spec.Rules[0]
	match := rule.Matches[0]
	if w := split.Spec.Backends[0].Weight; w == nil || *w != v1alpha1.DefaultWeight {
		t.Errorf("backends[0].weight: got %v, want %d", w, v1alpha1.DefaultWeight)
	}
	if w := rule.Weights[0].Weight; w == nil || *w != v1alpha1.DefaultWeight {
		t.Errorf("rules[0].weights[0].weight: got %v, want %d", w, v1alpha1.DefaultWeight)
	}
	if match.Path.Type != v1alpha1.DefaultPathMatchType {
		t.Errorf("path.type: got %q, want %q", match.Path.Type, v1alpha1.DefaultPathMatchType)
	}
	if match.Headers[0].Type != v1alpha1.DefaultHeaderMatchType {
		t.Errorf("headers[0].type: got %q, want %q", match.Headers[0].Type, v1alpha1.DefaultHeaderMatchType)
	}
}

// A tool that compares the cluster with Git must find what it applied: no list in
// another order, no value in another form.
func TestTheServerKeepsListsAndValuesAsTheyWereWritten(t *testing.T) {
	const spec = `
service: {name: checkout}
ports: [{port: 443, protocol: TLS}, {port: 80, protocol: HTTP1}]
routes:
- name: z
  matches: [{headers: [{name: X-B, value: b, type: Exact}, {name: x-a, value: a, type: Exact}]}]
  timeouts: {request: 60s}
- name: a
  timeouts: {request: 0.5h}`
	obj := object(t, v1alpha1.KindServiceProfile, "case", spec)
	want := toYAML(t, obj)
	if err := tryCreate(t, obj); err != nil {
		t.Fatal(err)
	}
	if got := toYAML(t, obj); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}

func toYAML(t *testing.T, obj *unstructured.Unstructured) string {
	t.Helper()
	out, err := yaml.Marshal(obj.Object["spec"])
	if err != nil {
		t.Fatal(err)
	}
	return string(out)
}
