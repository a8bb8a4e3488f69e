// SPDX-License-Identifier: Apache-2.0

package pair

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// patience is how long a sandbox may take until it is ready, or has ended.
const patience = 60 * time.Second

// Sandbox is a `heddle sandbox` that runs: proxies that are processes.
type Sandbox struct {
	// Clients are the client-side proxies by service, "name.namespace:port", and Servers the server-side ones by endpoint.
	Clients, Servers map[string]Process

	cmd   *exec.Cmd
	ended chan struct{}

	mu   sync.Mutex
	said bytes.Buffer
}

// Process is one proxy.
type Process struct {
	Listen, Admin netip.AddrPort
	PID           int
}

// StartSandbox starts a sandbox with a binary of the CLI, waits until it is ready, and ends it when the test ends.
func StartSandbox(tb testing.TB, binary string, args ...string) *Sandbox {
	tb.Helper()
	s := &Sandbox{Clients: make(map[string]Process), Servers: make(map[string]Process), ended: make(chan struct{})}
	s.cmd = exec.CommandContext(context.WithoutCancel(tb.Context()), binary, append([]string{"sandbox"}, args...)...)
	s.cmd.Env = append(os.Environ(), "HEDDLE_ACCESS_LOG=off", "HEDDLE_LOG_LEVEL=warn") // the proxies inherit it
	s.cmd.Stderr = s
	out, err := s.cmd.StdoutPipe()
	if err == nil {
		err = s.cmd.Start()
	}
	if err != nil {
		tb.Fatal(err)
	}
	ready := make(chan error, 1)
	go func() {
		defer close(s.ended)
		ready <- s.read(out)
		_, _ = io.Copy(s, out)
		if err := s.cmd.Wait(); err != nil {
			fmt.Fprintln(s, err)
		}
	}()
	tb.Cleanup(func() {
		_ = s.cmd.Process.Signal(syscall.SIGTERM)
		<-s.ended
		if tb.Failed() {
			said := s.Said()
			tb.Logf("the sandbox's last words:\n%s", said[max(0, len(said)-4000):])
		}
	})
	timer := time.NewTimer(patience)
	defer timer.Stop()
	select {
	case err = <-ready:
	case <-timer.C:
		err = fmt.Errorf("it is not ready in %v", patience)
	}
	if err != nil {
		tb.Fatalf("the sandbox: %v\n%s", err, s.Said())
	}
	return s
}

// read reads what listens where, until all is ready.
func (s *Sandbox) read(out io.Reader) error {
	lines := bufio.NewScanner(out)
	for lines.Scan() {
		if lines.Text() == "ready" {
			return nil
		}
		fmt.Fprintln(s, lines.Text())
		kind, rest, _ := strings.Cut(lines.Text(), " ")
		switch kind {
		case "client":
			name, p, err := parseProcess(rest, "service")
			if err != nil {
				return err
			}
			s.Clients[name] = p
		case "server":
			name, p, err := parseProcess(rest, "endpoint")
			if err != nil {
				return err
			}
			s.Servers[name] = p
		}
	}
	return errors.Join(errors.New("it ended before it was ready"), lines.Err())
}

// parseProcess parses "endpoint=127.0.0.11:9001 listen=127.0.0.1:8443 ... pid=123".
func parseProcess(line, key string) (name string, p Process, err error) {
	values := make(map[string]string)
	for word := range strings.FieldsSeq(line) {
		k, v, _ := strings.Cut(word, "=")
		values[k] = v
	}
	var errs [3]error
	p.Listen, errs[0] = netip.ParseAddrPort(values["listen"])
	p.Admin, errs[1] = netip.ParseAddrPort(values["admin"])
	p.PID, errs[2] = strconv.Atoi(values["pid"])
	if err := errors.Join(errs[:]...); err != nil {
		return "", p, fmt.Errorf("%q: %w", line, err)
	}
	return values[key], p, nil
}

// Write implements io.Writer, for what the sandbox says.
func (s *Sandbox) Write(b []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.said.Write(b)
}

// Said is what the sandbox and its proxies said.
func (s *Sandbox) Said() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.said.String()
}

// Resident is the resident memory of the process, in bytes.
func (p Process) Resident() (int64, error) {
	status, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(p.PID), "status"))
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(status)) {
		if rest, ok := strings.CutPrefix(line, "VmRSS:"); ok {
			kib, err := strconv.ParseInt(strings.Fields(rest)[0], 10, 64)
			return kib << 10, err
		}
	}
	return 0, fmt.Errorf("process %d has no VmRSS", p.PID)
}

// Descriptors is how many files the process has open.
func (p Process) Descriptors() (int, error) {
	files, err := os.ReadDir(filepath.Join("/proc", strconv.Itoa(p.PID), "fd"))
	return len(files), err
}
