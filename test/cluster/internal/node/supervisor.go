// SPDX-License-Identifier: Apache-2.0

package node

import (
	"context"
	"fmt"
	"log"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/heddle-mesh/heddle/test/cluster/internal/home"
)

const (
	pauseBeforeRestart = 500 * time.Millisecond
	// With a daemon that was asked to end. The API server and etcd would take as long as anybody watches anything.
	patience = 3 * time.Second
)

// supervisor keeps the daemons running and starts and stops single ones on demand.
type supervisor struct {
	home     home.Home
	reaper   *reaper
	units    []*unit
	patience time.Duration
}

// unit is one daemon's state.
type unit struct {
	daemon
	mu     sync.Mutex
	wanted bool
	pid    int           // 0 while it does not run
	since  time.Time     // its start
	starts int           // all of them
	idle   chan struct{} // closed while it does not run
	wake   chan struct{} // somebody changed wanted
}

func newSupervisor(h home.Home, list []daemon, r *reaper) *supervisor {
	s := &supervisor{home: h, reaper: r, patience: patience}
	for _, d := range list {
		idle := make(chan struct{})
		close(idle)
		s.units = append(s.units, &unit{daemon: d, wanted: true, idle: idle, wake: make(chan struct{}, 1)})
	}
	return s
}

// run keeps all daemons running until the context ends, which in a cluster's first process is never.
func (s *supervisor) run(ctx context.Context) {
	var all sync.WaitGroup
	for _, u := range s.units {
		all.Go(func() { s.keep(ctx, u) })
	}
	all.Wait()
}

// keep runs one daemon again and again, as long as it is wanted.
func (s *supervisor) keep(ctx context.Context, u *unit) {
	output, err := os.Create(filepath.Join(s.home.Log(), u.name+".log"))
	if err != nil {
		log.Print(err)
		return
	}
	defer output.Close()
	if err := await(ctx, s.home, u.after); err != nil {
		return
	}
	for ctx.Err() == nil {
		if !u.isWanted() {
			select {
			case <-u.wake:
			case <-ctx.Done():
			}
			continue
		}
		what := s.once(u, output)
		fmt.Fprintf(output, "cluster: %s %s\n", u.name, what)
		log.Printf("%s %s", u.name, what)
		pause := time.NewTimer(pauseBeforeRestart)
		select {
		case <-pause.C:
		case <-u.wake:
		case <-ctx.Done():
		}
		pause.Stop()
	}
}

// once runs a daemon to its end and says what that was.
func (s *supervisor) once(u *unit, output *os.File) string {
	u.mu.Lock()
	if !u.wanted { // it was stopped since the keeper looked
		u.mu.Unlock()
		return "is stopped"
	}
	pid, ended, err := s.reaper.start(filepath.Join(s.home.Bin(), u.program), u.args, environ(s.home), output)
	if err != nil {
		u.mu.Unlock()
		return err.Error()
	}
	idle := make(chan struct{})
	u.pid, u.since, u.idle = pid, time.Now(), idle
	u.starts++
	u.mu.Unlock()
	status := <-ended
	u.mu.Lock()
	u.pid = 0
	close(idle)
	u.mu.Unlock()
	if status.Signaled() {
		return "was ended by " + status.Signal().String()
	}
	return fmt.Sprintf("exited with %d", status.ExitStatus())
}

// environ is the daemons' environment. It holds no proxy settings and no kubeconfig of the caller's.
func environ(h home.Home) []string {
	return slices.DeleteFunc(h.Environ(), func(v string) bool { return strings.HasPrefix(v, "KUBECONFIG=") })
}

func (u *unit) isWanted() bool {
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.wanted
}

// want sets whether the daemon is to run and tells its keeper.
func (u *unit) want(yes bool) {
	u.mu.Lock()
	u.wanted = yes
	u.mu.Unlock()
	select {
	case u.wake <- struct{}{}:
	default:
	}
}

// stop ends the daemon and returns when it has ended, by force if it takes too long.
func (u *unit) stop(ctx context.Context, patience time.Duration) error {
	u.want(false)
	for _, signal := range []syscall.Signal{syscall.SIGTERM, syscall.SIGKILL} {
		idle := u.signal(signal)
		patient, cancel := context.WithTimeout(ctx, patience)
		select {
		case <-idle:
		case <-patient.Done():
		}
		cancel()
		select {
		case <-idle:
			return nil
		case <-ctx.Done():
			return ctx.Err()
		default:
		}
	}
	return fmt.Errorf("%s does not end, not even killed", u.name)
}

// signal sends a signal if the daemon runs. The channel is closed when it does not.
func (u *unit) signal(signal syscall.Signal) <-chan struct{} {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.pid != 0 {
		_ = syscall.Kill(u.pid, signal) // its id is not given away before the reaper saw its end, and then it may be gone
	}
	return u.idle
}

// String is a line of `cluster status`.
func (u *unit) String() string {
	u.mu.Lock()
	defer u.mu.Unlock()
	switch {
	case u.pid != 0:
		return fmt.Sprintf("%-10s running for %s, started %d times", u.name, time.Since(u.since).Round(time.Second), u.starts)
	case u.wanted:
		return fmt.Sprintf("%-10s about to start, started %d times", u.name, u.starts)
	default:
		return fmt.Sprintf("%-10s stopped", u.name)
	}
}
