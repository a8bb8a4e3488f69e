// SPDX-License-Identifier: Apache-2.0

package arch

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// A target whose name the help's pattern does not match would be left out without a word.
func TestMakeHelpListsEveryTarget(t *testing.T) {
	makefile, err := os.ReadFile(filepath.Join(root, "Makefile"))
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("make", "-s", "help")
	cmd.Dir = root
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	targets := regexp.MustCompile(`(?m)^([^\s:#]+):.*## (.*)$`).FindAllStringSubmatch(string(makefile), -1)
	if len(targets) < 15 {
		t.Fatalf("only %d targets found", len(targets))
	}
	for _, target := range targets {
		if line := regexp.MustCompile(`(?m)^  ` + regexp.QuoteMeta(target[1]) + ` +` + regexp.QuoteMeta(target[2]) + `$`); !line.Match(out) {
			t.Errorf("make help leaves out %s", target[1])
		}
	}
	for target := range strings.FieldsSeq("generate manifests lint test test-unit test-envtest test-e2e verify build images demo demo-down bench fuzz conformance soak bundle") {
		if !strings.Contains(string(out), "\n  "+target+" ") {
			t.Errorf("there is no target %s", target)
		}
	}
}
