// SPDX-License-Identifier: Apache-2.0

// Package local is a cluster on this very machine, in namespaces of its own.
package local

import (
	"context"
	"errors"
	"fmt"
	"log"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"time"

	"github.com/heddle-mesh/heddle/test/cluster/internal/addons"
	"github.com/heddle-mesh/heddle/test/cluster/internal/build"
	"github.com/heddle-mesh/heddle/test/cluster/internal/enter"
	"github.com/heddle-mesh/heddle/test/cluster/internal/home"
	"github.com/heddle-mesh/heddle/test/cluster/internal/node"
	"github.com/heddle-mesh/heddle/test/cluster/internal/pki"
	"github.com/heddle-mesh/heddle/test/cluster/internal/state"
)

// ErrDown says that there is no cluster.
var ErrDown = errors.New("the cluster is down: run `cluster up`")

// Cluster is the one that belongs to a home.
type Cluster struct{ Home home.Home }

// Kubeconfig is the path of the administrator's. What it names can be reached with In only.
func (c Cluster) Kubeconfig() string { return c.Home.Kubeconfig() }

// Build makes everything that Up needs.
func (c Cluster) Build(ctx context.Context) error { return build.All(ctx, c.Home) }

// Up brings the cluster up, or waits for one that is up to be ready.
func (c Cluster) Up(ctx context.Context) error {
	if os.Geteuid() != 0 {
		return errors.New("a cluster on this machine needs root: use sudo, or -provider kind")
	}
	groups, err := node.FindCgroups(c.Home)
	if err != nil {
		return err
	}
	if err := c.Build(ctx); err != nil {
		return err
	}
	begin := time.Now()
	if _, err := c.node(); errors.Is(err, ErrDown) {
		if err := c.start(ctx, groups); err != nil {
			return err
		}
	} else if err != nil {
		return err
	}
	if err := c.install(ctx); err != nil {
		return fmt.Errorf("%w; the logs are in %s", err, c.Home.Log())
	}
	log.Printf("up and ready after %s", time.Since(begin).Round(100*time.Millisecond))
	return nil
}

// start starts the node and hands it the images.
func (c Cluster) start(ctx context.Context, groups *node.Cgroups) error {
	if err := c.Down(ctx); err != nil { // what a crash left
		return err
	}
	if err := pki.Ensure(c.Home.PKI()); err != nil {
		return err
	}
	if err := os.MkdirAll(c.Home.Run(), 0o700); err != nil {
		return err
	}
	loadBridgeFilter(ctx)
	if err := c.launch(groups); err != nil {
		return fmt.Errorf("starting the node: %w", err)
	}
	if err := c.await(ctx); err != nil {
		return err
	}
	images, err := filepath.Glob(filepath.Join(c.Home.Images(), "*.tar"))
	if err != nil {
		return err
	}
	return c.importImages(ctx, images)
}

// loadBridgeFilter loads the module without which pods cannot reach their neighbours by a service. Where it is built
// in, or there are no modules, this fails; the node checks for itself.
func loadBridgeFilter(ctx context.Context) {
	if _, err := os.Stat("/proc/sys/net/bridge"); err != nil {
		_ = exec.CommandContext(ctx, "modprobe", "br_netfilter").Run()
	}
}

// launch starts the node's first process, which outlives this one.
func (c Cluster) launch(groups *node.Cgroups) error {
	output, err := os.Create(filepath.Join(c.Home.Log(), "node.log"))
	if err != nil {
		return err
	}
	defer output.Close()
	cmd := exec.Command(c.Home.Command(), "node") //nolint:noctx // outlives this process
	cmd.Env, cmd.Stdout, cmd.Stderr = c.Home.Environ(), output, output
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Cloneflags: syscall.CLONE_NEWNS | syscall.CLONE_NEWNET |
		syscall.CLONE_NEWPID | syscall.CLONE_NEWIPC | syscall.CLONE_NEWUTS}
	if groups.Version == 1 {
		// The root of the hierarchies that the node mounts is then the caller's group, which holds whatever limits it has.
		cmd.SysProcAttr.Cloneflags |= syscall.CLONE_NEWCGROUP
	}
	if err := cmd.Start(); err != nil {
		return err
	}
	p, err := state.Find(cmd.Process.Pid)
	if err == nil {
		err = state.Node{Process: p, Cgroups: groups.Paths}.Write(c.Home.Run())
	}
	if err != nil {
		return errors.Join(err, cmd.Process.Kill(), cmd.Wait())
	}
	return nil
}

// await waits until the node takes orders and containerd takes images.
func (c Cluster) await(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	err := addons.Wait(ctx, "containerd", func(ctx context.Context) error {
		if _, err := c.node(); err != nil {
			cancel() // it cannot come back
			return err
		}
		return c.Command(ctx, "ctr", "version").Run()
	})
	if err != nil {
		last, _ := os.ReadFile(filepath.Join(c.Home.Log(), "node.log"))
		return fmt.Errorf("the node: %w\n%s", err, last)
	}
	return nil
}

// install adds DNS and cert-manager and waits until all of it works.
func (c Cluster) install(ctx context.Context) error {
	if err := addons.CoreDNS(ctx, c); err != nil {
		return err
	}
	if err := addons.CertManager(ctx, c, c.Home); err != nil {
		return err
	}
	if err := addons.WaitNode(ctx, c); err != nil {
		return err
	}
	return addons.WaitCertManager(ctx, c)
}

// In runs a command in the node on the caller's terminal and returns its exit code.
func (c Cluster) In(_ context.Context, argv []string) (int, error) {
	n, err := c.node()
	if err != nil {
		return 0, err
	}
	return enter.Run(n.Process, argv, c.Home.Environ())
}

// Command is a command that will run in the node. It goes through another process of this program, because the one
// that enters cannot leave.
func (c Cluster) Command(ctx context.Context, argv ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, c.Home.Command(), append([]string{"in"}, argv...)...)
	cmd.Env = c.Home.Environ()
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) } // which it passes on
	cmd.WaitDelay = 5 * time.Second
	return cmd
}

// node finds the cluster's first process.
func (c Cluster) node() (*state.Node, error) {
	n, err := state.Read(c.Home.Run())
	if err != nil {
		return nil, err
	}
	if n == nil || !n.Alive() {
		return nil, ErrDown
	}
	return n, nil
}
