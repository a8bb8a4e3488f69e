// SPDX-License-Identifier: Apache-2.0

//go:build linux

package peers

import (
	"fmt"
	"net/netip"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"

	"github.com/heddle-mesh/heddle/test/bench/epoll"
	"github.com/heddle-mesh/heddle/test/bench/traffic"
)

// NetHTTP is test/bench/reverseproxy.
func NetHTTP() Peer { return &netHTTP{} }

type netHTTP struct{ path string }

func (n *netHTTP) Name() string { return "net/http" }

func (n *netHTTP) Version() (version, path string, err error) {
	return "httputil.ReverseProxy of " + runtime.Version(), n.path, nil
}

// Build builds a package of the module into the cache and returns the binary's path.
func (s *Site) Build(name, pkg string) (string, error) {
	path := filepath.Join(s.Cache, name)
	cmd := exec.Command("go", "build", "-trimpath", "-ldflags", "-s -w", "-o", path, pkg) //nolint:noctx // ends by itself
	cmd.Dir = s.Root
	cmd.Env = append(cmd.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("build %s: %w\n%s", pkg, err, out)
	}
	return path, nil
}

func (n *netHTTP) Start(site *Site, topology Topology) (i *Instance, err error) {
	if n.path == "" {
		if n.path, err = site.Build("reverseproxy", "./test/bench/reverseproxy"); err != nil {
			return nil, err
		}
	}
	l, err := newLayout(site)
	if err != nil {
		return nil, err
	}
	i = l.instance(topology)
	i.TCP = netip.AddrPort{} // net/http has nothing for it
	defer func() {
		if err != nil {
			i.Stop()
		}
	}()
	listen := fmt.Sprintf("1=%d,2=%d", l.Listen("1"), l.Listen("2"))
	if topology == Plain {
		i.Client, err = n.side(site, i, []netip.AddrPort{i.HTTP1, i.HTTP2}, "-listen", listen, "-routes", fmt.Sprint(traffic.Routes),
			"-to", fmt.Sprintf("1=%s/%s,2=%s/%s", l.Origin("1", "stable"), l.Origin("1", "canary"), l.Origin("2", "stable"), l.Origin("2", "canary")))
		return i, err
	}
	var in, to, next []string
	var inbound []netip.AddrPort
	for _, protocol := range []string{"1", "2"} {
		for _, track := range []string{"stable", "canary"} {
			port, origin := l.Inbound(protocol, track), l.Origin(protocol, track)
			inbound = append(inbound, epoll.Loopback(port))
			in = append(in, fmt.Sprintf("%s-%s=%d", protocol, track, port))
			to = append(to, fmt.Sprintf("%s-%s=%s/%s", protocol, track, origin, origin))
		}
		next = append(next, fmt.Sprintf("%s=%v/%v", protocol, inbound[len(inbound)-2], inbound[len(inbound)-1]))
	}
	tls := []string{"-ca", l.CA, "-cert", l.Cert, "-key", l.Key}
	i.Server, err = n.side(site, i, inbound, append(tls, "-tls-in", "-listen", strings.Join(in, ","), "-to", strings.Join(to, ","))...)
	if err != nil {
		return nil, err
	}
	i.Client, err = n.side(site, i, []netip.AddrPort{i.HTTP1, i.HTTP2},
		append(tls, "-tls-out", "-listen", listen, "-routes", fmt.Sprint(traffic.Routes), "-to", strings.Join(next, ","))...)
	return i, err
}

func (n *netHTTP) side(site *Site, i *Instance, await []netip.AddrPort, args ...string) (func() []int, error) {
	p, err := Start(site.Processors, site.Log, []string{"GOMAXPROCS=1"}, n.path, args...)
	if err != nil {
		return nil, err
	}
	i.processes = append(i.processes, p)
	return p.family, p.Await(await...)
}
