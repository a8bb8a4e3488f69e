// SPDX-License-Identifier: Apache-2.0

// Package image builds container images of static binaries without a container engine: one layer on scratch, the same
// bytes for the same input.
package image

import (
	"archive/tar"
	"bytes"
	"fmt"
	"io"
	"os"
	"path"
	"runtime"
	"strings"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
)

// Spec says what goes into an image.
type Spec struct {
	// Files maps absolute paths in the image to files here. Modes are kept; owners are root.
	Files map[string]string
	// Entrypoint is the program and its leading arguments.
	Entrypoint []string
	// User is "uid:gid"; empty is root.
	User string
	// Labels are the image's, such as org.opencontainers.image.source.
	Labels map[string]string
}

// Build makes the image for linux and the architecture that this program runs on.
func Build(spec Spec) (v1.Image, error) {
	var layer bytes.Buffer
	if err := writeLayer(&layer, spec.Files); err != nil {
		return nil, err
	}
	l, err := tarball.LayerFromOpener(func() (io.ReadCloser, error) {
		return io.NopCloser(bytes.NewReader(layer.Bytes())), nil
	})
	if err != nil {
		return nil, err
	}
	img, err := mutate.AppendLayers(empty.Image, l)
	if err != nil {
		return nil, err
	}
	config, err := img.ConfigFile()
	if err != nil {
		return nil, err
	}
	config = config.DeepCopy()
	config.OS, config.Architecture = "linux", runtime.GOARCH
	config.Config = v1.Config{
		Entrypoint: spec.Entrypoint,
		User:       spec.User,
		Env:        []string{"PATH=/bin:/"},
		WorkingDir: "/",
		Labels:     spec.Labels,
	}
	return mutate.ConfigFile(img, config)
}

func writeLayer(w io.Writer, files map[string]string) error {
	layer := tar.NewWriter(w)
	made := map[string]bool{"/": true}
	if err := writeDir(layer, made, "/tmp", 0o1777); err != nil {
		return err
	}
	for _, dst := range sortedKeys(files) {
		if !path.IsAbs(dst) {
			return fmt.Errorf("image path %q: must be absolute", dst)
		}
		if err := writeDir(layer, made, path.Dir(dst), 0o755); err != nil {
			return err
		}
		if err := writeFile(layer, dst, files[dst]); err != nil {
			return err
		}
	}
	return layer.Close()
}

// writeDir writes a directory and what is above it, once.
func writeDir(layer *tar.Writer, made map[string]bool, dir string, mode int64) error {
	if made[dir] {
		return nil
	}
	if err := writeDir(layer, made, path.Dir(dir), 0o755); err != nil {
		return err
	}
	made[dir] = true
	return layer.WriteHeader(&tar.Header{Name: dir[1:] + "/", Mode: mode, Typeflag: tar.TypeDir})
}

func writeFile(layer *tar.Writer, dst, src string) error {
	f, err := os.Open(src)
	if err != nil {
		return err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return err
	}
	header := &tar.Header{Name: strings.TrimPrefix(dst, "/"), Mode: int64(info.Mode().Perm()), Size: info.Size(), Typeflag: tar.TypeReg}
	if err := layer.WriteHeader(header); err != nil {
		return err
	}
	_, err = io.Copy(layer, f)
	return err
}
