// SPDX-License-Identifier: Apache-2.0

package node

import (
	"embed"
	"fmt"
	"os"
	"path/filepath"
	"syscall"
	"text/template"

	"github.com/heddle-mesh/heddle/test/cluster/internal/build"
	"github.com/heddle-mesh/heddle/test/cluster/internal/home"
)

//go:embed files
var files embed.FS

// settings fill the daemons' configuration files.
type settings struct {
	Bin, CNI, PKI, Run   string
	Cgroup               string
	PauseImage, NodeName string
	PodCIDR, DNSIP       string
	OpenFiles            uint64
}

// writeFiles writes the daemons' configuration into the run folder.
func writeFiles(h home.Home, cgroup string) error {
	var limit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
		return err
	}
	s := settings{
		Bin: h.Bin(), CNI: h.CNI(), PKI: h.PKI(), Run: h.Run(),
		Cgroup: cgroup, PauseImage: build.PauseImage, NodeName: home.NodeName,
		PodCIDR: home.PodCIDR.String(), DNSIP: home.DNSIP.String(), OpenFiles: limit.Max,
	}
	templates, err := template.ParseFS(files, "files/*")
	if err != nil {
		return err
	}
	for name, to := range map[string]string{
		"cni.conflist":    "cni/10-heddle.conflist",
		"containerd.toml": "containerd.toml",
		"kubelet.yaml":    "kubelet.yaml",
		"proxy.yaml":      "proxy.yaml",
	} {
		if err := writeFile(templates.Lookup(name), s, filepath.Join(h.Run(), to)); err != nil {
			return fmt.Errorf("configuration %s: %w", name, err)
		}
	}
	return os.WriteFile(filepath.Join(h.Run(), "resolv.conf"), nil, 0o644)
}

func writeFile(t *template.Template, s settings, file string) error {
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
		return err
	}
	f, err := os.Create(file)
	if err != nil {
		return err
	}
	if err := t.Execute(f, s); err != nil {
		f.Close()
		return err
	}
	return f.Close()
}
