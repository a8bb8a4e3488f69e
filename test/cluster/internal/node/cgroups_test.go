// SPDX-License-Identifier: Apache-2.0

package node

import (
	"os"
	"path/filepath"
	"testing"
)

func TestHierarchy(t *testing.T) {
	for _, c := range []struct{ controllers, folder, options string }{
		{"memory", "memory", "memory"},
		{"cpu,cpuacct", "cpu,cpuacct", "cpu,cpuacct"},
		{"name=systemd", "systemd", "none,name=systemd"},
	} {
		h := hierarchy{c.controllers, "/"}
		if h.folder() != c.folder || h.options() != c.options {
			t.Errorf("%s: folder %q, options %q", c.controllers, h.folder(), h.options())
		}
	}
	if h := (hierarchy{"cpu,cpuacct", "/"}); !h.has("cpu") || h.has("cp") {
		t.Error("cpu,cpuacct has not cpu, or has cp")
	}
}

func TestUsable(t *testing.T) {
	for controllers, want := range map[string]bool{
		"cpuset cpu io memory hugetlb pids": true,
		"cpuset cpu io pids":                false,
		"":                                  false,
	} {
		dir := t.TempDir()
		if err := os.WriteFile(filepath.Join(dir, "cgroup.controllers"), []byte(controllers+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := usable(dir); (err == nil) != want {
			t.Errorf("controllers %q: %v", controllers, err)
		}
	}
}

func TestRemove(t *testing.T) {
	top := filepath.Join(t.TempDir(), "heddle")
	if err := os.MkdirAll(filepath.Join(top, "kubepods", "pod"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := Remove([]string{top, filepath.Join(top, "never-was")}); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(top); !os.IsNotExist(err) {
		t.Errorf("it is still there: %v", err)
	}
}

func TestWriteFiles(t *testing.T) {
	h := supervise(t, nil)
	if err := writeFiles(h, "/heddle-test"); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"cni/10-heddle.conflist", "containerd.toml", "kubelet.yaml", "proxy.yaml"} {
		if info, err := os.Stat(filepath.Join(h.Run(), name)); err != nil || info.Size() == 0 {
			t.Errorf("%s: %v", name, err)
		}
	}
}
