// SPDX-License-Identifier: Apache-2.0

package image

import (
	"archive/tar"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"slices"
)

// maxIndex bounds what is read of an archive's table of contents.
const maxIndex = 4 << 20

// Names lists the references under which an archive's images are imported, sorted. It reads both forms of archive: that of docker
// (manifest.json, also written by go-containerregistry's tarball) and a tarred OCI layout (index.json).
func Names(file string) ([]string, error) {
	f, err := os.Open(file)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	var names []string
	for r := tar.NewReader(f); ; {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return nil, fmt.Errorf("%s is not a tar archive of an image: %w", file, err)
		}
		found, err := namesIn(path.Clean(h.Name), io.LimitReader(r, maxIndex))
		if err != nil {
			return nil, fmt.Errorf("%s: %s: %w", file, h.Name, err)
		}
		names = append(names, found...)
	}
	if len(names) == 0 {
		return nil, fmt.Errorf("%s names no image: write it with a tag such as localhost/name:1", file)
	}
	slices.Sort(names)
	return slices.Compact(names), nil
}

// namesIn reads one file of an archive; those that hold no names give none.
func namesIn(file string, r io.Reader) (names []string, err error) {
	switch file {
	case "manifest.json":
		var images []struct{ RepoTags []string }
		err = json.NewDecoder(r).Decode(&images)
		for _, i := range images {
			names = append(names, i.RepoTags...)
		}
	case "index.json":
		var index struct {
			Manifests []struct{ Annotations map[string]string }
		}
		err = json.NewDecoder(r).Decode(&index)
		for _, m := range index.Manifests {
			// In containerd's order of preference.
			for _, key := range []string{"io.containerd.image.name", "org.opencontainers.image.ref.name"} {
				if n := m.Annotations[key]; n != "" {
					names = append(names, n)
					break
				}
			}
		}
	}
	return names, err
}
