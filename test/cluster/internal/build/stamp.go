// SPDX-License-Identifier: Apache-2.0

package build

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"slices"

	"github.com/heddle-mesh/heddle/test/cluster/internal/home"
)

// stamp is a digest of all that decides what a group's binaries are.
func (g group) stamp(root string) (string, error) {
	hash := sha256.New()
	fmt.Fprintf(hash, "%s\n%q\n", runtime.Version(), g.arguments("OUT"))
	files := []string{filepath.Join(root, g.folder, "go.mod"), filepath.Join(root, g.folder, "go.sum")}
	for _, s := range g.sources {
		err := filepath.WalkDir(filepath.Join(root, s), func(file string, d fs.DirEntry, err error) error {
			if err == nil && !d.IsDir() && filepath.Ext(file) == ".go" {
				files = append(files, file)
			}
			return err
		})
		if err != nil {
			return "", err
		}
	}
	for _, file := range files {
		data, err := os.ReadFile(file)
		if err != nil {
			return "", err
		}
		relative, err := filepath.Rel(root, file)
		if err != nil {
			return "", err
		}
		fmt.Fprintf(hash, "%q %d\n", relative, len(data))
		hash.Write(data)
	}
	return hex.EncodeToString(hash.Sum(nil)), nil
}

// fresh says whether the group's binaries are those that the stamp stands for.
func (g group) fresh(h home.Home, stamp string) bool {
	kept, err := os.ReadFile(g.stampFile(h))
	if err != nil || !bytes.Equal(kept, []byte(stamp)) {
		return false
	}
	for _, out := range g.outputs {
		if _, err := os.Stat(h.Path(out)); err != nil {
			return false
		}
	}
	return true
}

func (g group) stampFile(h home.Home) string { return h.Path("built", g.name) }

// arguments are those of the group's `go` command, in a fixed order.
func (g group) arguments(out string) []string {
	packages := make([]string, 0, len(g.outputs))
	for p := range g.outputs {
		packages = append(packages, p)
	}
	slices.Sort(packages)
	return append([]string{"build", "-ldflags", g.ldflags, "-tags", g.tags, "-o", out + "/"}, packages...)
}
