// SPDX-License-Identifier: Apache-2.0

package main

import (
	"io"
	"log"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/registry"
	"github.com/google/go-containerregistry/pkg/v1/remote"
)

// `make images REGISTRY=...`: what was pushed is what the kustomization then names.
func TestPushedImagesAreWhatTheKustomizationNames(t *testing.T) {
	server := httptest.NewServer(registry.New(registry.Logger(log.New(io.Discard, "", 0))))
	t.Cleanup(server.Close)
	dir := t.TempDir()
	binary, kustomization := filepath.Join(dir, "heddle-proxy"), filepath.Join(dir, "kustomization.yaml")
	for file, content := range map[string]string{binary: "static", kustomization: "images:\n  - name: heddle-proxy\n    newTag: dev\n"} {
		if err := os.WriteFile(file, []byte(content), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	repository := strings.TrimPrefix(server.URL, "http://") + "/mesh/heddle-proxy"
	if err := build(t.Context(), repository+":v1", binary, "", true, kustomization); err != nil {
		t.Fatal(err)
	}
	content, err := os.ReadFile(kustomization)
	if err != nil {
		t.Fatal(err)
	}
	_, digest, ok := strings.Cut(string(content), "digest: ")
	if !ok || !strings.Contains(string(content), "newName: "+repository+"\n") || strings.Contains(string(content), "newTag") {
		t.Fatalf("the kustomization says\n%s", content)
	}
	ref, err := name.NewDigest(repository + "@" + strings.TrimSpace(digest))
	if err != nil {
		t.Fatal(err)
	}
	img, err := remote.Image(ref)
	if err != nil {
		t.Fatal(err)
	}
	config, err := img.ConfigFile()
	if err != nil {
		t.Fatal(err)
	}
	if config.Config.User != user || config.Config.Entrypoint[0] != "/heddle-proxy" {
		t.Errorf("%+v", config.Config)
	}
}
