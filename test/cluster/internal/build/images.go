// SPDX-License-Identifier: Apache-2.0

package build

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/heddle-mesh/heddle/test/cluster/internal/home"
	"github.com/heddle-mesh/heddle/tools/images/image"
)

// The images' tags never change with their content: the cluster imports its images anew each time it comes up.
const (
	PauseImage   = "localhost/pause:1"
	CoreDNSImage = "localhost/coredns:1"
)

func images(h home.Home) error {
	if err := writeImage(h, PauseImage, "pause", "65535"); err != nil {
		return err
	}
	if err := writeImage(h, CoreDNSImage, "coredns", ""); err != nil {
		return err
	}
	return certManagerImages(h)
}

func certManagerImages(h home.Home) error {
	for _, part := range []string{"controller", "webhook", "cainjector"} {
		name := "cert-manager-" + part
		if err := writeImage(h, "localhost/"+name+":"+home.CertManagerVersion, name, "1000"); err != nil {
			return err
		}
	}
	return nil
}

// writeImage makes the image of one program, unless it is newer than the program.
func writeImage(h home.Home, reference, program, user string) error {
	binary, archive := h.Path("bin", program), ImageFile(h, reference)
	from, err := os.Stat(binary)
	if err != nil {
		return err
	}
	if to, err := os.Stat(archive); err == nil && to.ModTime().After(from.ModTime()) {
		return nil
	}
	return image.Image{
		Reference: reference,
		Files:     map[string]string{"/" + program: binary},
		Entry:     []string{"/" + program},
		Env:       []string{"PATH=/"},
		User:      user,
	}.Write(archive)
}

// ImageFile is where the archive with an image of that name is kept.
func ImageFile(h home.Home, reference string) string {
	return filepath.Join(h.Images(), strings.NewReplacer("/", "_", ":", "_", "@", "_").Replace(reference)+".tar")
}

// CertManagerManifests is the file with what installs cert-manager.
func CertManagerManifests(h home.Home) string {
	return filepath.Join(h.Manifests(), "cert-manager.yaml")
}

// chart renders cert-manager's chart, which lies in its module, as far as it is older than the program that does it.
func chart(ctx context.Context, h home.Home) error {
	program, file := h.Path("bin", "cert-manager-chart"), CertManagerManifests(h)
	from, err := os.Stat(program)
	if err != nil {
		return err
	}
	if to, err := os.Stat(file); err == nil && to.ModTime().After(from.ModTime()) {
		return nil
	}
	root, err := source()
	if err != nil {
		return err
	}
	list := exec.CommandContext(ctx, "go", "list", "-m", "-f", "{{.Dir}}", "github.com/cert-manager/cert-manager")
	list.Dir, list.Env, list.Stderr = filepath.Join(root, "certmanager"), append(os.Environ(), "GOWORK=off"), os.Stderr
	module, err := list.Output()
	if err != nil {
		return fmt.Errorf("finding cert-manager's module: %w", err)
	}
	folder := filepath.Join(strings.TrimSpace(string(module)), "deploy", "charts", "cert-manager")
	render := exec.CommandContext(ctx, program, folder, home.CertManagerVersion)
	render.Stderr = os.Stderr
	manifests, err := render.Output()
	if err != nil {
		return fmt.Errorf("rendering cert-manager's chart: %w", err)
	}
	return os.WriteFile(file, manifests, 0o644)
}
