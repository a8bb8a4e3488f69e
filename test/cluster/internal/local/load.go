// SPDX-License-Identifier: Apache-2.0

package local

import (
	"context"
	"fmt"
	"io"
	"log"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sync/errgroup"

	"github.com/heddle-mesh/heddle/test/cluster/internal/build"
	"github.com/heddle-mesh/heddle/test/cluster/internal/node"
	"github.com/heddle-mesh/heddle/tools/images/image"
)

// Load keeps image archives for every later Up, and imports them at once if the cluster is up.
func (c Cluster) Load(ctx context.Context, archives []string) error {
	kept := make([]string, 0, len(archives))
	for _, a := range archives {
		names, err := image.Names(a)
		if err != nil {
			return err
		}
		// By the image's name, not the file's: the next archive of the same image takes its place.
		to := build.ImageFile(c.Home, strings.Join(names, ","))
		if err := keep(a, to); err != nil {
			return fmt.Errorf("keeping %s: %w", a, err)
		}
		log.Printf("loaded %s", strings.Join(names, " "))
		kept = append(kept, to)
	}
	if _, down := c.node(); down != nil {
		return nil //nolint:nilerr // nothing runs: the next up will find them
	}
	return c.importImages(ctx, kept)
}

// keep copies a file, so that it can be built anew while the copy is read.
func keep(from, to string) error {
	if a, err := filepath.EvalSymlinks(from); err == nil && a == to {
		return nil
	}
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer in.Close()
	out, err := os.Create(to + ".part")
	if err != nil {
		return err
	}
	if _, err := io.Copy(out, in); err != nil {
		out.Close()
		return err
	}
	if err := out.Close(); err != nil {
		return err
	}
	return os.Rename(to+".part", to)
}

// importImages hands archives to containerd, two at a time.
func (c Cluster) importImages(ctx context.Context, archives []string) error {
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(2)
	for _, a := range archives {
		group.Go(func() error {
			out, err := c.Command(ctx, "ctr", "images", "import", "--snapshotter", "overlayfs", a).CombinedOutput()
			if err != nil {
				return fmt.Errorf("importing %s: %w: %s", a, err, out)
			}
			return nil
		})
	}
	return group.Wait()
}

// Status describes the cluster and its daemons.
func (c Cluster) Status(ctx context.Context) (string, error) {
	n, err := c.node()
	if err != nil {
		return "", err
	}
	units, err := node.Ask(ctx, c.Home, "status")
	if err != nil {
		return "", err
	}
	return fmt.Sprintf("up: process %d, folder %s\n%s", n.PID, c.Home, units), nil
}

// Order starts or stops one of the node's daemons and returns when that is done. It works from inside the node too, where
// the node's process has another number: the socket alone says whether the cluster is up.
func (c Cluster) Order(ctx context.Context, verb, daemon string) error {
	_, err := node.Ask(ctx, c.Home, verb+" "+daemon)
	return err
}
