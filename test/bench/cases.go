// SPDX-License-Identifier: Apache-2.0

//go:build linux

package main

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/heddle-mesh/heddle/test/bench/peers"
	"github.com/heddle-mesh/heddle/test/bench/traffic"
)

// work is one kind of load.
type work struct {
	// Group is what -only selects by.
	Group, Name string
	Protocol    string
	Size        string
	Connections int
	Streams     int
	Active      int // 0: all at once
	// Open measures latency at a fixed rate too.
	Open bool
	// Target works are those that a budget is for first: the heart of each target.
	Target bool
	// Quick is part of the quick mode.
	Quick bool
	// Unit is what the processor time is divided by.
	Unit string
}

var works = []work{
	{Group: "http1", Name: "HTTP/1.1, 1 KiB, 1 connection", Protocol: traffic.HTTP1, Size: "1k", Connections: 1, Streams: 1, Unit: "request"},
	{Group: "http1", Name: "HTTP/1.1, 1 KiB, 100 connections", Protocol: traffic.HTTP1, Size: "1k", Connections: 100, Streams: 1, Open: true, Quick: true, Target: true, Unit: "request"},
	{Group: "http1", Name: "HTTP/1.1, 1 KiB, 8,000 connections, 100 at a time", Protocol: traffic.HTTP1, Size: "1k", Connections: 8000, Active: 100, Streams: 1, Unit: "request"},
	{Group: "http1", Name: "HTTP/1.1, 16 KiB, 100 connections", Protocol: traffic.HTTP1, Size: "16k", Connections: 100, Streams: 1, Quick: true, Target: true, Unit: "request"},
	{Group: "http1", Name: "HTTP/1.1, 1 MiB, 100 connections", Protocol: traffic.HTTP1, Size: "1m", Connections: 100, Streams: 1, Unit: "request"},
	{Group: "http2", Name: "HTTP/2, 1 KiB, 1 connection x 1 stream", Protocol: traffic.HTTP2, Size: "1k", Connections: 1, Streams: 1, Unit: "request"},
	{Group: "http2", Name: "HTTP/2, 1 KiB, 100 connections x 1 stream", Protocol: traffic.HTTP2, Size: "1k", Connections: 100, Streams: 1, Unit: "request"},
	{Group: "http2", Name: "HTTP/2, 1 KiB, 1 connection x 100 streams", Protocol: traffic.HTTP2, Size: "1k", Connections: 1, Streams: 100, Unit: "request"},
	{Group: "http2", Name: "HTTP/2, 1 KiB, 8 connections x 100 streams", Protocol: traffic.HTTP2, Size: "1k", Connections: 8, Streams: 100, Open: true, Quick: true, Target: true, Unit: "request"},
	{Group: "grpc", Name: "gRPC unary, 8 connections x 16 streams", Protocol: traffic.Unary, Size: "1k", Connections: 8, Streams: 16, Open: true, Quick: true, Target: true, Unit: "request"},
	{Group: "grpc", Name: "gRPC streams, 8 connections x 16 streams", Protocol: traffic.Messages, Size: "1k", Connections: 8, Streams: 16, Quick: true, Unit: "message"},
	{Group: "tcp", Name: "TCP, 1 connection", Protocol: traffic.Download, Connections: 1, Streams: 1, Unit: "MiB"},
	{Group: "tcp", Name: "TCP, 100 connections", Protocol: traffic.Download, Connections: 100, Streams: 1, Quick: true, Target: true, Unit: "MiB"},
	{Group: "tcp", Name: "TCP, 1 KiB there and back, 100 connections", Protocol: traffic.Echo, Connections: 100, Streams: 1, Open: true, Quick: true, Unit: "round trip"},
	{Group: "tls", Name: "TLS handshakes, server side", Protocol: traffic.Handshakes, Connections: 16, Quick: true, Unit: "handshake"},
}

// groups are what -only takes.
var groups = []string{"http1", "http2", "grpc", "tcp", "memory", "tls", "limits", "features", "size"}

// selected returns the works of groups: those with named in their names, if that is not empty, otherwise in quick mode
// those that are part of it.
func selected(only []string, quick bool, named string) []work {
	return slices.DeleteFunc(slices.Clone(works), func(w work) bool {
		switch {
		case !slices.Contains(only, w.Group):
			return true
		case named != "":
			return !strings.Contains(w.Name, named)
		}
		return quick && !w.Quick
	})
}

// target is where an instance takes the load, the zero value if it doesn't.
func (w work) target(i *peers.Instance) netip.AddrPort {
	switch w.Protocol {
	case traffic.HTTP1, traffic.Post:
		return i.HTTP1
	case traffic.Download, traffic.Echo:
		return i.TCP
	case traffic.Handshakes:
		return i.Inbound
	default:
		return i.HTTP2
	}
}

// processes are those whose processor time counts.
func (w work) processes(i *peers.Instance) []int {
	if w.Protocol == traffic.Handshakes {
		return i.Server()
	}
	return i.Processes()
}

// parseList reads names with commas between, and checks that each is known.
func parseList(flag, list string, known []string) ([]string, error) {
	if list == "" {
		return known, nil
	}
	names := strings.Split(list, ",")
	for _, name := range names {
		if !slices.Contains(known, name) {
			return nil, fmt.Errorf("-%s %s: want some of %s", flag, name, strings.Join(known, ","))
		}
	}
	return names, nil
}
