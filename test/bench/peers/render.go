// SPDX-License-Identifier: Apache-2.0

//go:build linux

package peers

import (
	"embed"
	"fmt"
	"net/netip"
	"os"
	"path"
	"path/filepath"
	"strings"
	"syscall"
	"text/template"

	"github.com/heddle-mesh/heddle/test/bench/traffic"
)

//go:embed heddle haproxy nginx envoy
var configurations embed.FS

// layout is what a configuration is rendered with.
type layout struct {
	Dir                     string
	CA, Cert, Key, Combined string
	Routes                  []string // prefixes of paths
	Admin                   int
	// Files is how many files a process may open, Connections how many connections it can so relay.
	Files, Connections int
	// Feature is what Heddle is to do besides.
	Feature Feature

	ports   map[string]int
	origins traffic.Ports
}

// newLayout takes all ports that any topology needs.
func newLayout(site *Site) (*layout, error) {
	l := &layout{
		CA: site.PKI.CA, Cert: site.PKI.Cert, Key: site.PKI.Key, Combined: site.PKI.Combined,
		ports: map[string]int{}, origins: site.Origins, Files: files(), Connections: (files() - 1000) / 2,
	}
	for i := range traffic.Routes {
		l.Routes = append(l.Routes, fmt.Sprintf("/r%02d/", i))
	}
	for _, name := range []string{"1", "2", "tcp", "1-stable", "1-canary", "2-stable", "2-canary", "tcp-stable", "tcp-canary", "client", "server"} {
		port, err := ports.Take()
		if err != nil {
			return nil, err
		}
		l.ports[name] = port
	}
	return l, nil
}

var ports FreePorts

// files is how many files a process may open here, and no more than 8,000 connections need: nginx makes room for all of
// them at its start.
func files() int {
	var limit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
		return 1024
	}
	return int(min(limit.Cur, 20_000)) //nolint:gosec // bounded
}

// Listen returns the port for the application's HTTP, "1" or "2", or "tcp".
func (l *layout) Listen(protocol string) int { return l.ports[protocol] }

// Inbound returns the port of the server side for a track, "stable" or "canary"; TCP has "stable" alone.
func (l *layout) Inbound(protocol, track string) int { return l.ports[protocol+"-"+track] }

// Port and Host are the parts of what Origin returns.
func (l *layout) Port(protocol string) int {
	return map[string]int{"1": l.origins.HTTP1, "2": l.origins.HTTP2, "tcp": l.origins.TCP}[protocol]
}

// Host returns the address of a track.
func (l *layout) Host(track string) netip.Addr {
	if track == "canary" {
		return traffic.Canary
	}
	return traffic.Stable
}

// Origin returns the address of the application for a protocol and a track.
func (l *layout) Origin(protocol, track string) string {
	return netip.AddrPortFrom(l.Host(track), uint16(l.Port(protocol))).String() //nolint:gosec // a port
}

// render writes the files of a folder whose names begin with a prefix into dir, and returns the path of the first.
func (l *layout) render(dir, peer, prefix string) (string, error) {
	l.Dir = dir
	entries, err := configurations.ReadDir(peer)
	if err != nil {
		return "", err
	}
	first := ""
	for _, entry := range entries {
		name := entry.Name()
		if !strings.HasPrefix(name, prefix) && (strings.HasPrefix(name, "pair") || strings.HasPrefix(name, "plain")) {
			continue
		}
		text, err := configurations.ReadFile(path.Join(peer, name))
		if err != nil {
			return "", err
		}
		t, err := template.New(name).Funcs(template.FuncMap{"list": func(s ...string) []string { return s }}).Parse(string(text))
		if err != nil {
			return "", err
		}
		target := filepath.Join(dir, strings.TrimSuffix(name, ".tmpl"))
		file, err := os.Create(target)
		if err != nil {
			return "", err
		}
		if err := t.Execute(file, l); err != nil {
			return "", err
		}
		if err := file.Close(); err != nil {
			return "", err
		}
		if strings.HasPrefix(name, prefix) && first == "" {
			first = target
		}
	}
	if first == "" {
		return "", fmt.Errorf("%s has no configuration %s", peer, prefix)
	}
	return first, nil
}
