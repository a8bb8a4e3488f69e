// SPDX-License-Identifier: Apache-2.0

package envtest

import (
	"bytes"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/validation/field"
	utilyaml "k8s.io/apimachinery/pkg/util/yaml"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/yaml"

	"github.com/heddle-mesh/heddle/api/v1alpha1"
	"github.com/heddle-mesh/heddle/internal/compile"
)

const (
	samplesDir = "../../config/samples"
	specDir    = "../../docs/spec/v1alpha1"
)

// What users copy must be taken by the server, and must not need a default to be
// read: a sample that a real create refuses would rot unseen.
func TestSamplesAreAccepted(t *testing.T) {
	namespace := newNamespace(t)
	kinds := map[string]int{}
	for _, file := range sampleFiles(t) {
		for _, obj := range decode(t, readFile(t, filepath.Join(samplesDir, file))) {
			kinds[obj.GetKind()]++
			for _, err := range judged(t, obj) {
				t.Errorf("%s: the operator would refuse: %v", file, err)
			}
			// All go to one namespace, so that two of one name are seen.
			obj.SetNamespace(namespace)
			if err := api.Create(t.Context(), obj, client.FieldValidation("Strict")); err != nil {
				t.Errorf("%s: %v", file, err)
			}
		}
	}
	for _, kind := range []string{v1alpha1.KindTrafficSplit, v1alpha1.KindServiceProfile, v1alpha1.KindMeshPolicy} {
		if kinds[kind] == 0 {
			t.Errorf("no sample shows a %s", kind)
		}
	}
}

// judged is what the operator's own rules find wrong with an object, beyond what the schema says.
func judged(t *testing.T, obj *unstructured.Unstructured) field.ErrorList {
	t.Helper()
	switch kind := obj.GetKind(); kind {
	case v1alpha1.KindTrafficSplit:
		return compile.ValidateTrafficSplit(typed[v1alpha1.TrafficSplit](t, obj))
	case v1alpha1.KindServiceProfile:
		return compile.ValidateServiceProfile(typed[v1alpha1.ServiceProfile](t, obj))
	case v1alpha1.KindMeshPolicy:
		return compile.ValidateMeshPolicy(typed[v1alpha1.MeshPolicy](t, obj), "heddle-system")
	default:
		t.Errorf("%s %s is of no kind of ours", kind, obj.GetName())
		return nil
	}
}

func typed[T any](t *testing.T, obj *unstructured.Unstructured) *T {
	t.Helper()
	out := new(T)
	if err := runtime.DefaultUnstructuredConverter.FromUnstructuredWithValidation(obj.Object, out, true); err != nil {
		t.Fatalf("%s %s: %v", obj.GetKind(), obj.GetName(), err)
	}
	return out
}

func TestEverySampleIsInTheKustomization(t *testing.T) {
	var k struct {
		Resources []string `json:"resources"`
	}
	if err := yaml.Unmarshal(readFile(t, filepath.Join(samplesDir, "kustomization.yaml")), &k); err != nil {
		t.Fatal(err)
	}
	if files := sampleFiles(t); !slices.Equal(k.Resources, files) {
		t.Errorf("the kustomization lists %v, the directory holds %v", k.Resources, files)
	}
}

// A field without an example is one that users meet for the first time when they need it.
func TestEveryFieldHasASample(t *testing.T) {
	shown := map[string]bool{}
	for _, file := range sampleFiles(t) {
		for _, obj := range decode(t, readFile(t, filepath.Join(samplesDir, file))) {
			fieldsOf(obj.GetKind()+" spec", obj.Object["spec"], shown)
		}
	}
	kinds := map[string]string{
		"trafficsplits": v1alpha1.KindTrafficSplit, "serviceprofiles": v1alpha1.KindServiceProfile, "meshpolicies": v1alpha1.KindMeshPolicy,
	}
	walkSchemas(t, func(crd, path string, _ *apiextensionsv1.JSONSchemaProps) {
		if strings.HasPrefix(path, "spec") && !strings.Contains(path, "targetRef.selector.") && !shown[kinds[crd]+" "+path] {
			t.Errorf("no sample of %s shows %s", kinds[crd], path)
		}
	})
}

// fieldsOf adds the paths of all that a value holds, in the form of walkSchemas.
func fieldsOf(path string, value any, into map[string]bool) {
	into[path] = true
	switch value := value.(type) {
	case map[string]any:
		for name, field := range value {
			fieldsOf(path+"."+name, field, into)
		}
	case []any:
		for _, element := range value {
			fieldsOf(path+"[]", element, into)
		}
	}
}

// The examples of the README and of the pages on use are what users copy most.
func TestExamplesOfTheDocsAreAccepted(t *testing.T) {
	pages, err := fs.Glob(os.DirFS(specDir), "*.md")
	if err != nil || len(pages) < 3 {
		t.Fatalf("found %v, %v, want a page for each kind", pages, err)
	}
	for _, page := range append(pages, "../../install.md", "../../../README.md") {
		examples := 0
		for _, block := range yamlBlocks(string(readFile(t, filepath.Join(specDir, page)))) {
			// A block without a kind is a fragment that shows a few fields.
			if !strings.Contains(block, "\nkind: ") {
				continue
			}
			for _, obj := range decode(t, []byte(block)) {
				examples++
				for _, err := range judged(t, obj) {
					t.Errorf("%s, %s %s: the operator would refuse: %v", page, obj.GetKind(), obj.GetName(), err)
				}
				obj.SetNamespace("default")
				if err := tryCreate(t, obj); err != nil {
					t.Errorf("%s, %s %s: %v", page, obj.GetKind(), obj.GetName(), err)
				}
			}
		}
		if examples == 0 {
			t.Errorf("%s has no example", page)
		}
	}
}

