// SPDX-License-Identifier: Apache-2.0

//go:build linux

package peers

import (
	"bufio"
	"bytes"
	"debug/buildinfo"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"runtime/debug"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/heddle-mesh/heddle/test/bench/traffic"
)

// Heddle is run by `heddle sandbox`. The paths are of heddle and heddle-proxy; empty ones are built from the tree.
func Heddle(name, heddle, proxy string) Peer { return &mesh{name: name, heddle: heddle, proxy: proxy} }

// Limited is Heddle with a list of limits.
func Limited(name, heddle, proxy, limits string) Peer {
	return &mesh{name: name, heddle: heddle, proxy: proxy, limits: limits}
}

// With is Heddle with a feature in use, and called as that.
func With(f *Feature, heddle, proxy string) Peer {
	return &mesh{name: f.Name, heddle: heddle, proxy: proxy, feature: *f}
}

type mesh struct {
	name, heddle, proxy, limits string
	feature                     Feature
}

func (m *mesh) Name() string { return m.name }

func (m *mesh) Version() (version, path string, err error) {
	out, err := exec.Command(m.proxy, "version").Output() //nolint:noctx // prints its version and ends
	if err != nil {
		return "", "", fmt.Errorf("%s: %w", m.proxy, err)
	}
	version = strings.TrimSpace(string(out))
	if info, err := buildinfo.ReadFile(m.proxy); err == nil && slices.Contains(info.Settings, withCgo) {
		version += ", built with cgo, as the images are not: it holds 1.3 MiB more"
	}
	return version, m.proxy, nil
}

var withCgo = debug.BuildSetting{Key: "CGO_ENABLED", Value: "1"}

func (m *mesh) build(site *Site) (err error) {
	if m.heddle == "" {
		if m.heddle, err = site.Build("heddle", "./cmd/heddle"); err != nil {
			return err
		}
	}
	if m.proxy == "" {
		m.proxy, err = site.Build("heddle-proxy", "./cmd/proxy")
	}
	return err
}

// Start starts the sandbox. As one proxy in clear it is the client side, whose endpoints' mTLS is Disabled.
func (m *mesh) Start(site *Site, topology Topology) (i *Instance, err error) {
	if err := m.build(site); err != nil {
		return nil, err
	}
	l, err := newLayout(site)
	if err != nil {
		return nil, err
	}
	l.Feature = m.feature
	dir, err := site.folder("heddle", topology, "sandbox")
	if err != nil {
		return nil, err
	}
	objects, pki := filepath.Join(dir, "objects"), filepath.Join(dir, "pki")
	if err := os.Mkdir(objects, 0o755); err != nil {
		return nil, err
	}
	if _, err := l.render(objects, "heddle", string(topology)); err != nil {
		return nil, err
	}
	args := []string{"sandbox", "-f", objects, "--proxy", m.proxy, "--pki", pki, "--caller", "web=shop/front"}
	for protocol, port := range map[string]string{"1": "80", "2": "81", "tcp": "82"} {
		args = append(args, "--listen", fmt.Sprintf("web:%s=127.0.0.1:%d", port, l.Listen(protocol)))
		for _, track := range []string{"stable", "canary"} {
			if topology == Pair {
				args = append(args, "--inbound", fmt.Sprintf("%s=127.0.0.1:%d", l.Origin(protocol, track), l.Inbound(protocol, track)))
			}
		}
	}
	if topology == Plain {
		args = append(args, "--outbound-only")
	}
	if m.limits != "" {
		args = append(args, "--limits", m.limits)
	}
	i = l.instance(topology)
	ready := newReady(site.Log)
	// Post-quantum key exchange is off, since no other peer has it: X25519 for all.
	p, err := StartTo(site.Processors, ready, site.Log, []string{"GOMAXPROCS=1", "GODEBUG=tlsmlkem=0,tlssecpmlkem=0"}, m.heddle, args...)
	if err != nil {
		return nil, err
	}
	i.processes = append(i.processes, p)
	if err := ready.await(p); err != nil {
		i.Stop()
		return nil, err
	}
	i.Client, i.Server, i.Refused = ready.pids("client"), nil, ready.refused
	if topology == Pair {
		i.Server = ready.pids("server")
		if i.Credentials, err = m.certificate(pki); err != nil {
			i.Stop()
			return nil, err
		}
	}
	return i, p.Await(i.HTTP1, i.HTTP2, i.TCP)
}

// certificate issues one of the caller's from the sandbox's CA.
func (m *mesh) certificate(pki string) (traffic.Credentials, error) {
	out := filepath.Join(pki, "front")
	cmd := exec.Command(m.heddle, "sandbox", "cert", "--pki", pki, "--identity", "shop/front", "--out", out) //nolint:noctx // ends by itself
	if text, err := cmd.CombinedOutput(); err != nil {
		return traffic.Credentials{}, fmt.Errorf("heddle sandbox cert: %w: %s", err, text)
	}
	return traffic.Credentials{Cert: out + ".pem", Key: out + ".key"}, nil
}

// readiness reads what the sandbox prints: who listens where, with which process, and "ready".
type readiness struct {
	log io.Writer

	mu    sync.Mutex
	lines []string
	rest  []byte
	ready chan struct{}
	once  sync.Once
}

func newReady(log io.Writer) *readiness { return &readiness{log: log, ready: make(chan struct{})} }

func (r *readiness) Write(p []byte) (int, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.rest = append(r.rest, p...)
	for {
		line, rest, ok := bytes.Cut(r.rest, []byte("\n"))
		if !ok {
			break
		}
		if r.rest = rest; string(line) == "ready" {
			r.once.Do(func() { close(r.ready) })
		}
		r.lines = append(r.lines, string(line))
	}
	return r.log.Write(p)
}

func (r *readiness) await(p *Process) error {
	limit := time.NewTimer(30 * time.Second)
	defer limit.Stop()
	select {
	case <-r.ready:
		return nil
	case <-p.Done():
		return errors.New("heddle sandbox: ended at once")
	case <-limit.C:
		return errors.New("heddle sandbox: isn't ready after 30 s")
	}
}

// pids returns the processes of the lines that begin with a word.
func (r *readiness) pids(side string) func() []int {
	return func() []int {
		r.mu.Lock()
		defer r.mu.Unlock()
		return sandboxPIDs(r.lines, side)
	}
}

// refused returns the last line of each object that is not in force.
func (r *readiness) refused() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return notReady(r.lines)
}

// notReady finds the objects' lines, FILE KIND NAME: Ready=True and more, of which the last of an object counts.
func notReady(lines []string) []string {
	last := map[string]string{}
	for _, line := range lines {
		if object, state, ok := strings.Cut(line, ": "); ok && strings.Contains(state, "=") {
			last[object] = state
		}
	}
	var out []string
	for _, object := range slices.Sorted(maps.Keys(last)) {
		if state := last[object]; !strings.Contains(state, "Ready=True") {
			out = append(out, object+": "+state)
		}
	}
	return out
}

// sandboxPIDs finds the pid= of the lines of a side, each once. A proxy that was started anew has the last line.
func sandboxPIDs(lines []string, side string) []int {
	seen := map[int]bool{}
	var out []int
	for _, line := range lines {
		words := bufio.NewScanner(strings.NewReader(line))
		words.Split(bufio.ScanWords)
		if !words.Scan() || words.Text() != side {
			continue
		}
		for words.Scan() {
			var pid int
			if n, _ := fmt.Sscanf(words.Text(), "pid=%d", &pid); n == 1 && !seen[pid] {
				seen[pid] = true
				out = append(out, pid)
			}
		}
	}
	return out
}
