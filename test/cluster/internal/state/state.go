// SPDX-License-Identifier: Apache-2.0

// Package state remembers which process is a cluster's node, so that another command can find it, and nothing else
// can be mistaken for it.
package state

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// Process is a process that cannot be confused with a later one of the same id.
type Process struct {
	PID   int    `json:"pid"`
	Start string `json:"start"` // in clock ticks since the machine's boot
}

// Node is what must be known of a running cluster to end it.
type Node struct {
	Process
	Cgroups []string `json:"cgroups"` // absolute; the pods' are below them
}

// Find describes a running process.
func Find(pid int) (Process, error) {
	_, start, err := stat(pid)
	return Process{PID: pid, Start: start}, err
}

// Alive says whether the process still runs. One that ended and was not waited for does not.
func (p Process) Alive() bool {
	status, start, err := stat(p.PID)
	return err == nil && start == p.Start && status != "Z" && status != "X"
}

// stat reads a process's status and start time. The command's name, before them, may hold spaces and brackets.
func stat(pid int) (status, start string, err error) {
	file := fmt.Sprintf("/proc/%d/stat", pid)
	data, err := os.ReadFile(file)
	if err != nil {
		return "", "", err
	}
	fields := strings.Fields(string(data[strings.LastIndexByte(string(data), ')')+1:]))
	const startTime = 22 - 3 // counted from the third field
	if len(fields) <= startTime {
		return "", "", fmt.Errorf("%s is not as expected: %q", file, data)
	}
	return fields[0], fields[startTime], nil
}

// Write keeps n in dir.
func (n Node) Write(dir string) error {
	data, err := json.Marshal(n)
	if err != nil {
		return err
	}
	file := name(dir)
	if err := os.WriteFile(file+".part", data, 0o600); err != nil {
		return err
	}
	return os.Rename(file+".part", file)
}

// Read returns what Write kept, nothing if it kept nothing. Whether the node is alive is for the caller to ask.
func Read(dir string) (*Node, error) {
	data, err := os.ReadFile(name(dir))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var n Node
	if err := json.Unmarshal(data, &n); err != nil {
		return nil, fmt.Errorf("%s is damaged, remove it once no cluster runs: %w", name(dir), err)
	}
	return &n, nil
}

func name(dir string) string { return filepath.Join(dir, "node.json") }
