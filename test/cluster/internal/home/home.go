// SPDX-License-Identifier: Apache-2.0

// Package home says where a cluster keeps its files, which addresses it uses, and what its parts are called.
package home

import (
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// Variable is the environment variable that names the folder of everything built and written for a cluster.
// Clusters with different folders run side by side.
const Variable = "HEDDLE_CLUSTER_HOME"

// The versions of what is built; go.mod and certmanager/go.mod must say the same, and a test sees to it.
const (
	KubernetesVersion  = "v1.37.2"
	CertManagerVersion = "v1.21.2"
)

// NodeName is the one node's name, in Kubernetes and as its host name.
const NodeName = "heddle"

// The cluster's addresses lie in 198.18.0.0/15, which is set aside for tests, and exist in its own network namespace only.
var (
	NodeIP      = netip.MustParseAddr("198.18.0.1")
	PodCIDR     = netip.MustParsePrefix("198.18.128.0/17")
	ServiceCIDR = netip.MustParsePrefix("198.19.0.0/16")
	APIServerIP = netip.MustParseAddr("198.19.0.1") // first of the services' range
	DNSIP       = netip.MustParseAddr("198.19.0.10")
)

// Home is the absolute path of a cluster's folder.
type Home string

// Open finds the folder that the environment names, or the one that this program is kept in, and makes it if need be.
func Open() (Home, error) {
	dir, err := find()
	if err != nil {
		return "", fmt.Errorf("no folder for the cluster's files, set %s: %w", Variable, err)
	}
	dir, err = filepath.Abs(dir)
	if err != nil {
		return "", err
	}
	h := Home(dir)
	for _, d := range []string{h.Bin(), h.CNI(), h.Images(), h.Manifests(), h.Log()} {
		if err := os.MkdirAll(d, 0o755); err != nil {
			return "", fmt.Errorf("cannot use %s, set %s to another folder: %w", dir, Variable, err)
		}
	}
	return h, nil
}

func find() (string, error) {
	if dir := os.Getenv(Variable); dir != "" {
		return dir, nil
	}
	if self, err := os.Executable(); err == nil {
		dir := filepath.Dir(filepath.Dir(self))
		if _, err := os.Stat(filepath.Join(dir, "built")); err == nil && self == Home(dir).Command() {
			return dir, nil
		}
	}
	cache, err := os.UserCacheDir()
	return filepath.Join(cache, "heddle", "cluster"), err
}

// Bin holds the cluster's programs.
func (h Home) Bin() string { return h.Path("bin") }

// CNI holds the network plugins.
func (h Home) CNI() string { return h.Path("cni") }

// PKI holds certificates, keys and kubeconfigs.
func (h Home) PKI() string { return h.Path("pki") }

// Images holds archives that are imported at every start.
func (h Home) Images() string { return h.Path("images") }

// Manifests holds what is applied at every start.
func (h Home) Manifests() string { return h.Path("manifests") }

// Log holds a file for each daemon.
func (h Home) Log() string { return h.Path("log") }

// Run holds the running cluster's state; it goes when the cluster goes.
func (h Home) Run() string { return h.Path("run") }

// Control is the socket on which the node's supervisor takes orders.
func (h Home) Control() string { return h.Path("run", "control.sock") }

// Kubeconfig is the administrator's.
func (h Home) Kubeconfig() string { return h.Path("pki", "admin.conf") }

// Command is this very program, kept so that it can be run without `go run`, which hides exit codes.
func (h Home) Command() string { return h.Path("bin", "cluster") }

// Path joins elements to the folder.
func (h Home) Path(elements ...string) string {
	return filepath.Join(append([]string{string(h)}, elements...)...)
}

// Environ is the caller's environment as commands in the cluster need it: with its binaries and kubeconfig, and
// without the proxies of a network that cannot be reached from there. No name is in it twice.
func (h Home) Environ() []string {
	ours := []string{
		Variable + "=" + string(h),
		"PATH=" + h.Bin() + ":" + os.Getenv("PATH") + ":/usr/sbin:/sbin",
		"KUBECONFIG=" + h.Kubeconfig(),
		"CONTAINERD_NAMESPACE=k8s.io",
		"CONTAINERD_SUPPRESS_DEPRECATION_WARNINGS=1",
	}
	theirs := slices.DeleteFunc(os.Environ(), func(v string) bool {
		name, _, _ := strings.Cut(v, "=")
		return strings.HasSuffix(strings.ToLower(name), "_proxy") ||
			slices.ContainsFunc(ours, func(o string) bool { return strings.HasPrefix(o, name+"=") })
	})
	return append(theirs, ours...)
}
