// SPDX-License-Identifier: Apache-2.0

package v1alpha1

import (
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
)

func ptr[T any](v T) *T { return &v }

func TestFormatWeights(t *testing.T) {
	five := []SplitBackend{{Name: "a"}, {Name: "b"}, {Name: "c"}, {Name: "d"}, {Name: "e"}}
	for name, tc := range map[string]struct {
		backends []SplitBackend
		active   string
		want     string
	}{
		"no backend gives an empty cell":           {nil, "", ""},
		"an absent weight is shown as its default": {[]SplitBackend{{Name: "v1"}}, "", "v1 1"},
		"backends keep the order of the spec": {
			[]SplitBackend{{Name: "v2", Weight: ptr[int32](10)}, {Name: "v1", Weight: ptr[int32](90)}}, "", "v2 10, v1 90",
		},
		"a weight of zero is shown":             {[]SplitBackend{{Name: "v1", Weight: ptr[int32](0)}}, "", "v1 0"},
		"more than four backends are shortened": {five, "", "a 1, b 1, c 1, d 1, and 1 more"},
		"one that takes everything is named":    {five, "b", "b active"},
	} {
		t.Run(name, func(t *testing.T) {
			if got := FormatWeights(&TrafficSplitSpec{Backends: tc.backends, Active: tc.active}); got != tc.want {
				t.Errorf("got %q, want %q", got, tc.want)
			}
		})
	}
}

func TestPolicyTargetString(t *testing.T) {
	for want, target := range map[string]PolicyTarget{
		"Mesh":                  {Kind: TargetMesh},
		"Namespace":             {Kind: TargetNamespace},
		"Service/checkout:8080": {Kind: TargetService, Name: "checkout", Port: ptr[int32](8080)},
		"Workload/db-0":         {Kind: TargetWorkload, Name: "db-0"},
		"Workload(app=web)": {Kind: TargetWorkload, Selector: &metav1.LabelSelector{
			MatchLabels: map[string]string{"app": "web"},
		}},
	} {
		if got := target.String(); got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
}

func TestDurationParse(t *testing.T) {
	got, err := Duration("1m30s").Parse()
	if err != nil || got != 90*time.Second {
		t.Errorf("got %v, %v, want 1m30s", got, err)
	}
	if _, err := Duration("soon").Parse(); err == nil {
		t.Error("a string that is no duration parsed")
	}
}

func TestEffectiveValuesFillInTheDefaultsOfTheSchema(t *testing.T) {
	if got := (SplitWeight{}).EffectiveWeight(); got != 1 {
		t.Errorf("weight: got %d, want 1", got)
	}
	if got := (PathMatch{}).EffectiveType(); got != PathMatchPrefix {
		t.Errorf("path type: got %q, want Prefix", got)
	}
	if got := (PathMatch{Type: PathMatchRegex}).EffectiveType(); got != PathMatchRegex {
		t.Errorf("path type: got %q, want Regex", got)
	}
	if got := (HeaderMatch{}).EffectiveType(); got != HeaderMatchExact {
		t.Errorf("header type: got %q, want Exact", got)
	}
	if got := (HeaderMatch{Type: HeaderMatchRegex}).EffectiveType(); got != HeaderMatchRegex {
		t.Errorf("header type: got %q, want Regex", got)
	}
}

func TestAddToSchemeKnowsEveryKind(t *testing.T) {
	scheme := runtime.NewScheme()
	if err := AddToScheme(scheme); err != nil {
		t.Fatal(err)
	}
	for _, kind := range []string{KindTrafficSplit, KindServiceProfile, KindMeshPolicy} {
		for _, k := range []string{kind, kind + "List"} {
			if !scheme.Recognizes(GroupVersion.WithKind(k)) {
				t.Errorf("the scheme does not know %s", k)
			}
		}
	}
}
