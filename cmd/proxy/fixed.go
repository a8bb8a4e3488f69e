// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"net/netip"
	"strings"
	"time"

	"github.com/heddle-mesh/heddle/proxy/listener"
	"github.com/heddle-mesh/heddle/proxy/observe"
)

// fixed is what stands in for the redirect where there is none, as in `heddle sandbox`: listeners that know where their
// connections are going, and where those are that a callee's pod would redirect to its proxy. With it the ports of the
// redirect are not opened. An inbound destination must be an address of the pod, as ever.
type fixed struct {
	listen []fixedPort
	paths  map[string]string // by destination
	admin  string
}

type fixedPort struct {
	direction   observe.Direction
	address     string
	destination netip.AddrPort
}

// fixedListener is a fixedPort that is open.
type fixedListener struct {
	fixedPort
	listener net.Listener
}

// parseFixed reads the flags of `heddle-proxy` without a command, the list of limits among them; nil: there are no others,
// since injection sets none.
func parseFixed(args []string, list *string, stderr io.Writer) (*fixed, error) {
	f := &fixed{paths: make(map[string]string)}
	listenFlag := func(d observe.Direction) func(string) error {
		return func(value string) error {
			address, destination, err := parsePair(value)
			if err == nil {
				f.listen = append(f.listen, fixedPort{d, address.String(), destination})
			}
			return err
		}
	}
	flags := flag.NewFlagSet("heddle-proxy", flag.ContinueOnError)
	flags.Func("outbound-listen", "`ADDR=DESTINATION`: take at ADDR what the workload sends to DESTINATION, instead of a redirect; repeatable", listenFlag(observe.Outbound))
	flags.Func("inbound-listen", "`ADDR=DESTINATION`: take at ADDR what is sent to DESTINATION, an address of the workload; repeatable", listenFlag(observe.Inbound))
	flags.Func("path", "`DESTINATION=ADDR`: dial ADDR, where the callee's proxy is, for DESTINATION; repeatable", func(value string) error {
		destination, address, err := parsePair(value)
		f.paths[destination.String()] = address.String()
		return err
	})
	flags.StringVar(&f.admin, "admin-listen", "127.0.0.1:0", "`ADDR` of readiness and metrics")
	flags.StringVar(list, "limits", *list, "what callers can take, as `NAME=VALUE,...`; see docs/limits.md")
	if err := parse(flags, args, stderr); err != nil {
		return nil, err
	}
	others := false
	flags.Visit(func(f *flag.Flag) { others = others || f.Name != "limits" })
	if !others {
		return nil, nil
	}
	if err := f.validate(); err != nil {
		return nil, usageError{err}
	}
	return f, nil
}

// parsePair reads "ip:port=ip:port".
func parsePair(value string) (left, right netip.AddrPort, err error) {
	l, r, _ := strings.Cut(value, "=")
	var errs [2]error
	left, errs[0] = netip.ParseAddrPort(l)
	right, errs[1] = netip.ParseAddrPort(r)
	if err := errors.Join(errs[:]...); err != nil {
		return left, right, fmt.Errorf("%q: want IP:PORT=IP:PORT: %w", value, err)
	}
	return left, right, nil
}

func (f *fixed) validate() error {
	if len(f.listen) == 0 {
		return errors.New("want at least one -outbound-listen or -inbound-listen, or no flags at all where the pod's connections are redirected")
	}
	for _, l := range f.listen {
		for _, other := range f.listen {
			if other.address == l.destination.String() {
				return fmt.Errorf("-%s-listen %s=%s: the destination is a listener of this proxy, so it would call itself for ever", l.direction, l.address, l.destination)
			}
		}
	}
	return nil
}

// find returns where a destination is dialled.
func (f *fixed) find(destination string) string {
	if at, ok := f.paths[destination]; ok {
		return at
	}
	return destination
}

func (f *fixed) open(ctx context.Context) ([]fixedListener, error) {
	var out []fixedListener
	var errs []error
	for _, port := range f.listen {
		l, err := listenOn(ctx, port.address)
		errs = append(errs, err)
		if err == nil {
			out = append(out, fixedListener{port, l})
		}
	}
	return out, errors.Join(errs...)
}

func listenOn(ctx context.Context, address string) (net.Listener, error) {
	config := net.ListenConfig{KeepAliveConfig: net.KeepAliveConfig{
		Enable: true, Idle: time.Minute, Interval: 15 * time.Second, Count: 4,
	}}
	return config.Listen(ctx, "tcp", address)
}

// fixedListeners makes the accept loops of fixed ports.
func (p *proxy) fixedListeners(ports []fixedListener) []*listener.Listener {
	var out []*listener.Listener
	for _, port := range ports {
		options := p.listenerOptions(port.direction)
		options.OwnPorts = nil // those of the redirect, which are not open
		options.OriginalDestination = func(*net.TCPConn) (netip.AddrPort, error) { return port.destination, nil }
		out = append(out, listener.New(port.listener, options))
	}
	return out
}
