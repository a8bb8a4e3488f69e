// SPDX-License-Identifier: Apache-2.0

// Package image makes images of static binaries, without a container engine, and reads the names that images have.
package image

import (
	"archive/tar"
	"bytes"
	"context"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"runtime"
	"slices"
	"strings"
	"time"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/static"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

// Image is an image of one layer. The same content gives the same bytes, whenever it is written.
type Image struct {
	Reference string            // with a host and a tag that is not latest, so that the kubelet looks no further than the node
	Files     map[string]string // absolute path in the image: file here
	Entry     []string
	Env       []string
	User      string // numeric, or runAsNonRoot cannot be checked
	Labels    map[string]string
}

// Write writes the image to file as an archive that containerd, docker and kind can import.
func (i Image) Write(file string) error {
	tag, err := name.NewTag(i.Reference, name.StrictValidation)
	if err != nil {
		return err
	}
	// Uncompressed: the archive goes no further than this machine's disk.
	image, err := i.build(func(tar []byte) (v1.Layer, error) { return static.NewLayer(tar, types.OCIUncompressedLayer), nil })
	if err != nil {
		return err
	}
	if err := tarball.WriteToFile(file+".part", tag, image); err != nil {
		return fmt.Errorf("image %s: %w", i.Reference, err)
	}
	return os.Rename(file+".part", file)
}

// Push sends the image to its registry with the credentials of the Docker configuration, and returns "name@digest".
func (i Image) Push(ctx context.Context) (string, error) {
	tag, err := name.NewTag(i.Reference, name.StrictValidation)
	if err != nil {
		return "", err
	}
	image, err := i.build(func(tar []byte) (v1.Layer, error) {
		return tarball.LayerFromOpener(func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(tar)), nil })
	})
	if err != nil {
		return "", err
	}
	if err := remote.Write(tag, image, remote.WithContext(ctx), remote.WithAuthFromKeychain(authn.DefaultKeychain)); err != nil {
		return "", fmt.Errorf("image %s: %w", i.Reference, err)
	}
	digest, err := image.Digest()
	if err != nil {
		return "", err
	}
	return tag.Context().Name() + "@" + digest.String(), nil
}

func (i Image) build(toLayer func(tar []byte) (v1.Layer, error)) (v1.Image, error) {
	files, err := i.layer()
	if err != nil {
		return nil, fmt.Errorf("image %s: %w", i.Reference, err)
	}
	layer, err := toLayer(files)
	if err != nil {
		return nil, err
	}
	image, err := mutate.AppendLayers(empty.Image, layer)
	if err != nil {
		return nil, err
	}
	config, err := image.ConfigFile()
	if err != nil {
		return nil, err
	}
	config = config.DeepCopy()
	config.OS, config.Architecture = "linux", runtime.GOARCH
	config.Created = v1.Time{Time: time.Unix(0, 0).UTC()}
	config.Config = v1.Config{Entrypoint: i.Entry, Env: i.Env, User: i.User, WorkingDir: "/", Labels: i.Labels}
	return mutate.ConfigFile(image, config)
}

// layer is the tar of the image's files, their folders, and a /tmp.
func (i Image) layer() ([]byte, error) {
	folders := map[string]fs.FileMode{"tmp": 0o1777}
	paths := make([]string, 0, len(i.Files))
	for p := range i.Files {
		if !path.IsAbs(p) || path.Clean(p) != p {
			return nil, fmt.Errorf("%q is not a clean absolute path", p)
		}
		paths = append(paths, p)
		for d := path.Dir(p); d != "/"; d = path.Dir(d) {
			if _, ok := folders[d[1:]]; !ok {
				folders[d[1:]] = 0o755
			}
		}
	}
	var out bytes.Buffer
	w := tar.NewWriter(&out)
	for _, d := range sorted(folders) {
		if err := w.WriteHeader(&tar.Header{Typeflag: tar.TypeDir, Name: d + "/", Mode: int64(folders[d])}); err != nil {
			return nil, err
		}
	}
	slices.Sort(paths)
	for _, p := range paths {
		if err := addFile(w, p, i.Files[p]); err != nil {
			return nil, err
		}
	}
	return out.Bytes(), w.Close()
}

func addFile(w *tar.Writer, to, from string) error {
	data, err := os.ReadFile(from)
	if err != nil {
		return err
	}
	info, err := os.Stat(from)
	if err != nil {
		return err
	}
	mode := int64(0o644)
	if info.Mode()&0o111 != 0 {
		mode = 0o755 // not the very mode: that depends on who checked out or built the file
	}
	header := &tar.Header{Typeflag: tar.TypeReg, Name: strings.TrimPrefix(to, "/"), Mode: mode, Size: int64(len(data))}
	if err := w.WriteHeader(header); err != nil {
		return err
	}
	_, err = w.Write(data)
	return err
}

func sorted[V any](m map[string]V) []string {
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}
