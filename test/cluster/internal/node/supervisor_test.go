// SPDX-License-Identifier: Apache-2.0

package node

import (
	"context"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/heddle-mesh/heddle/test/cluster/internal/home"
)

var onlyReaper = sync.OnceValue(newReaper)

// supervise runs shell scripts as daemons and answers requests about them, as a node does.
func supervise(t *testing.T, scripts map[string]string) home.Home {
	t.Helper()
	h := home.Home(t.TempDir())
	for _, dir := range []string{h.Bin(), h.Log(), h.Run()} {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	var list []daemon
	for name, script := range scripts {
		if err := os.WriteFile(filepath.Join(h.Bin(), name), []byte("#!/bin/sh\n"+script), 0o755); err != nil {
			t.Fatal(err)
		}
		list = append(list, daemon{name: name, program: name})
	}
	listener, err := net.Listen("unix", h.Control())
	if err != nil {
		t.Fatal(err)
	}
	s := newSupervisor(h, list, onlyReaper())
	s.patience = 200 * time.Millisecond
	ctx, cancel := context.WithCancel(context.Background())
	served, ran := make(chan struct{}), make(chan struct{})
	go func() { s.serve(ctx, listener); close(served) }()
	go func() { s.run(ctx); close(ran) }()
	t.Cleanup(func() {
		cancel()
		<-served
		for _, u := range s.units {
			if err := u.stop(context.Background(), s.patience); err != nil {
				t.Error(err)
			}
		}
		<-ran
	})
	return h
}

// until asks for the status until it holds a text.
func until(t *testing.T, h home.Home, want string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	var got string
	err := poll(ctx, func() (yes bool) {
		var err error
		got, err = Ask(ctx, h, "status")
		return err == nil && strings.Contains(got, want)
	})
	if err != nil {
		t.Fatalf("status is %q, want %q in it", got, want)
	}
}

func TestStopAndStart(t *testing.T) {
	h := supervise(t, map[string]string{"good": "exec sleep 60"})
	until(t, h, "started 1 times")
	if _, err := Ask(t.Context(), h, "stop good"); err != nil {
		t.Fatal(err)
	}
	until(t, h, "stopped") // and so it stays: were it restarted, the next count would be 3
	if _, err := Ask(t.Context(), h, "stop good"); err != nil {
		t.Errorf("stopping what is stopped: %v", err)
	}
	if _, err := Ask(t.Context(), h, "start good"); err != nil {
		t.Fatal(err)
	}
	until(t, h, "started 2 times")
}

func TestStopByForce(t *testing.T) {
	h := supervise(t, map[string]string{"stubborn": "trap '' TERM; echo ready; while :; do sleep 0.1; done"})
	until(t, h, "running")
	if _, err := Ask(t.Context(), h, "stop stubborn"); err != nil {
		t.Fatal(err)
	}
	until(t, h, "stopped")
}

func TestRestart(t *testing.T) {
	h := supervise(t, map[string]string{"short": "exit 3"})
	until(t, h, "started 2 times")
	output, err := os.ReadFile(filepath.Join(h.Log(), "short.log"))
	if err != nil || !strings.Contains(string(output), "cluster: short exited with 3") {
		t.Errorf("the log is %q, %v", output, err)
	}
}

func TestRequestsRefused(t *testing.T) {
	h := supervise(t, map[string]string{"good": "exec sleep 60"})
	for _, request := range []string{"", "stop", "stop other", "burn good", "stop good now", strings.Repeat("x", 2*maxRequest)} {
		if answer, err := Ask(t.Context(), h, request); err == nil && answer != "" {
			t.Errorf("request %.20q was answered %q", request, answer)
		}
	}
	until(t, h, "running")
}

func TestAskWithoutNode(t *testing.T) {
	if _, err := Ask(t.Context(), home.Home(t.TempDir()), "status"); err == nil {
		t.Error("a node that is not there has answered")
	}
}
