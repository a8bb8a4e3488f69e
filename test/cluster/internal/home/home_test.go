// SPDX-License-Identifier: Apache-2.0

package home

import (
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

var (
	requirement = regexp.MustCompile(`(?m)^\t(\S+) (v\S+)`)
	replacement = regexp.MustCompile(`(?m)^\t(\S+) => \S+ (v\S+)`)
)

// modules are the versions that a go.mod below test/cluster comes to.
func modules(t *testing.T, folder string) map[string]string {
	t.Helper()
	data, err := os.ReadFile(filepath.Join("..", "..", folder, "go.mod"))
	if err != nil {
		t.Fatal(err)
	}
	versions := map[string]string{}
	for _, expression := range []*regexp.Regexp{requirement, replacement} {
		for _, m := range expression.FindAllStringSubmatch(string(data), -1) {
			versions[m[1]] = m[2]
		}
	}
	return versions
}

func TestVersions(t *testing.T) {
	if got := modules(t, ".")["k8s.io/kubernetes"]; got != KubernetesVersion {
		t.Errorf("go.mod has Kubernetes %s, the code %s", got, KubernetesVersion)
	}
	if got := modules(t, "certmanager")["github.com/cert-manager/cert-manager"]; got != CertManagerVersion {
		t.Errorf("certmanager/go.mod has cert-manager %s, the code %s", got, CertManagerVersion)
	}
}

// Packages of equal versions are built once for both modules; others double much of the build's ten minutes.
func TestModulesShareVersions(t *testing.T) {
	ours := modules(t, ".")
	for module, version := range modules(t, "certmanager") {
		if own, both := ours[module]; both && own != version {
			t.Errorf("%s is %s in go.mod and %s in certmanager/go.mod", module, own, version)
		}
	}
}

func TestEnviron(t *testing.T) {
	t.Setenv("KUBECONFIG", "/elsewhere")
	t.Setenv("https_proxy", "http://proxy")
	env := Home("/h").Environ()
	var names []string
	for _, v := range env {
		name, _, _ := strings.Cut(v, "=")
		names = append(names, name)
	}
	slices.Sort(names)
	if unique := slices.Compact(slices.Clone(names)); len(unique) != len(names) {
		t.Errorf("a name is there twice: %q", names)
	}
	if !slices.Contains(env, "KUBECONFIG=/h/pki/admin.conf") || slices.Contains(names, "https_proxy") {
		t.Errorf("environment is %q", env)
	}
}

func TestOpen(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "new")
	t.Setenv(Variable, dir)
	h, err := Open()
	if err != nil || string(h) != dir {
		t.Fatalf("Open: %q, %v", h, err)
	}
	unlock, err := h.Lock(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	unlock()
	again, err := h.Lock(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	again()
}
