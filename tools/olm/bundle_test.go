// SPDX-License-Identifier: Apache-2.0

package main

import (
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"sigs.k8s.io/yaml"
)

const root = "../.."

func generateAll(t *testing.T, o options) map[string][]byte {
	t.Helper()
	files, err := generate(o)
	if err != nil {
		t.Fatal(err)
	}
	return files
}

// load returns the object in a file of the bundle.
func load(t *testing.T, files map[string][]byte, name string) object {
	t.Helper()
	var o object
	if err := yaml.Unmarshal(files[name], &o); err != nil || o == nil {
		t.Fatalf("%s: %v, %v", name, o, err)
	}
	return o
}

const csvFile = "manifests/heddle.clusterserviceversion.yaml"

func TestSameInputGivesTheSameBytes(t *testing.T) {
	first, second := generateAll(t, options{root: root}), generateAll(t, options{root: root})
	if !maps.EqualFunc(first, second, slices.Equal) {
		t.Error("two runs differ")
	}
}

func TestWriteLeavesNothingOfAnOlderBundle(t *testing.T) {
	dir := t.TempDir()
	old := filepath.Join(dir, "manifests", "old.yaml")
	if err := os.MkdirAll(filepath.Dir(old), 0o755); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{old, filepath.Join(dir, "OWNERS")} {
		if err := os.WriteFile(name, []byte("x"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := write(dir, map[string][]byte{"manifests/new.yaml": []byte("y")}); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(old); !os.IsNotExist(err) {
		t.Errorf("the old manifest is still there: %v", err)
	}
	if _, err := os.Stat(filepath.Join(dir, "OWNERS")); err != nil {
		t.Errorf("a file beside the bundle's folders is gone: %v", err)
	}
}

// Bundle and config/olm together are config/default: an install by OLM lacks nothing and nothing has two owners.
func TestBundleAndOverlayAreTheWholeInstall(t *testing.T) {
	all, err := render(filepath.Join(root, "config/default"))
	if err != nil {
		t.Fatal(err)
	}
	beside, err := render(filepath.Join(root, "config/olm"))
	if err != nil {
		t.Fatal(err)
	}
	c, err := divide(all, beside)
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]int{}
	for _, o := range slices.Concat(beside, c.crds, c.deployments, c.manifests) {
		got[o.id()]++
	}
	for _, p := range c.permissions { // each stands for an account, a role and its binding
		got["ServiceAccount "+p.ServiceAccountName]++
		got["ClusterRole heddle-operator"]++
		got["ClusterRoleBinding heddle-operator"]++
	}
	want := map[string]int{}
	for _, o := range all {
		want[o.id()]++
	}
	if !maps.Equal(got, want) {
		t.Errorf("got  %v\nwant %v", got, want)
	}
	kinds := map[string]bool{}
	for _, o := range beside {
		kinds[o.kind()] = true
	}
	wantKinds := []string{"Certificate", "Issuer", "MutatingWebhookConfiguration", "Namespace", "NetworkPolicy", "ValidatingWebhookConfiguration"}
	if gotKinds := slices.Sorted(maps.Keys(kinds)); !slices.Equal(gotKinds, wantKinds) {
		t.Errorf("config/olm holds %v, want what a bundle cannot: %v", gotKinds, wantKinds)
	}
}

// OLM makes ClusterRoles of `permissions`, since the operator watches all namespaces.
func TestTheRightToReadSecretsStaysInOneNamespace(t *testing.T) {
	files := generateAll(t, options{root: root})
	csv := load(t, files, csvFile)
	install := at[map[string]any](csv, "spec", "install", "spec")
	if _, ok := install["permissions"]; ok {
		t.Error("the ClusterServiceVersion has permissions")
	}
	for _, p := range list(install, "clusterPermissions") {
		for _, rule := range list(p, "rules") {
			for _, r := range at[[]any](rule, "resources") {
				if r == "secrets" || r == "*" {
					t.Errorf("a rule for the whole cluster: %v", rule)
				}
			}
		}
	}
	role := load(t, files, "manifests/heddle-operator_rbac.authorization.k8s.io_v1_role.yaml")
	if !strings.Contains(string(files["manifests/heddle-operator_rbac.authorization.k8s.io_v1_role.yaml"]), "- secrets") {
		t.Errorf("the Role has no rule for secrets: %v", role)
	}
	binding := load(t, files, "manifests/heddle-operator_rbac.authorization.k8s.io_v1_rolebinding.yaml")
	if subjects := list(binding, "subjects"); len(subjects) != 1 || subjects[0]["namespace"] != "heddle-system" {
		t.Errorf("subjects %v: want the operator's account in heddle-system", subjects)
	}
}

func TestClusterServiceVersionSaysWhatConfigSays(t *testing.T) {
	files := generateAll(t, options{root: root, version: "1.2.3-rc.1", createdAt: "2026-01-31T12:00:00Z"})
	csv := load(t, files, csvFile)
	deployments := list(csv, "spec", "install", "spec", "deployments")
	if len(deployments) != 1 {
		t.Fatalf("%d deployments, want 1", len(deployments))
	}
	container := list(deployments[0], "spec", "template", "spec", "containers")[0]
	for _, c := range []struct {
		what      string
		got, want any
	}{
		{"name", csv.name(), "heddle.v1.2.3-rc.1"},
		{"version", at[string](csv, "spec", "version"), "1.2.3-rc.1"},
		{"createdAt", at[string](csv, "metadata", "annotations", "createdAt"), "2026-01-31T12:00:00Z"},
		{"suggested namespace", at[string](csv, "metadata", "annotations", "operatorframework.io/suggested-namespace"), "heddle-system"},
		{"image", at[string](csv, "metadata", "annotations", "containerImage"), container["image"]},
		{"first related image", list(csv, "spec", "relatedImages")[0]["image"], container["image"]},
		{"related images", len(list(csv, "spec", "relatedImages")), 2},
		{"owned kinds", len(list(csv, "spec", "customresourcedefinitions", "owned")), 3},
	} {
		if c.got != c.want {
			t.Errorf("%s: %v, want %v", c.what, c.got, c.want)
		}
	}
	for _, crd := range list(csv, "spec", "customresourcedefinitions", "owned") {
		for _, field := range []string{"displayName", "description", "version", "resources", "specDescriptors", "statusDescriptors"} {
			if crd[field] == nil || crd[field] == "" {
				t.Errorf("%s has no %s", crd["kind"], field)
			}
		}
	}
}

func TestImageLabelsAreTheAnnotations(t *testing.T) {
	files := generateAll(t, options{root: root})
	labels := map[string]any{}
	for line := range strings.Lines(string(files["bundle.Dockerfile"])) {
		if label, ok := strings.CutPrefix(strings.TrimSpace(line), "LABEL "); ok {
			key, value, _ := strings.Cut(label, "=")
			labels[key] = value
		}
	}
	want := at[map[string]any](load(t, files, "metadata/annotations.yaml"), "annotations")
	if len(want) == 0 || !maps.Equal(labels, want) {
		t.Errorf("labels %v, annotations %v", labels, want)
	}
}

func TestConfigThatNoBundleCanHold(t *testing.T) {
	const manager = "config/manager/kustomization.yaml"
	for name, c := range map[string]struct {
		file, old, new string // a replacement in config/; old empty: new is appended
		version        string
		want           string
	}{
		"a kind that is in neither": {
			file: "config/olm/kustomization.yaml", old: "|Deployment|", new: "|Deployment|NetworkPolicy|", want: "NetworkPolicy heddle-operator: a bundle cannot hold",
		},
		"the Deployment in config/olm": {
			file: "config/olm/kustomization.yaml", old: "|Deployment|", new: "|", want: "no Deployment",
		},
		"an object in config/olm that is not in config/default": {
			file: "config/olm/kustomization.yaml", old: "patches:", new: "configMapGenerator:\n- name: extra\n  literals: [a=b]\n  options: {disableNameSuffixHash: true}\npatches:",
			want: "ConfigMap extra: in config/olm, but not in config/default",
		},
		"a ClusterRole for somebody else": {
			file: "config/rbac/role_binding.yaml", old: "- kind: ServiceAccount\n  name: heddle-operator", new: "- kind: ServiceAccount\n  name: somebody",
			want: "subject somebody",
		},
		"a kind without a sample": {
			file: "config/samples/kustomization.yaml", old: strings.Join([]string{
				"- mesh_v1alpha1_serviceprofile.yaml", "- mesh_v1alpha1_serviceprofile_faults.yaml", "- mesh_v1alpha1_serviceprofile_filters.yaml",
				"- mesh_v1alpha1_serviceprofile_matches.yaml", "- mesh_v1alpha1_serviceprofile_resilience.yaml",
				"- mesh_v1alpha1_serviceprofile_retries.yaml", "- mesh_v1alpha1_serviceprofile_sharded.yaml\n",
			}, "\n"), new: "", want: "no ServiceProfile",
		},
		"a kustomization that does not build": {file: manager, new: "\n- missing.yaml", want: "config/default"},
		"a version that is none":              {file: manager, new: "\n", version: "v1", want: `version "v1"`},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			if err := os.CopyFS(filepath.Join(dir, "config"), os.DirFS(filepath.Join(root, "config"))); err != nil {
				t.Fatal(err)
			}
			b, err := os.ReadFile(filepath.Join(dir, c.file))
			if err != nil {
				t.Fatal(err)
			}
			changed := strings.Replace(string(b), c.old, c.new, 1)
			if c.old == "" {
				changed = string(b) + c.new
			}
			if changed == string(b) {
				t.Fatalf("%s has no %q", c.file, c.old)
			}
			if err := os.WriteFile(filepath.Join(dir, c.file), []byte(changed), 0o600); err != nil {
				t.Fatal(err)
			}
			version := c.version
			if version == "" {
				version = "0.1.0"
			}
			if _, err := generate(options{root: dir, version: version}); err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("error %v, want one with %q", err, c.want)
			}
		})
	}
}

func TestTitle(t *testing.T) {
	for name, want := range map[string]string{"TrafficSplit": "Traffic Split", "observedGeneration": "Observed Generation", "mtls": "mTLS", "ports": "Ports"} {
		if got := title(name); got != want {
			t.Errorf("%s: %q, want %q", name, got, want)
		}
	}
}