func sampleFiles(t *testing.T) []string {
	t.Helper()
	files, err := fs.Glob(os.DirFS(samplesDir), "*.yaml")
	if err != nil {
		t.Fatal(err)
	}
	return slices.DeleteFunc(files, func(f string) bool { return f == "kustomization.yaml" })
}

func readFile(t *testing.T, path string) []byte {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func decode(t *testing.T, data []byte) []*unstructured.Unstructured {
	t.Helper()
	var objs []*unstructured.Unstructured
	decoder := utilyaml.NewYAMLOrJSONDecoder(bytes.NewReader(data), 4096)
	for {
		obj := &unstructured.Unstructured{}
		err := decoder.Decode(obj)
		if errors.Is(err, io.EOF) {
			return objs
		}
		if err != nil {
			t.Fatal(err)
		}
		objs = append(objs, obj)
	}
}

// yamlBlocks are the fenced blocks of a Markdown page that are marked as YAML.
func yamlBlocks(page string) []string {
	var blocks []string
	for _, part := range strings.Split(page, "```yaml\n")[1:] {
		block, _, _ := strings.Cut(part, "```")
		blocks = append(blocks, block)
	}
	return blocks
}

// A field that is not in the tables of its page does not exist for most users.
func TestSpecPagesNameEveryField(t *testing.T) {
	pages := map[string]string{}
	for _, kind := range []string{"trafficsplit", "serviceprofile", "meshpolicy", "matches"} {
		pages[kind] = string(readFile(t, filepath.Join(specDir, kind+".md")))
	}
	plural := map[string]string{"trafficsplits": "trafficsplit", "serviceprofiles": "serviceprofile", "meshpolicies": "meshpolicy"}
	walkSchemas(t, func(crd, path string, _ *apiextensionsv1.JSONSchemaProps) {
		if !strings.HasPrefix(path, "spec.") && !strings.HasPrefix(path, "status.") ||
			strings.Contains(path, "targetRef.selector.") || strings.Contains(path, "conditions[]") {
			return
		}
		page, path := tableOf(plural[crd], strings.TrimSuffix(path, "[]"))
		if !strings.Contains(pages[page], "`"+path+"`") {
			t.Errorf("%s.md does not name %s", page, path)
		}
	})
}

// tableOf says which page has the row of a field, and under which name, where one table serves several places.
func tableOf(page, path string) (string, string) {
	if _, below, ok := strings.Cut(path, ".matches[]."); ok {
		return "matches", "matches[]." + below
	}
	switch {
	case page == "meshpolicy" && (strings.HasPrefix(path, "spec.loadBalancing.") || strings.HasPrefix(path, "spec.outlierDetection.")):
		return "serviceprofile", path
	case strings.HasPrefix(path, "spec.rateLimits[].from[].") || strings.HasPrefix(path, "spec.rateLimits[].to[]."):
		return page, strings.Replace(path, "spec.rateLimits[]", "spec.authorization.rules[]", 1)
	case strings.HasPrefix(path, "spec.routes[].filters.responseHeaders."):
		return page, strings.Replace(path, "responseHeaders", "requestHeaders", 1)
	case strings.HasPrefix(path, "spec.routes[].filters.redirect.path."):
		return page, strings.Replace(path, "redirect", "rewrite", 1)
	default:
		return page, path
	}
}

// Users meet conditions and reasons in `kubectl get -o wide`, and look them up.
func TestSpecPagesNameEveryReason(t *testing.T) {
	reasons := []string{
		v1alpha1.ReasonAccepted, v1alpha1.ReasonInvalid, v1alpha1.ReasonPending, v1alpha1.ReasonResolvedRefs,
		v1alpha1.ReasonServiceNotFound, v1alpha1.ReasonPortNotFound, v1alpha1.ReasonProtocolMismatch,
		v1alpha1.ReasonNoConflict, v1alpha1.ReasonConflicted, v1alpha1.ReasonProgrammed, v1alpha1.ReasonNoSubscribers,
		v1alpha1.ReasonNacked, v1alpha1.ReasonNotPublished, v1alpha1.ReasonNotInForce, v1alpha1.ReasonReady,
	}
	more := map[string][]string{
		"trafficsplit":   {v1alpha1.ReasonBackendNotFound},
		"serviceprofile": nil,
		"meshpolicy":     {v1alpha1.ReasonNotPermitted, v1alpha1.ReasonWorkloadNotFound},
	}
	for kind, own := range more {
		page := string(readFile(t, filepath.Join(specDir, kind+".md")))
		for _, reason := range append(slices.Clone(reasons), own...) {
			if !strings.Contains(page, "`"+reason+"`") {
				t.Errorf("%s.md does not name the reason %s", kind, reason)
			}
		}
	}
}
