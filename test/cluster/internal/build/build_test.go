// SPDX-License-Identifier: Apache-2.0

package build

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/heddle-mesh/heddle/test/cluster/internal/home"
)

// sources makes a module with one program.
func sources(t *testing.T) (string, group) {
	t.Helper()
	root := t.TempDir()
	write(t, filepath.Join(root, "go.mod"), "module a")
	write(t, filepath.Join(root, "go.sum"), "")
	write(t, filepath.Join(root, "program", "main.go"), "package main")
	return root, group{name: "g", sources: []string{"program"}, outputs: map[string]string{"./program": "bin/program"}}
}

func write(t *testing.T, file, content string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
}

func TestStampTellsChanges(t *testing.T) {
	root, g := sources(t)
	stamp := func() string {
		t.Helper()
		s, err := g.stamp(root)
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	last := stamp()
	if stamp() != last {
		t.Error("the same sources gave two stamps")
	}
	write(t, filepath.Join(root, "program", "README.md"), "not compiled")
	if stamp() != last {
		t.Error("a file that is not compiled changed the stamp")
	}
	for _, c := range []struct {
		what   string
		change func()
	}{
		{"go.mod", func() { write(t, filepath.Join(root, "go.mod"), "module b") }},
		{"go.sum", func() { write(t, filepath.Join(root, "go.sum"), "x") }},
		{"a source file", func() { write(t, filepath.Join(root, "program", "main.go"), "package main // x") }},
		{"a new source file", func() { write(t, filepath.Join(root, "program", "more.go"), "package main") }},
		{"the tags", func() { g.tags = "x" }},
		{"the linker's flags", func() { g.ldflags = "x" }},
		{"the packages", func() { g.outputs["./other"] = "bin/other" }},
	} {
		c.change()
		next := stamp()
		if next == last {
			t.Errorf("the stamp does not tell that %s changed", c.what)
		}
		last = next
	}
}

func TestFresh(t *testing.T) {
	root, g := sources(t)
	stamp, err := g.stamp(root)
	if err != nil {
		t.Fatal(err)
	}
	h := home.Home(t.TempDir())
	if g.fresh(h, stamp) {
		t.Error("fresh before it was built")
	}
	write(t, g.stampFile(h), stamp)
	if g.fresh(h, stamp) {
		t.Error("fresh without its program")
	}
	write(t, h.Path("bin", "program"), "")
	if !g.fresh(h, stamp) {
		t.Error("not fresh though all is there")
	}
	if g.fresh(h, stamp+"x") {
		t.Error("fresh with another stamp")
	}
}

func TestBinary(t *testing.T) {
	for pkg, want := range map[string]string{
		"k8s.io/kubernetes/cmd/kubelet":               "kubelet",
		"go.etcd.io/etcd/server/v3":                   "server",
		"github.com/containerd/containerd/v2/cmd/ctr": "ctr",
		"./pause":                        "pause",
		"github.com/opencontainers/runc": "runc",
	} {
		if got := binary(pkg); got != want {
			t.Errorf("%s gives %s, want %s", pkg, got, want)
		}
	}
}
