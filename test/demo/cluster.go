// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"time"
)

// cluster runs commands by way of test/cluster's command.
type cluster struct {
	command  string
	provider string
}

func (c cluster) cmd(ctx context.Context, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, c.command, append([]string{"-provider", c.provider}, args...)...)
	cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) }
	cmd.WaitDelay = 5 * time.Second
	return cmd
}

// run shows the command's own progress.
func (c cluster) run(ctx context.Context, args ...string) error {
	cmd := c.cmd(ctx, args...)
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("%s %s: %w", c.command, args[0], err)
	}
	return nil
}

func (c cluster) kubectl(ctx context.Context, args ...string) (string, error) {
	cmd := c.cmd(ctx, append([]string{"in", "kubectl"}, args...)...)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		return "", fmt.Errorf("kubectl %s: %w\n%s%s", strings.Join(args, " "), err, out, stderr.String())
	}
	return strings.TrimSpace(string(out)), nil
}

// kubectls runs kubectl on each line, split at spaces.
func (c cluster) kubectls(ctx context.Context, lines ...string) error {
	for _, line := range lines {
		if _, err := c.kubectl(ctx, strings.Fields(line)...); err != nil {
			return err
		}
	}
	return nil
}

// setWeights edits the split as a user would and returns when every proxy that uses it has it.
func (c cluster) setWeights(ctx context.Context, v1, v2 int) error {
	patch := fmt.Sprintf(`{"spec":{"backends":[{"name":"v1","service":{"name":"checkout-v1"},"weight":%d},{"name":"v2","service":{"name":"checkout-v2"},"weight":%d}]}}`, v1, v2)
	out, err := c.kubectl(ctx, "-n", "shop", "patch", "trafficsplit", "checkout", "--type=merge", "-p", patch, "-o", "jsonpath={.metadata.generation}")
	if err != nil {
		return err
	}
	_, err = c.kubectl(ctx, "-n", "shop", "wait", "trafficsplit/checkout", "--timeout=30s",
		`--for=jsonpath={.status.conditions[?(@.type=="Programmed")].observedGeneration}=`+out)
	if err != nil {
		return err
	}
	_, err = c.kubectl(ctx, "-n", "shop", "wait", "trafficsplit/checkout", "--for=condition=Programmed", "--timeout=30s")
	return err
}

// stats is one line of `shop load`.
type stats struct {
	Requests int            `json:"requests"`
	Failed   int            `json:"failed"`
	Versions map[string]int `json:"versions"`
	Callers  []string       `json:"callers"`
	P50      float64        `json:"p50"`
	P99      float64        `json:"p99"`
}

// load runs `shop load` in the customer's pod until ctx ends; the channel closes with it.
func (c cluster) load(ctx context.Context, rate int) (<-chan stats, error) {
	cmd := c.cmd(ctx, "in", "kubectl", "-n", "shop", "exec", "deploy/customer", "-c", "customer", "--",
		"/shop", "load", "-url", "http://web/buy", "-rate", strconv.Itoa(rate), "-duration", "10m")
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	lines := make(chan stats)
	go func() {
		defer close(lines)
		scanner := bufio.NewScanner(out)
		for scanner.Scan() {
			var s stats
			if json.Unmarshal(scanner.Bytes(), &s) != nil {
				continue // not a line of figures
			}
			select {
			case lines <- s:
			case <-ctx.Done():
			}
		}
		_ = cmd.Wait() // ends by ctx, or early, which the closed channel says
	}()
	return lines, nil
}
