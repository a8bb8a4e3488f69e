// SPDX-License-Identifier: Apache-2.0

//go:build linux

package peers

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Process is one that the bench started.
type Process struct {
	PID  int
	cmd  *exec.Cmd
	done chan struct{}
	once sync.Once
}

// Start starts a command on processors, which its children inherit. It ends when the bench does, however that ends.
func Start(processors []int, log io.Writer, env []string, name string, args ...string) (*Process, error) {
	return StartTo(processors, log, log, env, name, args...)
}

// StartTo starts a command with its output and its errors apart.
func StartTo(processors []int, out, log io.Writer, env []string, name string, args ...string) (*Process, error) {
	cmd := exec.Command(name, args...) //nolint:noctx // Stop ends it
	cmd.Env = append(os.Environ(), env...)
	cmd.Stdout, cmd.Stderr = out, log
	return start(cmd, processors)
}

func start(cmd *exec.Cmd, processors []int) (*Process, error) {
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGTERM}
	p := &Process{cmd: cmd, done: make(chan struct{})}
	started := make(chan error)
	go func() {
		// The child inherits the processors of this thread, and its death signal comes when this thread ends, which so
		// must live as long: it does nothing else and is thrown away.
		runtime.LockOSThread()
		err := onProcessors(processors, cmd.Start)
		started <- err
		if err == nil {
			_ = cmd.Wait()
			close(p.done)
		}
	}()
	if err := <-started; err != nil {
		return nil, err
	}
	p.PID = cmd.Process.Pid
	return p, nil
}

func onProcessors(processors []int, do func() error) error {
	var set unix.CPUSet
	for _, n := range processors {
		set.Set(n)
	}
	if len(processors) > 0 {
		if err := unix.SchedSetaffinity(0, &set); err != nil {
			return fmt.Errorf("pin to processors %v: %w", processors, err)
		}
	}
	return do()
}

// Stop ends the process, with its children, and waits for it.
func (p *Process) Stop() {
	p.once.Do(func() {
		_ = p.cmd.Process.Signal(syscall.SIGTERM)
		timer := time.NewTimer(5 * time.Second)
		defer timer.Stop()
		select {
		case <-p.done:
		case <-timer.C:
			for _, child := range Descendants(p.PID) {
				_ = syscall.Kill(child, syscall.SIGKILL)
			}
			_ = p.cmd.Process.Kill()
			<-p.done
		}
	})
}

// Done is closed when the process has ended.
func (p *Process) Done() <-chan struct{} { return p.done }

// Descendants returns the children of a process, and theirs.
func Descendants(pid int) []int {
	tasks, err := os.ReadDir("/proc/" + strconv.Itoa(pid) + "/task")
	if err != nil {
		return nil
	}
	var out []int
	for _, task := range tasks {
		children, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/task/" + task.Name() + "/children")
		if err != nil {
			continue
		}
		for field := range strings.FieldsSeq(string(children)) {
			if child, err := strconv.Atoi(field); err == nil {
				out = append(append(out, child), Descendants(child)...)
			}
		}
	}
	return out
}

// named returns those of processes whose program is called so. The kernel keeps 15 letters of a name.
func named(pids []int, name string) []int {
	var out []int
	for _, pid := range pids {
		comm, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/comm")
		if err == nil && strings.TrimSpace(string(comm)) == name[:min(len(name), 15)] {
			out = append(out, pid)
		}
	}
	return out
}

// Await waits until something listens at each address, or the process ends.
func (p *Process) Await(addrs ...netip.AddrPort) error {
	deadline := time.NewTimer(20 * time.Second)
	defer deadline.Stop()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for _, addr := range addrs {
		for {
			c, err := (&net.Dialer{Timeout: time.Second}).Dial("tcp", addr.String())
			if err == nil {
				_ = c.Close()
				break
			}
			select {
			case <-p.done:
				return fmt.Errorf("%s: ended at once: %v", p.cmd.Path, p.cmd.ProcessState)
			case <-deadline.C:
				return fmt.Errorf("%s: nothing listens on %v", p.cmd.Path, addr)
			case <-tick.C:
			}
		}
	}
	return nil
}

// family returns a process with all its children at the time: nginx's worker begins after its master listens.
func (p *Process) family() []int { return append([]int{p.PID}, Descendants(p.PID)...) }

var errEnded = errors.New("the process has ended")

// Alive returns an error if one of the processes has ended.
func (i *Instance) Alive() error {
	for _, p := range i.processes {
		select {
		case <-p.done:
			return fmt.Errorf("%s: %w: %v", p.cmd.Path, errEnded, p.cmd.ProcessState)
		default:
		}
	}
	return nil
}
