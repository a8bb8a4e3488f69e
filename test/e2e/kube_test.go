// SPDX-License-Identifier: Apache-2.0

//go:build e2e

package e2e

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
)

// kubectl runs kubectl and returns what it prints, trimmed.
func kubectl(ctx context.Context, args ...string) (string, error) {
	return kubectlIn(ctx, "", args...)
}

// kubectlIn gives it standard input too.
func kubectlIn(ctx context.Context, stdin string, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, "kubectl", args...)
	cmd.Dir = *root
	cmd.Stdin = strings.NewReader(stdin)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		return string(out), fmt.Errorf("kubectl %s: %w: %s", strings.Join(args, " "), err, stderr.String())
	}
	return strings.TrimSpace(string(out)), nil
}

// must fails the test on an error.
func must(t *testing.T, args ...string) string {
	t.Helper()
	out, err := kubectl(context.WithoutCancel(t.Context()), args...) // in a Cleanup, the test's own is over
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// pod is a pod of the shop.
type pod struct{ name, uid, ip string }

// podOf returns the first pod with these labels that runs and stays: after a rollout, those that it replaced are listed until they have drained.
func podOf(t *testing.T, labels string) pod {
	t.Helper()
	var list corev1.PodList
	if err := json.Unmarshal([]byte(must(t, "-n", "shop", "get", "pods", "-l", labels, "-o", "json")), &list); err != nil {
		t.Fatal(err)
	}
	for _, p := range list.Items {
		if p.DeletionTimestamp == nil && p.Status.Phase == corev1.PodRunning {
			return pod{p.Name, string(p.UID), p.Status.PodIP}
		}
	}
	t.Fatalf("no pod with %s runs", labels)
	return pod{}
}

// lines runs kubectl on each line, split at spaces.
func lines(t *testing.T, commands ...string) {
	t.Helper()
	for _, c := range commands {
		must(t, strings.Fields(c)...)
	}
}

func apply(t *testing.T, yaml string) {
	t.Helper()
	if _, err := kubectlIn(t.Context(), yaml, "apply", "-f", "-"); err != nil {
		t.Fatal(err)
	}
}

// remove deletes what apply made, when the test ends.
func removeAfter(t *testing.T, yaml string) {
	t.Helper()
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		if _, err := kubectlIn(ctx, yaml, "delete", "--ignore-not-found", "-f", "-"); err != nil {
			t.Error(err)
		}
	})
}

// eventually tries until it returns nil, and fails with the last error after the time given.
func eventually(t *testing.T, within time.Duration, what string, try func(ctx context.Context) error) time.Duration {
	t.Helper()
	start := time.Now()
	ctx, cancel := context.WithTimeout(context.WithoutCancel(t.Context()), within)
	defer cancel()
	tick := time.NewTicker(200 * time.Millisecond)
	defer tick.Stop()
	for {
		err := try(ctx)
		if err == nil {
			return time.Since(start)
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			t.Fatalf("%s: not within %s: %v", what, within, err)
		}
	}
}

// exec runs a program of the shop's image in the customer's pod, as its owner would with `kubectl exec`.
func customer(t *testing.T, args ...string) string {
	t.Helper()
	return must(t, append([]string{"-n", "shop", "exec", "deploy/customer", "-c", "customer", "--", "/shop"}, args...)...)
}

type answer struct {
	Status int                 `json:"status"`
	Header map[string][]string `json:"header"`
	Body   string              `json:"body"`
	Error  string              `json:"error"`
}

func (a answer) String() string {
	return fmt.Sprintf("status %d, error %q, reason %q, body %q", a.Status, a.Error, a.Header["Heddle-Reason"], a.Body)
}

// get makes one request from the customer's pod.
func get(t *testing.T, flags ...string) answer {
	t.Helper()
	return decode[answer](t, customer(t, append([]string{"get"}, flags...)...))
}

// stats is what `shop load` prints last.
type stats struct {
	Total    bool           `json:"total"`
	Requests int            `json:"requests"`
	Failed   int            `json:"failed"`
	Versions map[string]int `json:"versions"`
	Pods     map[string]int `json:"pods"`
	Moves    map[string]int `json:"moves"`
	Users    map[string]int `json:"users"`
	Statuses map[string]int `json:"statuses"`
	Callers  []string       `json:"callers"`
	P50      float64        `json:"p50"`
	P99      float64        `json:"p99"`
	Max      float64        `json:"max"`
	Errors   []string       `json:"errors"`
}

func decode[T any](t *testing.T, text string) T {
	t.Helper()
	all := strings.Split(strings.TrimSpace(text), "\n")
	var v T
	if err := json.Unmarshal([]byte(all[len(all)-1]), &v); err != nil {
		t.Fatalf("%v: %q", err, text)
	}
	return v
}

// running is a `shop` command that goes on in the background; wait returns what it printed.
type running struct {
	done chan struct{}
	err  error

	mu  sync.Mutex
	out bytes.Buffer
}

func background(ctx context.Context, args ...string) *running {
	r := &running{done: make(chan struct{})}
	go func() {
		defer close(r.done)
		cmd := exec.CommandContext(ctx, "kubectl", append([]string{"-n", "shop", "exec", "deploy/customer", "-c", "customer", "--", "/shop"}, args...)...)
		var stderr bytes.Buffer
		cmd.Stdout, cmd.Stderr = r, &stderr
		if err := cmd.Run(); err != nil {
			r.err = fmt.Errorf("shop %s: %w: %s", strings.Join(args, " "), err, stderr.String())
		}
	}()
	return r
}

// Write takes what the command prints.
func (r *running) Write(p []byte) (int, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.out.Write(p)
}

// printed is what it has printed so far.
func (r *running) printed() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.out.String()
}

func (r *running) wait(t *testing.T) string {
	t.Helper()
	select {
	case <-r.done:
	case <-t.Context().Done():
		t.Fatal(t.Context().Err())
	}
	if r.err != nil {
		t.Fatal(r.err)
	}
	return r.printed()
}

// condition returns status, reason and message of a condition of an object, and whether it is of its generation.
func condition(ctx context.Context, namespace, object, kind string) (status, reason, message string, err error) {
	out, err := kubectl(ctx, "-n", namespace, "get", object, "-o", "json")
	if err != nil {
		return "", "", "", err
	}
	var o struct {
		Metadata struct{ Generation int64 }
		Status   struct {
			Conditions []struct {
				Type, Status, Reason, Message string
				ObservedGeneration            int64
			}
		}
	}
	if err := json.Unmarshal([]byte(out), &o); err != nil {
		return "", "", "", err
	}
	for _, c := range o.Status.Conditions {
		if c.Type == kind {
			if c.ObservedGeneration != o.Metadata.Generation {
				return "", "", "", fmt.Errorf("%s of %s is of generation %d, the object of %d", kind, object, c.ObservedGeneration, o.Metadata.Generation)
			}
			return c.Status, c.Reason, c.Message, nil
		}
	}
	return "", "", "", fmt.Errorf("%s has no condition %s", object, kind)
}

func awaitCondition(t *testing.T, namespace, object, kind, want string) time.Duration {
	t.Helper()
	return eventually(t, 30*time.Second, object+" "+kind+"="+want, func(ctx context.Context) error {
		status, reason, message, err := condition(ctx, namespace, object, kind)
		if err != nil {
			return err
		}
		if status != want {
			return fmt.Errorf("%s, reason %s: %s", status, reason, message)
		}
		return nil
	})
}

func repo(path string) string { return filepath.Join(*root, path) }
