// SPDX-License-Identifier: Apache-2.0

package main

import (
	"os"
	"path/filepath"
	"testing"
)

func TestSetImageRewritesOneEntryAndKeepsTheRest(t *testing.T) {
	file := filepath.Join(t.TempDir(), "kustomization.yaml")
	const before = `# what it is
resources:
  - ../crd
images:
  - name: heddle-operator # the control plane
    newName: localhost/heddle-operator
    newTag: dev
  - name: heddle-proxy
`
	const after = `# what it is
resources:
  - ../crd
images:
  - name: heddle-operator # the control plane
    newName: registry.example.com/a/heddle-operator
    digest: sha256:12
  - name: heddle-proxy
`
	if err := os.WriteFile(file, []byte(before), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := setImage(file, "registry.example.com/a/heddle-operator@sha256:12"); err != nil {
		t.Fatal(err)
	}
	got, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if string(got) != after {
		t.Errorf("got\n%s\nwant\n%s", got, after)
	}
	if err := setImage(file, "registry.example.com/a/other@sha256:12"); err == nil {
		t.Error("an image that the kustomization does not name is accepted")
	}
}
