// SPDX-License-Identifier: Apache-2.0

// Package addons installs what a cluster needs beside Kubernetes itself: DNS, and cert-manager.
package addons

import (
	"bytes"
	"context"
	_ "embed"
	"errors"
	"fmt"
	"os/exec"
	"strings"
	"text/template"
	"time"

	"github.com/heddle-mesh/heddle/test/cluster/internal/build"
	"github.com/heddle-mesh/heddle/test/cluster/internal/home"
)

// Cluster is where to install: it runs a command such as kubectl where the API server can be reached.
type Cluster interface {
	Command(ctx context.Context, argv ...string) *exec.Cmd
}

const (
	limit    = 3 * time.Minute // for any one thing to become ready, on a busy machine
	interval = 200 * time.Millisecond
)

//go:embed coredns.yaml
var coreDNS string

// probe is an object that only the webhook of a cert-manager that works lets pass.
const probe = `{"apiVersion": "cert-manager.io/v1", "kind": "Issuer",
	"metadata": {"name": "probe", "namespace": "cert-manager"}, "spec": {"selfSigned": {}}}`

// CoreDNS installs the cluster's DNS.
func CoreDNS(ctx context.Context, c Cluster) error {
	t, err := template.New("coredns").Parse(coreDNS)
	if err != nil {
		return err
	}
	var manifests bytes.Buffer
	if err := t.Execute(&manifests, map[string]any{"Image": build.CoreDNSImage, "DNSIP": home.DNSIP}); err != nil {
		return err
	}
	return apply(ctx, c, manifests.Bytes(), "-")
}

// CertManager installs cert-manager.
func CertManager(ctx context.Context, c Cluster, h home.Home) error {
	return apply(ctx, c, nil, build.CertManagerManifests(h))
}

// apply is what users do with manifests. The CRDs among them are too large for apply on the client's side.
func apply(ctx context.Context, c Cluster, stdin []byte, file string) error {
	return Wait(ctx, "apply "+file, func(ctx context.Context) error {
		return run(c.Command(ctx, "kubectl", "apply", "--server-side", "--force-conflicts", "-f", file), stdin)
	})
}

// WaitNode waits until the node and its DNS are ready.
func WaitNode(ctx context.Context, c Cluster) error {
	err := Wait(ctx, "the node", func(ctx context.Context) error {
		return run(c.Command(ctx, "kubectl", "wait", "--for=condition=Ready", "--timeout=10s", "node", "--all"), nil)
	})
	if err != nil {
		return err
	}
	return rollout(ctx, c, "kube-system", "coredns")
}

// WaitCertManager waits until cert-manager's webhook answers, as only then do requests carry who made them, and its
// controllers run.
func WaitCertManager(ctx context.Context, c Cluster) error {
	for _, name := range []string{"cert-manager-webhook", "cert-manager-cainjector", "cert-manager"} {
		if err := rollout(ctx, c, "cert-manager", name); err != nil {
			return err
		}
	}
	err := Wait(ctx, "cert-manager's webhook", func(ctx context.Context) error {
		return run(c.Command(ctx, "kubectl", "create", "--dry-run=server", "-f", "-"), []byte(probe))
	})
	if err != nil {
		return err
	}
	// The controller has no readiness probe: its pod counts as ready before it does anything.
	return Wait(ctx, "cert-manager's controller", func(ctx context.Context) error {
		return run(c.Command(ctx, "kubectl", "-n", "cert-manager", "wait", "--timeout=1s",
			"--for=jsonpath={.spec.holderIdentity}", "lease/cert-manager-controller"), nil)
	})
}

func rollout(ctx context.Context, c Cluster, namespace, name string) error {
	return Wait(ctx, "deployment "+name, func(ctx context.Context) error {
		return run(c.Command(ctx, "kubectl", "-n", namespace, "rollout", "status", "--timeout=10s", "deployment/"+name), nil)
	})
}

// Wait tries until something works, and says after a long time why it did not.
func Wait(ctx context.Context, what string, try func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	tick := time.NewTicker(interval)
	defer tick.Stop()
	var last error
	for {
		err := try(ctx)
		if err == nil {
			return nil
		}
		if ctx.Err() == nil {
			last = err // what was cut short by the limit says nothing
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%s: %w", what, errors.Join(ctx.Err(), last))
		case <-tick.C:
		}
	}
}

func run(cmd *exec.Cmd, stdin []byte) error {
	if stdin != nil {
		cmd.Stdin = bytes.NewReader(stdin)
	}
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("%w: %s", err, strings.TrimSpace(string(out)))
	}
	return nil
}
