// SPDX-License-Identifier: Apache-2.0

//go:build linux

package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"syscall"
	"time"

	"github.com/heddle-mesh/heddle/test/bench/peers"
	"github.com/heddle-mesh/heddle/test/bench/traffic"
)

var peerNames = []string{"heddle", "haproxy", "nginx", "envoy", "net/http", "linkerd"}

// run is one run of the bench.
type run struct {
	*options
	out    io.Writer
	site   *peers.Site
	origin *peers.Process
	peers  []peers.Peer
	report *report
}

func bench(ctx context.Context, args []string, out io.Writer) (err error) {
	o, err := parse(args)
	if err != nil {
		return err
	}
	r := &run{options: o, out: out}
	if o.from != "" {
		return r.reread()
	}
	if err := r.setUp(); err != nil {
		return err
	}
	defer func() { r.tearDown(err != nil) }()
	err = r.all(ctx)
	if len(r.report.Measurements)+len(r.report.Memory)+len(r.report.Limits)+len(r.report.Features) == 0 {
		return err
	}
	return errors.Join(err, r.finish(err == nil))
}

// all does what the flags ask for.
func (r *run) all(ctx context.Context) error {
	if r.pgo != "" {
		return r.profiles(ctx, filepath.Join(r.site.Dir, "profiles"), r.pgo)
	}
	for _, topology := range r.topologies {
		if err := r.topology(ctx, peers.Topology(topology)); err != nil {
			return err
		}
	}
	if slices.Contains(r.only, "memory") && !r.quick {
		if err := r.memories(ctx); err != nil {
			return err
		}
	}
	if slices.Contains(r.only, "limits") && slices.Contains(r.options.peers, ours) {
		if err := r.underAttack(ctx); err != nil {
			return err
		}
	}
	if slices.Contains(r.only, "features") && slices.Contains(r.options.peers, ours) {
		if err := r.features(ctx); err != nil {
			return err
		}
	}
	if r.profileDir != "" && slices.Contains(r.options.peers, ours) {
		return r.profiles(ctx, r.profileDir, "")
	}
	return nil
}

// setUp makes the run's folder and starts the origin.
func (r *run) setUp() error {
	raiseFiles()
	root, err := moduleRoot()
	if err != nil {
		return err
	}
	dir, err := os.MkdirTemp("", "heddle-bench-")
	if err != nil {
		return err
	}
	if err := os.Chmod(dir, 0o755); err != nil { //nolint:gosec // workers of other users work in it
		return err
	}
	log, err := os.Create(filepath.Join(dir, "log"))
	if err != nil {
		return err
	}
	r.site = &peers.Site{Dir: dir, Cache: r.cache, Root: root, Processors: r.proxyOn, Log: log}
	if r.site.PKI, err = peers.NewPKI(dir); err != nil {
		return err
	}
	var taken peers.FreePorts
	for _, port := range []*int{&r.site.Origins.HTTP1, &r.site.Origins.HTTP2, &r.site.Origins.TCP} {
		if *port, err = taken.Take(); err != nil {
			return err
		}
	}
	r.report = newReport(r)
	return r.startOrigin()
}

func (r *run) startOrigin() error {
	spec, err := json.Marshal(r.site.Origins)
	if err != nil {
		return err
	}
	self, err := os.Executable()
	if err != nil {
		return err
	}
	r.origin, err = peers.Start(r.loadOn, r.site.Log, []string{"GOMAXPROCS=1"}, self, "origin", string(spec))
	if err != nil {
		return err
	}
	return r.origin.Await(netip.AddrPortFrom(traffic.Canary, uint16(r.site.Origins.TCP))) //nolint:gosec // a port
}

func (r *run) tearDown(failed bool) {
	if r.origin != nil {
		r.origin.Stop()
	}
	if failed || r.report.failed {
		fmt.Fprintln(r.out, "what the proxies said is in", filepath.Join(r.site.Dir, "log"))
		return
	}
	_ = os.RemoveAll(r.site.Dir)
}

// raiseFiles allows as many open files as the kernel lets us, for 8,000 connections on both sides of a proxy.
func raiseFiles() {
	for _, n := range []uint64{1 << 18, 1 << 17, 1 << 16} {
		if syscall.Setrlimit(syscall.RLIMIT_NOFILE, &syscall.Rlimit{Cur: n, Max: n}) == nil {
			return
		}
	}
	var limit syscall.Rlimit
	if syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit) == nil {
		limit.Cur = limit.Max
		_ = syscall.Setrlimit(syscall.RLIMIT_NOFILE, &limit)
	}
}

func moduleRoot() (string, error) {
	dir, err := os.Getwd()
	for ; err == nil; dir = filepath.Dir(dir) {
		if _, missing := os.Stat(filepath.Join(dir, "go.mod")); missing == nil {
			return dir, nil
		}
		if dir == filepath.Dir(dir) {
			break
		}
	}
	return "", errors.New("no go.mod: run it in the tree")
}

