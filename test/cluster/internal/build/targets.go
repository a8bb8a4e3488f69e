// SPDX-License-Identifier: Apache-2.0

package build

import (
	"path"
	"regexp"

	"github.com/heddle-mesh/heddle/test/cluster/internal/home"
)

// group is what one `go build` makes. There are few groups, because every one of them loads and checks the whole
// module again, and what they are is decided by who can wait for what.
type group struct {
	name     string
	folder   string            // of its module, below test/cluster
	sources  []string          // folders of our own that go into it
	outputs  map[string]string // package: where its binary goes, below the home
	cgo      bool
	tags     string
	ldflags  string
	packages []string // Debian packages that it needs
}

const (
	kubernetes = "k8s.io/kubernetes/cmd/"
	containerd = "github.com/containerd/containerd/v2/cmd/"
	cniPlugins = "github.com/containernetworking/plugins/plugins/"

	// One set of tags and flags for all, so that packages that several groups use are built once.
	tags = "no_btrfs,no_devmapper,no_zfs"
	// Without a version the API server calls itself v0.0.0-master, at which kubectl stumbles.
	versionPackage = "k8s.io/component-base/version"
	ldflags        = "-s -w -X " + versionPackage + ".gitVersion=" + home.KubernetesVersion +
		" -X " + versionPackage + ".gitMajor=1 -X " + versionPackage + ".gitMinor=37"
)

// API is what an API server alone needs, as tests do that run against one: in KUBEBUILDER_ASSETS.
var API = group{
	name: "api", tags: tags, ldflags: ldflags,
	outputs: map[string]string{
		kubernetes + "kube-apiserver": "bin/kube-apiserver",
		"go.etcd.io/etcd/server/v3":   "bin/etcd",
		kubernetes + "kubectl":        "bin/kubectl",
	},
}

// CertManager is cert-manager's programs, and the one that renders its chart.
var CertManager = group{
	name: "cert-manager", folder: "certmanager", tags: tags,
	ldflags: "-s -w -X github.com/cert-manager/cert-manager/pkg/util.AppVersion=" + home.CertManagerVersion,
	sources: []string{"certmanager"},
	outputs: map[string]string{
		"./controller": "bin/cert-manager-controller",
		"./webhook":    "bin/cert-manager-webhook",
		"./cainjector": "bin/cert-manager-cainjector",
		"./chart":      "bin/cert-manager-chart",
	},
}

// Node is all else that a node runs.
var Node = group{
	name: "node", tags: tags, ldflags: ldflags,
	sources: []string{"coredns", "pause"},
	outputs: map[string]string{
		kubernetes + "kube-controller-manager": "bin/kube-controller-manager",
		kubernetes + "kube-scheduler":          "bin/kube-scheduler",
		kubernetes + "kube-proxy":              "bin/kube-proxy",
		kubernetes + "kubelet":                 "bin/kubelet",
		containerd + "containerd":              "bin/containerd",
		containerd + "containerd-shim-runc-v2": "bin/containerd-shim-runc-v2",
		containerd + "ctr":                     "bin/ctr",
		cniPlugins + "main/bridge":             "cni/bridge",
		cniPlugins + "main/loopback":           "cni/loopback",
		cniPlugins + "ipam/host-local":         "cni/host-local",
		cniPlugins + "meta/portmap":            "cni/portmap",
		"./coredns":                            "bin/coredns",
		"./pause":                              "bin/pause",
	},
	packages: []string{"nftables"}, // CNI's portmap runs nft
}

// Runc is on its own because it needs C, for its first moments in a container and for libseccomp.
var Runc = group{
	name: "runc", cgo: true, tags: "seccomp", ldflags: "-s -w",
	outputs:  map[string]string{"github.com/opencontainers/runc": "bin/runc"},
	packages: []string{"gcc", "libseccomp-dev", "pkg-config"},
}

var majorVersion = regexp.MustCompile(`^v[0-9]+$`)

// binary is the name that `go build` gives to a main package.
func binary(pkg string) string {
	if base := path.Base(pkg); !majorVersion.MatchString(base) {
		return base
	}
	return path.Base(path.Dir(pkg))
}
