// SPDX-License-Identifier: Apache-2.0

//go:build conformance

package conformance

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

var (
	tools   = flag.String("tools", "bin/conformance", "directory of the suites' binaries; relative ones are below the repository")
	heddle  = flag.String("heddle", "bin/heddle", "the CLI; empty runs the pair in this process, which measures no memory")
	require = flag.Bool("require", false, "fail for what cannot be measured here")
)

const root = "../.."

func TestMain(m *testing.M) {
	if os.Getenv(wrapVariable) != "" {
		if err := wrapServer(); err != nil {
			fmt.Fprintln(os.Stderr, "conformance:", err)
			os.Exit(1)
		}
		return
	}
	flag.Parse()
	code := m.Run()
	summary.print()
	os.Exit(code)
}

// results are a line for each suite.
type results struct {
	mu    sync.Mutex
	lines []string
}

var summary results

func (r *results) add(line string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.lines = append(r.lines, line)
}

func (r *results) print() {
	fmt.Println("== conformance")
	for _, line := range r.lines {
		fmt.Println(line)
	}
}

// score notes what a suite came to, and fails the test unless all passed. output tells why they did not.
func score(t *testing.T, suite string, start time.Time, passed, want int, output string) {
	t.Helper()
	verdict := "ok  "
	if passed != want {
		verdict = "FAIL"
		t.Errorf("%s: %d of %d passed\n%s", suite, passed, want, output)
	}
	summary.add(fmt.Sprintf("%s %-52s %4d of %4d %6.1f s", verdict, suite, passed, want, time.Since(start).Seconds()))
}

// unmeasured notes a suite that cannot run here.
func unmeasured(t *testing.T, suite, why string) {
	t.Helper()
	summary.add(fmt.Sprintf("UNMEASURED %s: %s", suite, why))
	if *require {
		t.Fatalf("%s is unmeasured: %s", suite, why)
	}
	t.Skip(why)
}

// below makes a path below the repository absolute.
func below(tb testing.TB, path string) string {
	tb.Helper()
	if !filepath.IsAbs(path) {
		path = filepath.Join(root, path)
	}
	path, err := filepath.Abs(path)
	check(tb, err)
	return path
}

func check(tb testing.TB, err error) {
	tb.Helper()
	if err != nil {
		tb.Fatal(err)
	}
}

// tool returns the path of a suite's binary.
func tool(tb testing.TB, name string) string {
	tb.Helper()
	path := filepath.Join(below(tb, *tools), name)
	if _, err := os.Stat(path); err != nil {
		tb.Fatalf("%v: run make conformance, which builds it", err)
	}
	return path
}

// run runs a command, for so long at most, and returns its output.
func run(t *testing.T, most time.Duration, name string, args ...string) (string, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), most)
	defer cancel()
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.WaitDelay = 5 * time.Second
	out, err := cmd.CombinedOutput()
	if ctx.Err() != nil && t.Context().Err() == nil {
		err = errors.Join(fmt.Errorf("it took longer than %v", most), err)
	}
	return string(out), err
}

// start runs a command until the test ends.
func start(tb testing.TB, name string, args ...string) {
	tb.Helper()
	cmd := exec.Command(name, args...)
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	check(tb, cmd.Start())
	tb.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		if tb.Failed() && out.Len() > 0 {
			tb.Logf("%s said:\n%s", filepath.Base(name), out.String())
		}
	})
}

// await waits until something is so.
func await(tb testing.TB, what string, so func() bool) {
	tb.Helper()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	deadline := time.NewTimer(30 * time.Second)
	defer deadline.Stop()
	for !so() {
		select {
		case <-tick.C:
		case <-deadline.C:
			tb.Fatal("in vain: " + what)
		}
	}
}

// tail returns the last lines of an output.
func tail(out string, n int) string {
	lines := strings.Split(strings.TrimRight(out, "\n"), "\n")
	return strings.Join(lines[max(0, len(lines)-n):], "\n")
}
