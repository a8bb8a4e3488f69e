// SPDX-License-Identifier: Apache-2.0

package arch

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

const root = "../.."

func TestNoFenceIsCrossed(t *testing.T) {
	graph, err := Load(t.Context(), root)
	if err != nil {
		t.Fatal(err)
	}
	for _, fence := range Fences {
		for _, err := range fence.Check(graph) {
			t.Error(err)
		}
	}
}

func TestEachFenceFailsWhenCrossed(t *testing.T) {
	for _, fence := range Fences {
		for _, from := range fence.From {
			for _, never := range fence.Never {
				graph := Graph{}
				for _, f := range fence.From {
					graph[strings.TrimSuffix(f, "/...")] = []string{"fmt"}
				}
				if errs := fence.Check(graph); len(errs) > 0 {
					t.Errorf("%s: fails uncrossed: %v", fence.Name, errs)
				}
				pkg := strings.TrimSuffix(from, "/...")
				graph[pkg] = append(graph[pkg], never+"/deep")
				if errs := fence.Check(graph); len(errs) == 0 {
					t.Errorf("%s: %s may depend on %s", fence.Name, pkg, never)
				}
			}
		}
	}
	if errs := Fences[0].Check(Graph{Module + "/other": nil}); len(errs) == 0 {
		t.Error("a fence around nothing passes")
	}
}

// Go's own fence: what is below internal/ cannot be imported from another module.
func TestInternalIsClosedToOthers(t *testing.T) {
	dir := t.TempDir()
	abs, err := filepath.Abs(root)
	if err != nil {
		t.Fatal(err)
	}
	write(t, filepath.Join(dir, "go.mod"), "module example.com/other\n\ngo 1.26.0\n\nrequire "+Module+" v0.0.0\n\nreplace "+Module+" => "+abs+"\n")
	write(t, filepath.Join(dir, "main.go"), "package main\n\nimport _ \""+Module+"/internal/meshconfig\"\n\nfunc main() {}\n")
	cmd := exec.Command("go", "build", "-mod=mod", "-o", os.DevNull, ".")
	cmd.Dir, cmd.Env = dir, append(os.Environ(), "GOPROXY=off")
	out, err := cmd.CombinedOutput()
	if err == nil || !strings.Contains(string(out), "use of internal package") {
		t.Errorf("another module builds with internal/meshconfig: %v\n%s", err, out)
	}
}

func write(t *testing.T, file, content string) {
	t.Helper()
	if err := os.WriteFile(file, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
}
