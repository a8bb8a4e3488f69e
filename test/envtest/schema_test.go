// SPDX-License-Identifier: Apache-2.0

package envtest

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	"sigs.k8s.io/yaml"

	"github.com/heddle-mesh/heddle/api/v1alpha1"
)

func TestUnknownFieldsAreErrorsWhenApplied(t *testing.T) {
	for name, tc := range map[string]struct{ kind, spec, field string }{
		"match in place of matches": {
			v1alpha1.KindTrafficSplit,
			withRule(`{name: r, match: [], matches: [{method: GET}], weights: [{backend: v2}]}`), "spec.rules[0].match",
		},
		"the port of a profile's service, which belongs in ports": {v1alpha1.KindServiceProfile, `
service: {name: checkout, port: 80}
ports: [{port: 80, protocol: TCP}]`, "spec.service.port"},
		"Istio's portLevelMtls": {v1alpha1.KindMeshPolicy, `
targetRef: {kind: Mesh}
mtls: {mode: Strict, portLevelMtls: {}}`, "spec.mtls.portLevelMtls"},
	} {
		t.Run(name, func(t *testing.T) {
			err := tryCreate(t, object(t, tc.kind, "case", tc.spec))
			if want := fmt.Sprintf("unknown field %q", tc.field); err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("got %v, want %s", err, want)
			}
		})
	}
}

// schemaDefaults are all the defaults that the schemas set. OLM v1 refuses an
// upgrade that adds, changes or drops a default, so this list is closed.
var schemaDefaults = []string{
	`serviceprofiles spec.faults[].matches[].headers[].type = "Exact"`,
	`serviceprofiles spec.faults[].matches[].path.type = "Prefix"`,
	`serviceprofiles spec.faults[].matches[].query[].type = "Exact"`,
	`serviceprofiles spec.routes[].matches[].headers[].type = "Exact"`,
	`serviceprofiles spec.routes[].matches[].path.type = "Prefix"`,
	`serviceprofiles spec.routes[].matches[].query[].type = "Exact"`,
	`trafficsplits spec.backends[].weight = 1`,
	`trafficsplits spec.rules[].matches[].headers[].type = "Exact"`,
	`trafficsplits spec.rules[].matches[].path.type = "Prefix"`,
	`trafficsplits spec.rules[].matches[].query[].type = "Exact"`,
	`trafficsplits spec.rules[].weights[].weight = 1`,
}

func TestSchemaDefaultsAreTheReleasedOnes(t *testing.T) {
	var got []string
	walkSchemas(t, func(crd, path string, schema *apiextensionsv1.JSONSchemaProps) {
		if schema.Default != nil {
			got = append(got, fmt.Sprintf("%s %s = %s", crd, path, schema.Default.Raw))
		}
	})
	slices.Sort(got)
	if !slices.Equal(got, schemaDefaults) {
		t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(schemaDefaults, "\n"))
	}
}

func TestEveryFieldIsDescribed(t *testing.T) {
	walkSchemas(t, func(crd, path string, schema *apiextensionsv1.JSONSchemaProps) {
		if schema.Description == "" && path != "metadata" && !strings.HasSuffix(path, "[]") {
			t.Errorf("%s: `kubectl explain` has nothing to say about %s", crd, path)
		}
	})
}

func TestEveryStringAndListIsBounded(t *testing.T) {
	walkSchemas(t, func(crd, path string, schema *apiextensionsv1.JSONSchemaProps) {
		// LabelSelector and Condition are Kubernetes' own types.
		if !strings.HasPrefix(path, "spec.") && !strings.HasPrefix(path, "status.") ||
			strings.Contains(path, "targetRef.selector.") || strings.Contains(path, "conditions[].") {
			return
		}
		switch {
		case schema.Type == "string" && schema.MaxLength == nil && schema.Enum == nil && schema.Format != "date-time":
			t.Errorf("%s: the string %s has no maximal length", crd, path)
		case schema.Type == "array" && schema.MaxItems == nil:
			t.Errorf("%s: the list %s has no maximal length", crd, path)
		case schema.Type == "array" && strings.HasPrefix(path, "spec.") && schema.MinItems == nil:
			t.Errorf("%s: the list %s may be empty, which reads as everything and as nothing", crd, path)
		case schema.Type == "array" && schema.XListType == nil:
			t.Errorf("%s: the list %s has no listType, so that appliers fight over it", crd, path)
		case schema.Type == "number":
			t.Errorf("%s: %s is a float", crd, path)
		}
	})
}

// walkSchemas calls visit for every field of every CRD.
func walkSchemas(t *testing.T, visit func(crd, path string, schema *apiextensionsv1.JSONSchemaProps)) {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(crdDir, "*.yaml"))
	if err != nil || len(files) != 3 {
		t.Fatalf("found %v, %v, want three CRDs", files, err)
	}
	for _, file := range files {
		data, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		var crd apiextensionsv1.CustomResourceDefinition
		if err := yaml.UnmarshalStrict(data, &crd); err != nil {
			t.Fatalf("%s: %v", file, err)
		}
		for _, version := range crd.Spec.Versions {
			walk("", version.Schema.OpenAPIV3Schema, func(path string, schema *apiextensionsv1.JSONSchemaProps) {
				visit(crd.Spec.Names.Plural, path, schema)
			})
		}
	}
}

func walk(path string, schema *apiextensionsv1.JSONSchemaProps, visit func(string, *apiextensionsv1.JSONSchemaProps)) {
	if path != "" {
		visit(path, schema)
	}
	for name, property := range schema.Properties {
		walk(strings.TrimPrefix(path+"."+name, "."), &property, visit)
	}
	if schema.Items != nil {
		walk(path+"[]", schema.Items.Schema, visit)
	}
}
