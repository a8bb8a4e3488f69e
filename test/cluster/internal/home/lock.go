// SPDX-License-Identifier: Apache-2.0

package home

import (
	"context"
	"errors"
	"io"
	"log"
	"os"
	"syscall"
	"time"
)

// Lock makes the caller the only one that changes the cluster, waiting for another if need be.
func (h Home) Lock(ctx context.Context) (unlock func(), err error) {
	f, err := os.OpenFile(h.Path("lock"), os.O_CREATE|os.O_RDWR, 0o644)
	if err != nil {
		return nil, err
	}
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for first := true; ; first = false {
		err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
		if err == nil {
			return func() { f.Close() }, nil
		}
		if !errors.Is(err, syscall.EWOULDBLOCK) {
			f.Close()
			return nil, err
		}
		if first {
			log.Printf("waiting for another command on %s", h)
		}
		select {
		case <-ctx.Done():
			f.Close()
			return nil, ctx.Err()
		case <-tick.C:
		}
	}
}

// KeepCommand copies this program to where the cluster's other parts find it: what `go run` makes is gone when it ends.
func (h Home) KeepCommand() error {
	self, err := os.Executable()
	if err != nil {
		return err
	}
	if self == h.Command() {
		return nil
	}
	in, err := os.Open(self)
	if err != nil {
		return err
	}
	defer in.Close()
	part := h.Command() + ".part"
	out, err := os.OpenFile(part, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o755)
	if err != nil {
		return err
	}
	_, err = io.Copy(out, in)
	if err := errors.Join(err, out.Close()); err != nil {
		return err
	}
	return os.Rename(part, h.Command()) // replaced, not written to: it may be running
}