// running is a peer that takes load.
type running struct {
	peers.Peer
	*peers.Instance
}

// topology starts all peers so, and measures them.
func (r *run) topology(ctx context.Context, topology peers.Topology) error {
	works := selected(r.only, r.quick, r.work)
	if len(works) == 0 {
		return nil
	}
	up := r.start(topology)
	defer func() {
		for _, p := range up {
			p.Stop()
		}
	}()
	for _, p := range up {
		for _, problem := range check(ctx, p.Instance) {
			r.report.problem(p.Name(), topology, problem)
		}
	}
	return r.measure(ctx, topology, up, works)
}

// start starts the peers. One that isn't to be had here, or doesn't start, is told and left out.
func (r *run) start(topology peers.Topology) []running {
	var up []running
	for _, p := range r.chosen() {
		i, err := p.Start(r.site, topology)
		if err != nil {
			r.report.problem(p.Name(), topology, err.Error())
			continue
		}
		up = append(up, running{p, i})
		r.report.started(p)
	}
	return up
}

// chosen returns the peers that -peers names, the same ones each time.
func (r *run) chosen() []peers.Peer {
	if r.peers != nil {
		return r.peers
	}
	all := map[string]peers.Peer{
		"heddle": peers.Heddle(ours, r.heddle, r.proxy), "haproxy": peers.HAProxy(), "nginx": peers.Nginx(),
		"envoy": peers.Envoy(), "net/http": peers.NetHTTP(), "linkerd": peers.Linkerd(r.linkerd),
	}
	for _, name := range peerNames {
		if slices.Contains(r.options.peers, name) {
			r.peers = append(r.peers, all[name])
		}
		if name == ours && r.base != "" {
			r.peers = append(r.peers, peers.Heddle("heddle-base", r.heddle, r.base))
		}
	}
	return r.peers
}

// round measures every peer once. Who begins changes from round to round.
func (r *run) round(ctx context.Context, topology peers.Topology, up []running, w work, round int, rate float64) error {
	for n := range up {
		p := up[(n+round)%len(up)]
		if !w.target(p.Instance).IsValid() {
			continue
		}
		if err := r.settle(ctx, up); err != nil {
			return err
		}
		result, err := r.generate(ctx, r.loadOf(w, p.Instance, round, rate))
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if err == nil {
			err = p.Alive()
		}
		r.report.add(measurement{
			Peer: p.Name(), Topology: topology, Work: w.Name, Round: round, Rate: rate, Result: result, Failure: text(err),
		})
	}
	return nil
}

// loadOf is what the generator is told to measure a work on an instance. The seed is the round's, so that all peers get the
// same.
func (r *run) loadOf(w work, i *peers.Instance, round int, rate float64) traffic.Load {
	warmup, duration := r.warmup, r.duration
	if rate > 0 {
		warmup, duration = max(4*warmup, time.Second), 2*duration // the pools find the size that the rate needs
	}
	return traffic.Load{
		Target: w.target(i), Protocol: w.Protocol, Size: w.Size, Connections: w.Connections, Streams: w.Streams, Active: w.Active,
		Rate: rate, Seed: uint64(round) + 1, Warmup: warmup, Duration: duration, //nolint:gosec // a small number
		Processes: w.processes(i), Others: []int{r.origin.PID}, Credentials: i.Credentials,
	}
}

// settle waits until no proxy has anything left to do of what was measured before, such as to close 8,000 connections.
func (r *run) settle(ctx context.Context, up []running) error {
	const step, limit = 50 * time.Millisecond, 10 * time.Second
	tick := time.NewTicker(step)
	defer tick.Stop()
	last := time.Duration(-1)
	for begin := time.Now(); time.Since(begin) < limit; {
		var sum time.Duration
		for _, p := range up {
			for _, pid := range p.Processes() {
				if t, err := traffic.ProcessorTime(pid); err == nil { // one that has ended is told by its measurement
					sum += t
				}
			}
		}
		if last >= 0 && sum-last < step/50 {
			break
		}
		last = sum
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-tick.C:
		}
	}
	return nil
}

func text(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}

// generate runs the generator in a process of its own.
func (r *run) generate(ctx context.Context, l traffic.Load) (*traffic.Result, error) {
	spec, err := json.Marshal(l)
	if err != nil {
		return nil, err
	}
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	var out, problems bytes.Buffer
	p, err := peers.StartTo(r.loadOn, &out, &problems, []string{"GOMAXPROCS=1"}, self, "load", string(spec))
	if err != nil {
		return nil, err
	}
	limit := time.NewTimer(l.Warmup + l.Duration + 90*time.Second)
	defer limit.Stop()
	select {
	case <-p.Done():
	case <-ctx.Done():
	case <-limit.C:
	}
	p.Stop()
	var result traffic.Result
	if err := json.Unmarshal(out.Bytes(), &result); err != nil {
		return nil, fmt.Errorf("the generator: %w: %s", err, problems.Bytes())
	}
	return &result, nil
}
