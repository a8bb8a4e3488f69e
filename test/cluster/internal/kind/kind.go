// SPDX-License-Identifier: Apache-2.0

// Package kind is a cluster that kind makes in docker, for machines where one of our own cannot be or is not wanted.
package kind

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"

	"github.com/heddle-mesh/heddle/test/cluster/internal/addons"
	"github.com/heddle-mesh/heddle/test/cluster/internal/build"
	"github.com/heddle-mesh/heddle/test/cluster/internal/home"
)

const name = "heddle"

var errOwnOnly = errors.New("kind does not do that: only a cluster of our own (without -provider kind) can")

// Cluster is the one that kind calls heddle.
type Cluster struct{ Home home.Home }

// Kubeconfig is the path of the administrator's.
func (c Cluster) Kubeconfig() string { return c.Home.Path("kind.conf") }

// Build makes what kind's cluster lacks.
func (c Cluster) Build(ctx context.Context) error { return build.ForKind(ctx, c.Home) }

// Up brings the cluster up with the images that were loaded and with cert-manager.
func (c Cluster) Up(ctx context.Context) error {
	if err := check(ctx); err != nil {
		return err
	}
	if err := c.Build(ctx); err != nil {
		return err
	}
	exists, err := exists(ctx)
	if err != nil {
		return err
	}
	if !exists {
		if err := kind(ctx, "create", "cluster", "--name", name, "--wait", "3m", "--kubeconfig", c.Kubeconfig()); err != nil {
			return err
		}
		images, err := filepath.Glob(filepath.Join(c.Home.Images(), "*.tar"))
		if err != nil {
			return err
		}
		if err := load(ctx, images); err != nil {
			return err
		}
	}
	if err := addons.WaitNode(ctx, c); err != nil {
		return err
	}
	if err := addons.CertManager(ctx, c, c.Home); err != nil {
		return err
	}
	return addons.WaitCertManager(ctx, c)
}

// Down removes the cluster.
func (c Cluster) Down(ctx context.Context) error {
	if err := check(ctx); err != nil {
		return err
	}
	return kind(ctx, "delete", "cluster", "--name", name, "--kubeconfig", c.Kubeconfig())
}

// Load hands image archives to the nodes.
func (c Cluster) Load(ctx context.Context, archives []string) error {
	if err := check(ctx); err != nil {
		return err
	}
	return load(ctx, archives)
}

func load(ctx context.Context, archives []string) error {
	for _, a := range archives {
		if err := kind(ctx, "load", "image-archive", a, "--name", name); err != nil {
			return err
		}
	}
	return nil
}

// Command is a command with the cluster's kubeconfig. Its API server can be reached from this machine; its pods cannot.
func (c Cluster) Command(ctx context.Context, argv ...string) *exec.Cmd {
	program := argv[0]
	if own := filepath.Join(c.Home.Bin(), program); !strings.ContainsRune(program, '/') {
		if _, err := os.Stat(own); err == nil {
			program = own
		}
	}
	cmd := exec.CommandContext(ctx, program, argv[1:]...)
	cmd.Env = append(os.Environ(), "KUBECONFIG="+c.Kubeconfig(), "PATH="+c.Home.Bin()+":"+os.Getenv("PATH"))
	return cmd
}

// In runs a command on the caller's terminal and returns its exit code.
func (c Cluster) In(ctx context.Context, argv []string) (int, error) {
	cmd := c.Command(ctx, argv...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	err := cmd.Run()
	if exit := (*exec.ExitError)(nil); errors.As(err, &exit) {
		return exit.ExitCode(), nil
	}
	return 0, err
}

// Status describes the cluster.
func (c Cluster) Status(ctx context.Context) (string, error) {
	if err := check(ctx); err != nil {
		return "", err
	}
	exists, err := exists(ctx)
	if err == nil && !exists {
		err = errors.New("the cluster is down: run `cluster -provider kind up`")
	}
	return fmt.Sprintf("up: kind cluster %s\n", name), err
}

// Order cannot be done here.
func (c Cluster) Order(context.Context, string, string) error { return errOwnOnly }

// check finds out at once what would otherwise fail late and obscurely.
func check(ctx context.Context) error {
	if _, err := exec.LookPath("kind"); err != nil {
		return errors.New("-provider kind needs the program kind in the PATH: see https://kind.sigs.k8s.io")
	}
	if out, err := exec.CommandContext(ctx, "docker", "version", "--format", "{{.Server.Version}}").CombinedOutput(); err != nil {
		return fmt.Errorf("-provider kind needs a docker daemon that answers: %w: %s", err, bytes.TrimSpace(out))
	}
	return nil
}

func exists(ctx context.Context) (bool, error) {
	out, err := exec.CommandContext(ctx, "kind", "get", "clusters").Output()
	if err != nil {
		return false, fmt.Errorf("kind get clusters: %w", err)
	}
	return slices.Contains(strings.Fields(string(out)), name), nil
}

func kind(ctx context.Context, arguments ...string) error {
	cmd := exec.CommandContext(ctx, "kind", arguments...)
	cmd.Stdout, cmd.Stderr = log.Writer(), log.Writer()
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("kind %s: %w", strings.Join(arguments, " "), err)
	}
	return nil
}
