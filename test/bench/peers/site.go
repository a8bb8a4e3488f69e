// SPDX-License-Identifier: Apache-2.0

// Package peers starts the proxies that the bench compares, each from a configuration of this folder: as a pair of
// sidecars with mutual TLS between them, or as one proxy in clear.
package peers

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"strings"

	"github.com/heddle-mesh/heddle/test/bench/epoll"
	"github.com/heddle-mesh/heddle/test/bench/traffic"
)

// Topology says how a peer is run.
type Topology string

// The topologies.
const (
	Pair  Topology = "pair"  // plain client, client side, mutual TLS, server side, plain origin
	Plain Topology = "plain" // plain client, one proxy, plain origin
)

// Site is what the peers of a run share.
type Site struct {
	// Dir is a folder that the run owns.
	Dir string
	// Cache keeps what is built or fetched, from run to run.
	Cache string
	// Root is the folder of the module.
	Root    string
	PKI     *PKI
	Origins traffic.Ports
	// Processors are those that proxies run on.
	Processors []int
	// Log gets what the proxies print.
	Log io.Writer
}

// Instance is a peer that runs.
type Instance struct {
	// HTTP1, HTTP2 and TCP take what the generator sends. A peer that can't carry one has none: the zero value.
	HTTP1, HTTP2, TCP netip.AddrPort
	// Inbound takes HTTP/1.1 over mutual TLS, of a pair alone.
	Inbound netip.AddrPort
	// Client and Server return the proxies' processes with their children, Client alone for one proxy.
	Client, Server func() []int
	// Between are the ports of the server side that take HTTP/1.1, of a pair alone.
	Between []int
	// Credentials are those of a client that Inbound takes.
	Credentials traffic.Credentials
	// Refused returns what Heddle has said of objects that are not in force.
	Refused func() []string

	processes []*Process
}

// Processes returns those of all proxies.
func (i *Instance) Processes() []int {
	if i.Server == nil {
		return i.Client()
	}
	return append(i.Client(), i.Server()...)
}

// Stop ends every process and waits for it.
func (i *Instance) Stop() {
	for _, p := range i.processes {
		p.Stop()
	}
}

// Peer is a proxy that the bench knows.
type Peer interface {
	// Name is how it is called in the results.
	Name() string
	// Version is what it says of itself, and where its binary is.
	Version() (version, path string, err error)
	// Start starts it. An error that is an ErrUnavailable skips the peer.
	Start(site *Site, topology Topology) (*Instance, error)
}

// ErrUnavailable says that a peer, or one topology of it, isn't to be had here.
var ErrUnavailable = errors.New("not to be had here")

// FreePorts returns ports of 127.0.0.1 that nothing listens on, below those that the kernel takes for clients.
type FreePorts struct{ next int }

// Take returns the next one.
func (f *FreePorts) Take() (int, error) {
	const first, last = 20000, 32000
	for range last - first {
		f.next++
		port := first + (os.Getpid()*97+f.next)%(last-first)
		l, err := net.Listen("tcp", epoll.Loopback(port).String()) //nolint:noctx // nothing to wait for
		if err == nil {
			return port, l.Close()
		}
	}
	return 0, errors.New("no port is free")
}

// folder makes a folder of an instance.
func (s *Site) folder(name string, topology Topology, side string) (string, error) {
	return os.MkdirTemp(s.Dir, fmt.Sprintf("%s-%s-%s-", strings.ReplaceAll(name, "/", "-"), topology, side))
}
