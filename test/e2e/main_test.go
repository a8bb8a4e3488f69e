// SPDX-License-Identifier: Apache-2.0

//go:build e2e

package e2e

import (
	"context"
	"flag"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"
)

var root = flag.String("root", ".", "the repository")

// TestMain installs Heddle and the shop as the README says, and leaves the rest to the tests.
func TestMain(m *testing.M) {
	flag.Parse()
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Minute)
	defer cancel()
	start := time.Now()
	for _, command := range []string{
		"apply -k config/demo",
		"-n heddle-system wait certificates --all --for=condition=Ready --timeout=120s",
		"-n heddle-system rollout status deployment/heddle-operator --timeout=180s",
		"apply -k test/shop/manifests",
		"-n shop rollout status deployment,statefulset --timeout=240s",
	} {
		if _, err := kubectl(ctx, strings.Fields(command)...); err != nil {
			fmt.Fprintln(os.Stderr, "e2e: install:", err)
			os.Exit(1)
		}
	}
	fmt.Printf("e2e: Heddle and the shop ready in %s\n", time.Since(start).Round(time.Second))
	os.Exit(m.Run())
}
