// SPDX-License-Identifier: Apache-2.0

package image

import (
	"archive/tar"
	"bytes"
	"errors"
	"io"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"github.com/google/go-containerregistry/pkg/v1/validate"
)

func sample(t *testing.T) Image {
	t.Helper()
	file := filepath.Join(t.TempDir(), "program")
	if err := os.WriteFile(file, []byte("static"), 0o700); err != nil {
		t.Fatal(err)
	}
	return Image{
		Reference: "localhost/sample:1",
		Files:     map[string]string{"/usr/bin/program": file},
		Entry:     []string{"/usr/bin/program"},
		Env:       []string{"A=b"},
		User:      "1000",
	}
}

func TestWriteIsAnImage(t *testing.T) {
	file := filepath.Join(t.TempDir(), "image.tar")
	if err := sample(t).Write(file); err != nil {
		t.Fatal(err)
	}
	tag, err := name.NewTag("localhost/sample:1")
	if err != nil {
		t.Fatal(err)
	}
	image, err := tarball.ImageFromPath(file, &tag)
	if err != nil {
		t.Fatal(err)
	}
	if err := validate.Image(image); err != nil {
		t.Error(err)
	}
	config, err := image.ConfigFile()
	if err != nil {
		t.Fatal(err)
	}
	c := config.Config
	if !slices.Equal(c.Entrypoint, []string{"/usr/bin/program"}) || c.User != "1000" || !slices.Equal(c.Env, []string{"A=b"}) {
		t.Errorf("config is %+v", c)
	}
	names, err := Names(file)
	if err != nil || !slices.Equal(names, []string{"localhost/sample:1"}) {
		t.Errorf("Names: %q, %v", names, err)
	}
}

func TestWriteIsDeterministic(t *testing.T) {
	image := sample(t)
	var written [2][]byte
	for i := range written {
		file := filepath.Join(t.TempDir(), "image.tar")
		if err := image.Write(file); err != nil {
			t.Fatal(err)
		}
		var err error
		if written[i], err = os.ReadFile(file); err != nil {
			t.Fatal(err)
		}
		now := time.Now().Add(time.Hour)
		if err := os.Chtimes(image.Files["/usr/bin/program"], now, now); err != nil {
			t.Fatal(err)
		}
	}
	if !bytes.Equal(written[0], written[1]) {
		t.Error("the same content gave other bytes")
	}
}

func TestLayer(t *testing.T) {
	data, err := sample(t).layer()
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]int64{}
	for r := tar.NewReader(bytes.NewReader(data)); ; {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		got[h.Name] = h.Mode
	}
	want := map[string]int64{"tmp/": 0o1777, "usr/": 0o755, "usr/bin/": 0o755, "usr/bin/program": 0o755}
	if len(got) != len(want) {
		t.Errorf("the layer holds %v, want %v", got, want)
	}
	for name, mode := range want {
		if got[name] != mode {
			t.Errorf("mode of %s is %o, want %o", name, got[name], mode)
		}
	}
}

func TestWriteRefuses(t *testing.T) {
	for what, change := range map[string]func(*Image){
		"a reference without a tag": func(i *Image) { i.Reference = "localhost/sample" },
		"a relative path":           func(i *Image) { i.Files["program"] = i.Files["/usr/bin/program"] },
		"a path that leaves":        func(i *Image) { i.Files["/../program"] = i.Files["/usr/bin/program"] },
		"a file that is not there":  func(i *Image) { i.Files["/other"] = filepath.Join(t.TempDir(), "other") },
	} {
		image := sample(t)
		change(&image)
		if err := image.Write(filepath.Join(t.TempDir(), "image.tar")); err == nil {
			t.Errorf("%s was accepted", what)
		}
	}
}

func TestNames(t *testing.T) {
	for _, c := range []struct{ what, file, content, want string }{
		{"docker", "manifest.json", `[{"RepoTags":["localhost/a:1"]}]`, "localhost/a:1"},
		{"layout", "./index.json", `{"manifests":[{"annotations":{"org.opencontainers.image.ref.name":"localhost/b:1"}}]}`, "localhost/b:1"},
		{"containerd's name first", "index.json", `{"manifests":[{"annotations":{
			"org.opencontainers.image.ref.name":"1","io.containerd.image.name":"localhost/c:1"}}]}`, "localhost/c:1"},
		{"no name", "index.json", `{"manifests":[{}]}`, ""},
		{"not JSON", "manifest.json", `[`, ""},
		{"neither", "other", ``, ""},
	} {
		var archive bytes.Buffer
		w := tar.NewWriter(&archive)
		if err := w.WriteHeader(&tar.Header{Name: c.file, Size: int64(len(c.content)), Mode: 0o644}); err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write([]byte(c.content)); err != nil {
			t.Fatal(err)
		}
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
		file := filepath.Join(t.TempDir(), "image.tar")
		if err := os.WriteFile(file, archive.Bytes(), 0o600); err != nil {
			t.Fatal(err)
		}
		names, err := Names(file)
		if c.want == "" {
			if err == nil {
				t.Errorf("%s: no error but %q", c.what, names)
			}
		} else if err != nil || !slices.Equal(names, []string{c.want}) {
			t.Errorf("%s: %q, %v", c.what, names, err)
		}
	}
}
