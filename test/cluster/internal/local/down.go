// SPDX-License-Identifier: Apache-2.0

package local

import (
	"context"
	"errors"
	"fmt"
	"os"
	"syscall"
	"time"

	"github.com/heddle-mesh/heddle/test/cluster/internal/node"
	"github.com/heddle-mesh/heddle/test/cluster/internal/state"
)

// ending is how long the kernel may take to end all processes of a cluster.
const ending = 30 * time.Second

// Down ends the cluster: its first process, and with that all others, every mount, link and rule; then its control
// groups and state. Programs, images, certificates and logs stay.
func (c Cluster) Down(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, ending)
	defer cancel()
	n, err := state.Read(c.Home.Run())
	if err != nil {
		return err
	}
	if n != nil {
		if err := end(ctx, n.Process); err != nil {
			return fmt.Errorf("ending the node: %w", err)
		}
		if err := removeGroups(ctx, n.Cgroups); err != nil {
			return fmt.Errorf("removing control groups: %w", err)
		}
	}
	return os.RemoveAll(c.Home.Run())
}

// end kills a process and waits until it is gone.
func end(ctx context.Context, p state.Process) error {
	target, err := os.FindProcess(p.PID) // a handle on the process, not on its number
	if err != nil {
		return err
	}
	defer func() { _ = target.Release() }() // only ever fails when released twice
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for first := true; p.Alive(); first = false {
		if first {
			if err := target.Signal(syscall.SIGKILL); err != nil && !errors.Is(err, os.ErrProcessDone) {
				return err
			}
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-tick.C:
		}
	}
	return nil
}

// removeGroups removes what the kernel lets go of only a moment after the last process in it.
func removeGroups(ctx context.Context, paths []string) error {
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for {
		err := node.Remove(paths)
		if err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return errors.Join(ctx.Err(), err)
		case <-tick.C:
		}
	}
}
