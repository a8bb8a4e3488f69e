// SPDX-License-Identifier: Apache-2.0

package main

import (
	"strings"
	"testing"

	"github.com/operator-framework/api/pkg/manifests"
	"github.com/operator-framework/api/pkg/validation"
	validator "github.com/operator-framework/api/pkg/validation/interfaces"
)

// validators are those that `operator-sdk bundle validate` runs for OperatorHub. Left out is the one of multiple
// architectures, which calls docker.
var validators = validator.Validators{
	validation.ClusterServiceVersionValidator,
	validation.CustomResourceDefinitionValidator,
	validation.BundleValidator,
	validation.OperatorHubV2Validator,
	validation.StandardCapabilitiesValidator,
	validation.StandardCategoriesValidator,
	validation.ObjectValidator,
	validation.AlphaDeprecatedAPIsValidator,
	validation.GoodPracticesValidator,
}

// validate writes the bundle to a folder and returns what the validators find in it.
func validate(t *testing.T, files map[string][]byte) (errs, warnings []string) {
	t.Helper()
	dir := t.TempDir()
	if err := write(dir, files); err != nil {
		t.Fatal(err)
	}
	bundle, err := manifests.GetBundleFromDir(dir)
	if err != nil {
		return []string{err.Error()}, nil
	}
	objects := append(bundle.ObjectsToValidate(), bundle, map[string]string{"k8s-version": "1.37"})
	for _, result := range validators.Validate(objects...) {
		for _, e := range result.Errors {
			errs = append(errs, e.Error())
		}
		for _, e := range result.Warnings {
			warnings = append(warnings, e.Error())
		}
	}
	return errs, warnings
}

func TestOperatorFrameworkFindsNothing(t *testing.T) {
	files := generateAll(t, options{root: root, createdAt: "2026-01-31T12:00:00Z"})
	errs, warnings := validate(t, files)
	for _, e := range append(errs, warnings...) {
		t.Error(e)
	}
}

func TestOperatorFrameworkRefusesABrokenBundle(t *testing.T) {
	for name, c := range map[string]struct {
		old, new string // in the ClusterServiceVersion
		drop     string // file
		want     string
	}{
		"an owned CRD is missing":       {drop: "manifests/mesh.heddle.io_trafficsplits.yaml", want: "TrafficSplit"},
		"a CRD is not owned":            {old: "kind: TrafficSplit\n      name:", new: "kind: Divider\n      name:", want: "TrafficSplit"},
		"a capability that is no level": {old: "capabilities: Basic Install", new: "capabilities: Everything", want: "Everything"},
		"a category that nobody has":    {old: "categories: Networking", new: "categories: Weaving", want: "Weaving"},
		"an icon of a strange type":     {old: "image/svg+xml", new: "image/webp", want: "image/webp"},
		"a version that is none":        {old: "version: 0.1.0", new: "version: latest", want: "latest"},
		"no install mode":               {old: "- supported: true", new: "- supported: false", want: "none of InstallModeTypes"},
		"an example that is no JSON":    {old: `"kind": "MeshPolicy",`, new: `"kind": MeshPolicy,`, want: "invalid example"},
		"a maintainer without address":  {old: "email: maintainers@heddle.io", new: "email: nobody", want: "nobody"},
		"no ClusterServiceVersion":      {drop: csvFile, want: "csv"},
	} {
		t.Run(name, func(t *testing.T) {
			files := generateAll(t, options{root: root, version: "0.1.0"})
			delete(files, c.drop)
			if c.drop == "" {
				changed := strings.Replace(string(files[csvFile]), c.old, c.new, 1)
				if changed == string(files[csvFile]) {
					t.Fatalf("no %q to break", c.old)
				}
				files[csvFile] = []byte(changed)
			}
			errs, _ := validate(t, files)
			if !strings.Contains(strings.Join(errs, "\n"), c.want) {
				t.Errorf("errors %q, want one with %q", errs, c.want)
			}
		})
	}
}
