// SPDX-License-Identifier: Apache-2.0

// Package enter runs commands inside a cluster's node: in its network, mounts and processes.
package enter

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"runtime"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/heddle-mesh/heddle/test/cluster/internal/state"
)

const namespaces = unix.CLONE_NEWNS | unix.CLONE_NEWUTS | unix.CLONE_NEWIPC | unix.CLONE_NEWNET | unix.CLONE_NEWPID

// Run runs a command in the node's namespaces, in the caller's folder and on its terminal, and returns its exit code.
// The calling process is of no other use afterwards: one of its threads stays in the node.
func Run(node state.Process, argv, env []string) (int, error) {
	folder, err := os.Getwd()
	if err != nil {
		return 0, err
	}
	runtime.LockOSThread()
	if err := join(node); err != nil {
		return 0, fmt.Errorf("entering the node: %w", err)
	}
	for _, v := range env { // the search for the command asks the environment of this process
		if path, ok := strings.CutPrefix(v, "PATH="); ok {
			if err := os.Setenv("PATH", path); err != nil {
				return 0, err
			}
		}
	}
	cmd := exec.Command(argv[0], argv[1:]...) //nolint:noctx // ends by the signals that are passed on to it
	cmd.Dir, cmd.Env = folder, env
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	if err := cmd.Start(); err != nil {
		return 0, err
	}
	return wait(cmd)
}

// join moves the calling thread, and the children it will have, into the node.
func join(node state.Process) error {
	fd, err := unix.PidfdOpen(node.PID, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	if !node.Alive() { // asked only now: the descriptor keeps meaning the process that was found
		return errors.New("it has just ended")
	}
	if err := unix.Unshare(unix.CLONE_FS); err != nil { // threads that share a folder cannot change mounts
		return err
	}
	return unix.Setns(fd, namespaces)
}

// wait passes on the signals that a terminal does not send to the command by itself.
func wait(cmd *exec.Cmd) (int, error) {
	signals := make(chan os.Signal, 4)
	signal.Notify(signals, syscall.SIGTERM, syscall.SIGHUP, syscall.SIGINT, syscall.SIGQUIT)
	defer signal.Stop(signals)
	go func() {
		for s := range signals {
			if s == syscall.SIGTERM || s == syscall.SIGHUP {
				_ = cmd.Process.Signal(s)
			}
		}
	}()
	err := cmd.Wait()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		return 0, err
	}
	if status, ok := cmd.ProcessState.Sys().(syscall.WaitStatus); ok && status.Signaled() {
		return 128 + int(status.Signal()), nil
	}
	return cmd.ProcessState.ExitCode(), nil
}
