// SPDX-License-Identifier: Apache-2.0

package node

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/heddle-mesh/heddle/test/cluster/internal/home"
)

// The kubelet insists on these, which belong to the whole machine: it is shown files that already agree.
var sysctls = map[string]string{
	"vm/overcommit_memory":      "1",
	"vm/panic_on_oom":           "0",
	"kernel/panic":              "10",
	"kernel/panic_on_oops":      "1",
	"kernel/keys/root_maxkeys":  "1000000",
	"kernel/keys/root_maxbytes": "25000000",
}

// mountAll gives the node its own /proc, /sys, control groups, /run, /var/log and /var/lib/kubelet.
func mountAll(h home.Home, g *Cgroups) error {
	resolver, resolverErr := filepath.EvalSymlinks("/etc/resolv.conf") // it may be in the /run that is about to vanish
	v1, err := hierarchies()                                           // as long as /proc is the one outside
	if err != nil {
		return err
	}
	// Nothing of ours may appear outside; but pods may ask for mounts that appear in each other.
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("making mounts private: %w", err)
	}
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_SHARED, ""); err != nil {
		return fmt.Errorf("making mounts shared: %w", err)
	}
	if err := errors.Join(mount("proc", "/proc", ""), mount("sysfs", "/sys", "")); err != nil {
		return err
	}
	if g.Version == 2 {
		err = mountV2(g.Name)
	} else {
		err = mountV1(g.Name, v1)
	}
	if err != nil {
		return err
	}
	if err := errors.Join(mount("tmpfs", "/run", "mode=755"), os.MkdirAll("/run/containerd", 0o711)); err != nil {
		return err
	}
	for name, to := range map[string]string{"kubelet": "/var/lib/kubelet", "var-log": "/var/log"} {
		if err := bindFolder(h.Path("run", name), to); err != nil {
			return err
		}
	}
	if resolverErr == nil {
		if err := bindResolver(h, resolver); err != nil {
			return err
		}
	}
	return coverSysctls(h)
}

func mount(kind, to, options string) error {
	if err := unix.Mount(kind, to, kind, 0, options); err != nil {
		return fmt.Errorf("mounting %s (%s) on %s: %w", kind, options, to, err)
	}
	return nil
}

func bind(from, to string) error {
	if err := unix.Mount(from, to, "", unix.MS_BIND, ""); err != nil {
		return fmt.Errorf("binding %s over %s: %w", from, to, err)
	}
	return nil
}

func bindFolder(from, to string) error {
	if err := errors.Join(os.MkdirAll(from, 0o755), os.MkdirAll(to, 0o755)); err != nil {
		return err
	}
	return bind(from, to)
}

// bindFile writes a file and binds it over another.
func bindFile(file, content, to string) error {
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
		return err
	}
	if err := os.WriteFile(file, []byte(content), 0o644); err != nil {
		return err
	}
	return bind(file, to)
}

// bindResolver lets what runs on the node ask the cluster's DNS, by short names too. There is no other to reach.
func bindResolver(h home.Home, to string) error {
	if err := os.MkdirAll(filepath.Dir(to), 0o755); err != nil {
		return err
	}
	f, err := os.OpenFile(to, os.O_CREATE|os.O_RDONLY, 0o644)
	if err != nil {
		return err
	}
	f.Close()
	content := fmt.Sprintf("nameserver %s\nsearch svc.cluster.local cluster.local\noptions ndots:5\n", home.DNSIP)
	return bindFile(h.Path("run", "node-resolv.conf"), content, to)
}

// coverSysctls hides the machine's settings behind files. The kernel refuses a fresh /proc to pods in their own user
// namespace where it sees such covers only, so another, bare one is mounted first.
func coverSysctls(h home.Home) error {
	bare := h.Path("run", "proc")
	if err := os.MkdirAll(bare, 0o755); err != nil {
		return err
	}
	if err := mount("proc", bare, ""); err != nil {
		return err
	}
	for name, value := range sysctls {
		file := h.Path("run", "sysctl", strings.ReplaceAll(name, "/", "."))
		if err := bindFile(file, value+"\n", "/proc/sys/"+name); err != nil {
			return err
		}
	}
	return nil
}

// mountV1 mounts every hierarchy anew, so that its root is the caller's group, and makes the pods' group in each.
func mountV1(name string, list []hierarchy) error {
	if err := mount("tmpfs", cgroupMount, "mode=755"); err != nil {
		return err
	}
	for _, c := range list {
		root := filepath.Join(cgroupMount, c.folder())
		if err := os.Mkdir(root, 0o755); err != nil {
			return err
		}
		if err := mount("cgroup", root, c.options()); err != nil {
			return err
		}
		if err := os.MkdirAll(root+name, 0o755); err != nil {
			return err
		}
		if !c.has("cpuset") {
			continue
		}
		for _, f := range []string{"/cpuset.cpus", "/cpuset.mems"} { // a new group has none, and may run nothing
			value, err := os.ReadFile(root + f)
			if err != nil {
				return err
			}
			if err := os.WriteFile(root+name+f, value, 0o644); err != nil {
				return err
			}
		}
	}
	return nil
}

// mountV2 mounts the one hierarchy and makes the pods' group with all controllers that can be had.
func mountV2(name string) error {
	if err := mount("cgroup2", cgroupMount, ""); err != nil {
		return err
	}
	if err := os.MkdirAll(cgroupMount+name, 0o755); err != nil {
		return err
	}
	for _, folder := range []string{cgroupMount, cgroupMount + name} {
		for _, c := range needed {
			if err := enable(folder, c); err != nil {
				return fmt.Errorf("%w: in a container, move its processes out of the root group first", err)
			}
		}
		for _, c := range optional {
			_ = enable(folder, c) // the kubelet does without
		}
	}
	return nil
}

func enable(folder, controller string) error {
	return os.WriteFile(filepath.Join(folder, "cgroup.subtree_control"), []byte("+"+controller), 0o644)
}
