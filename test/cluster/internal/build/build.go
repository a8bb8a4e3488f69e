// SPDX-License-Identifier: Apache-2.0

// Package build makes what a cluster consists of from Go modules: no registry, no release download.
package build

import (
	"context"
	"errors"
	"fmt"
	"log"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"time"

	"github.com/heddle-mesh/heddle/test/cluster/internal/home"
)

// All builds whatever is missing or out of date for a cluster of our own: programs, images, cert-manager's manifests.
func All(ctx context.Context, h home.Home) error {
	if err := Programs(ctx, h, API, Runc, Node, CertManager); err != nil {
		return err
	}
	if err := chart(ctx, h); err != nil {
		return err
	}
	return images(h)
}

// ForKind builds what a cluster made by kind lacks: kubectl and cert-manager.
func ForKind(ctx context.Context, h home.Home) error {
	if err := Programs(ctx, h, API, CertManager); err != nil {
		return err
	}
	if err := chart(ctx, h); err != nil {
		return err
	}
	return certManagerImages(h)
}

// Programs builds the groups that are missing or out of date.
func Programs(ctx context.Context, h home.Home, groups ...group) error {
	root, err := source()
	if err != nil {
		return err
	}
	for _, g := range groups {
		stamp, err := g.stamp(root)
		if err != nil {
			return err
		}
		if g.fresh(h, stamp) {
			continue
		}
		if err := install(ctx, g.packages); err != nil {
			return err
		}
		if err := g.build(ctx, h, root); err != nil {
			return fmt.Errorf("building %s: %w", g.name, err)
		}
		if err := os.MkdirAll(filepath.Dir(g.stampFile(h)), 0o755); err != nil {
			return err
		}
		if err := os.WriteFile(g.stampFile(h), []byte(stamp), 0o644); err != nil {
			return err
		}
	}
	return nil
}

// build runs the compiler into a folder aside and moves the binaries to where they belong once all are there.
func (g group) build(ctx context.Context, h home.Home, root string) error {
	aside := h.Path("build")
	if err := errors.Join(os.RemoveAll(aside), os.Mkdir(aside, 0o755)); err != nil {
		return err
	}
	defer os.RemoveAll(aside)

	log.Printf("building %s (%d programs; cold, minutes)", g.name, len(g.outputs))
	start := time.Now()
	cmd := exec.CommandContext(ctx, "go", g.arguments(aside)...)
	cmd.Dir = filepath.Join(root, g.folder)
	cmd.Env = append(os.Environ(), "GOFLAGS=-buildvcs=false", "GOWORK=off", "CGO_ENABLED="+map[bool]string{false: "0", true: "1"}[g.cgo])
	cmd.Stdout, cmd.Stderr = os.Stderr, os.Stderr
	done := g.report(aside, start)
	err := cmd.Run()
	done()
	if err != nil {
		return err
	}
	for pkg, out := range g.outputs {
		// A program may be running: its file is replaced, never written to.
		if err := os.Rename(filepath.Join(aside, binary(pkg)), h.Path(out)); err != nil {
			return err
		}
	}
	return nil
}

// report logs each program as the compiler finishes it, until it is told to stop.
func (g group) report(aside string, start time.Time) (done func()) {
	stop, stopped := make(chan struct{}), make(chan struct{})
	seen := map[string]bool{}
	look := func() {
		for pkg, out := range g.outputs {
			if _, err := os.Stat(filepath.Join(aside, binary(pkg))); err == nil && !seen[pkg] {
				seen[pkg] = true
				log.Printf("  %-26s %s", filepath.Base(out), time.Since(start).Round(time.Second))
			}
		}
	}
	go func() {
		defer close(stopped)
		tick := time.NewTicker(time.Second)
		defer tick.Stop()
		for {
			select {
			case <-tick.C:
				look()
			case <-stop:
				look()
				return
			}
		}
	}()
	return func() {
		close(stop)
		<-stopped
	}
}

// source is the folder of this module, which holds go.mod and what is built from it.
func source() (string, error) {
	_, file, _, _ := runtime.Caller(0) // test/cluster/internal/build/build.go
	root := filepath.Join(filepath.Dir(file), "..", "..")
	if _, err := os.Stat(filepath.Join(root, "certmanager", "go.mod")); err != nil {
		return "", errors.New("the sources are not where this program was built: use `go run .` in test/cluster")
	}
	return root, nil
}
