// SPDX-License-Identifier: Apache-2.0

package node

import (
	"errors"
	"fmt"
	"os"
	"sync"
	"syscall"
)

// reaper waits for every child of the cluster's first process: its daemons, and whatever loses its parent. A process
// can have but one, and must not wait for children in any other way.
type reaper struct {
	mu      sync.Mutex
	waiters map[int]chan<- syscall.WaitStatus
	started chan struct{} // wakes the loop when it found nothing to wait for
}

func newReaper() *reaper {
	r := &reaper{waiters: map[int]chan<- syscall.WaitStatus{}, started: make(chan struct{}, 1)}
	go r.loop()
	return r
}

// start starts a program with its output going to a file. The channel tells how it ended.
func (r *reaper) start(path string, args, env []string, output *os.File) (int, <-chan syscall.WaitStatus, error) {
	null, err := os.Open(os.DevNull)
	if err != nil {
		return 0, nil, err
	}
	defer null.Close()
	ended := make(chan syscall.WaitStatus, 1)
	// Held over the fork, so that a child that ends at once is not waited for before it has a waiter.
	r.mu.Lock()
	defer r.mu.Unlock()
	pid, err := syscall.ForkExec(path, append([]string{path}, args...), &syscall.ProcAttr{
		Dir: "/", Env: env, Files: []uintptr{null.Fd(), output.Fd(), output.Fd()},
		Sys: &syscall.SysProcAttr{Setsid: true},
	})
	if err != nil {
		return 0, nil, fmt.Errorf("starting %s: %w", path, err)
	}
	r.waiters[pid] = ended
	select {
	case r.started <- struct{}{}:
	default:
	}
	return pid, ended, nil
}

func (r *reaper) loop() {
	for {
		var status syscall.WaitStatus
		pid, err := syscall.Wait4(-1, &status, 0, nil)
		switch {
		case errors.Is(err, syscall.ECHILD):
			<-r.started
		case err == nil:
			r.mu.Lock()
			ended, ours := r.waiters[pid]
			delete(r.waiters, pid)
			r.mu.Unlock()
			if ours {
				ended <- status
			}
		}
	}
}
