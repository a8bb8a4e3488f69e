// SPDX-License-Identifier: Apache-2.0

//go:build linux

package peers

import (
	"fmt"
	"net/netip"
	"os/exec"
	"strings"
)

// Linkerd is a program that starts linkerd2-proxy. That has no configuration file: it takes everything from Linkerd's
// control plane, so whoever has built one says with a program how it is started. The bench calls it with "pair" or
// "plain", on the proxies' processors, and with these in its environment; it runs until SIGTERM, and what it starts are
// its children, of which only those named linkerd2-proxy are counted.
//
//	BENCH_HTTP1, BENCH_HTTP2, BENCH_TCP                      addresses to listen on, in clear
//	BENCH_STABLE_HTTP1, ..._HTTP2, ..._TCP, BENCH_CANARY_... where the application listens
//	BENCH_CA, BENCH_CERT, BENCH_KEY                          files in PEM, of both sides
func Linkerd(path string) Peer { return &linkerd{path} }

type linkerd struct{ path string }

func (l *linkerd) Name() string { return "linkerd" }

func (l *linkerd) Version() (version, path string, err error) {
	out, err := exec.Command(l.path, "version").Output() //nolint:noctx // prints its version and ends
	return strings.TrimSpace(string(out)), l.path, err
}

func (l *linkerd) Start(site *Site, topology Topology) (*Instance, error) {
	if l.path == "" {
		return nil, fmt.Errorf("%w: -linkerd names no program", ErrUnavailable)
	}
	at, err := newLayout(site)
	if err != nil {
		return nil, err
	}
	i := at.instance(topology)
	i.Inbound = netip.AddrPort{} // where its server side listens isn't known
	env := []string{
		"BENCH_HTTP1=" + i.HTTP1.String(), "BENCH_HTTP2=" + i.HTTP2.String(), "BENCH_TCP=" + i.TCP.String(),
		"BENCH_CA=" + at.CA, "BENCH_CERT=" + at.Cert, "BENCH_KEY=" + at.Key, "LINKERD2_PROXY_CORES=1",
	}
	for protocol, name := range map[string]string{"1": "HTTP1", "2": "HTTP2", "tcp": "TCP"} {
		env = append(env, "BENCH_STABLE_"+name+"="+at.Origin(protocol, "stable"), "BENCH_CANARY_"+name+"="+at.Origin(protocol, "canary"))
	}
	p, err := Start(site.Processors, site.Log, env, l.path, string(topology))
	if err != nil {
		return nil, err
	}
	i.processes = append(i.processes, p)
	i.Client = func() []int { return named(Descendants(p.PID), "linkerd2-proxy") }
	if err := p.Await(i.HTTP1, i.HTTP2, i.TCP); err != nil {
		i.Stop()
		return nil, err
	}
	return i, nil
}
