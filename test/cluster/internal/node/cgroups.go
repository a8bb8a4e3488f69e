// SPDX-License-Identifier: Apache-2.0

package node

import (
	"bufio"
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/heddle-mesh/heddle/test/cluster/internal/home"
)

const cgroupMount = "/sys/fs/cgroup"

// controllers without which the kubelet does not start, and those that it uses if they are there.
var (
	needed   = []string{"cpu", "cpuset", "memory", "pids"}
	optional = []string{"io", "hugetlb"}
)

// Cgroups are the control groups under which a cluster's pods run. The daemons stay in those of whoever called `up`.
type Cgroups struct {
	Version int      // 1 or 2
	Name    string   // below the caller's group, or below the root where all is one hierarchy
	Paths   []string // on this machine, to be removed when the cluster ends
}

// FindCgroups finds out what this machine offers, or says what it lacks.
func FindCgroups(h home.Home) (*Cgroups, error) {
	// The name is of the home, not of a process: what a crash left is found and removed by the next `up`.
	g := &Cgroups{Name: fmt.Sprintf("/heddle-%.4x", sha256.Sum256([]byte(h)))}
	var at unix.Statfs_t
	if err := unix.Statfs(cgroupMount, &at); err != nil {
		return nil, fmt.Errorf("%s: %w; control groups must be mounted there", cgroupMount, err)
	}
	if at.Type == unix.CGROUP2_SUPER_MAGIC {
		g.Version, g.Paths = 2, []string{cgroupMount + g.Name}
		return g, usable(cgroupMount)
	}
	own, err := hierarchies()
	if err != nil {
		return nil, err
	}
	var missing []string
	for _, c := range needed {
		if !slices.ContainsFunc(own, func(h hierarchy) bool { return h.has(c) }) {
			missing = append(missing, c)
		}
	}
	if len(missing) > 0 {
		return nil, fmt.Errorf("no control group hierarchy for %s: mount cgroup v2 on %s, or these as v1 below it",
			strings.Join(missing, ", "), cgroupMount)
	}
	g.Version = 1
	for _, h := range own {
		g.Paths = append(g.Paths, filepath.Join(cgroupMount, h.folder(), h.path, g.Name))
	}
	return g, nil
}

// usable says whether a cgroup v2 tree has the controllers that the kubelet needs.
func usable(root string) error {
	data, err := os.ReadFile(filepath.Join(root, "cgroup.controllers"))
	if err != nil {
		return err
	}
	have := strings.Fields(string(data))
	for _, c := range needed {
		if !slices.Contains(have, c) {
			return fmt.Errorf("cgroup v2 on %s lacks the controller %s: delegate it to this machine or container", root, c)
		}
	}
	return nil
}

// hierarchy is one of cgroup v1's trees: a line of /proc/self/cgroup.
type hierarchy struct{ controllers, path string }

func (h hierarchy) has(controller string) bool {
	return slices.Contains(strings.Split(h.controllers, ","), controller)
}

// folder is the name under which it is mounted.
func (h hierarchy) folder() string { return strings.TrimPrefix(h.controllers, "name=") }

// options are those to mount it with.
func (h hierarchy) options() string {
	if strings.HasPrefix(h.controllers, "name=") {
		return "none," + h.controllers
	}
	return h.controllers
}

// hierarchies are the v1 trees that this process is in.
func hierarchies() ([]hierarchy, error) {
	f, err := os.Open("/proc/self/cgroup")
	if err != nil {
		return nil, err
	}
	defer f.Close()
	var list []hierarchy
	lines := bufio.NewScanner(f)
	for lines.Scan() {
		if field := strings.SplitN(lines.Text(), ":", 3); len(field) == 3 && field[1] != "" {
			list = append(list, hierarchy{field[1], field[2]})
		}
	}
	return list, lines.Err()
}

// Remove removes groups whose processes have ended, with all groups below them.
func Remove(paths []string) error {
	var failed error
	for _, p := range paths {
		var below []string
		err := filepath.WalkDir(p, func(dir string, d fs.DirEntry, err error) error {
			if err == nil && d.IsDir() {
				below = append(below, dir)
			}
			return err
		})
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			failed = errors.Join(failed, err)
		}
		for _, dir := range slices.Backward(below) {
			if err := os.Remove(dir); err != nil && !errors.Is(err, fs.ErrNotExist) {
				failed = errors.Join(failed, err)
			}
		}
	}
	return failed
}
