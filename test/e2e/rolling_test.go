// SPDX-License-Identifier: Apache-2.0

//go:build e2e

package e2e

import (
	"context"
	"fmt"
	"strings"
	"syscall"
	"testing"
	"time"
)

func TestARollingRestartUnderLoadFailsNoRequest(t *testing.T) {
	load := background(t.Context(), "load", "-url", "http://checkout/echo", "-rate", "500", "-duration", "45s", "-interval", "0")
	lines(t,
		"-n shop rollout restart deployment/checkout-v1 deployment/checkout-v2",
		"-n shop rollout status deployment/checkout-v1 --timeout=120s",
		"-n shop rollout status deployment/checkout-v2 --timeout=120s",
	)
	s := decode[stats](t, load.wait(t))
	t.Logf("%d requests at 500/s over a restart of every endpoint: %d failed, p99 %.1f ms", s.Requests, s.Failed, s.P99)
	if s.Requests < 20000 || s.Failed != 0 {
		t.Errorf("%+v", s)
	}
}

// holder is the pod that holds the leader's Lease.
func holder(ctx context.Context) (pod, transitions string, err error) {
	out, err := kubectl(ctx, "-n", "heddle-system", "get", "lease", "heddle-operator", "-o", "jsonpath={.spec.holderIdentity} {.spec.leaseTransitions}")
	if err != nil {
		return "", "", err
	}
	fields := strings.Fields(out)
	if len(fields) != 2 {
		return "", "", fmt.Errorf("the lease says %q", out)
	}
	pods, err := kubectl(ctx, "-n", "heddle-system", "get", "pods", "-o", "jsonpath={range .items[*]}{.metadata.name} {.status.podIP}{\"\\n\"}{end}")
	if err != nil {
		return "", "", err
	}
	for line := range strings.Lines(pods) {
		p := strings.Fields(line)
		if len(p) == 2 && (strings.Contains(fields[0], p[0]) || strings.Contains(fields[0], p[1]+":")) {
			return p[0], fields[1], nil
		}
	}
	return "", "", fmt.Errorf("no pod holds the lease %q", fields[0])
}

func TestUpdatesResumeWhenTheLeaderDies(t *testing.T) {
	setWeights(t, 100, 0)
	get(t, "http://checkout/echo")
	awaitCondition(t, "shop", "trafficsplit/checkout", "Programmed", "True")
	leader, before, err := holder(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	load := background(t.Context(), "load", "-url", "http://checkout/echo", "-rate", "100", "-duration", "30s", "-interval", "0")
	uid := must(t, "-n", "heddle-system", "get", "pod", leader, "-o", "jsonpath={.metadata.uid}")
	// It has no time to give its lease back.
	if err := syscall.Kill(processOf(t, uid, "/heddle-operator"), syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	killed := time.Now()
	setWeights(t, 0, 100)
	awaitCondition(t, "shop", "trafficsplit/checkout", "Programmed", "True")
	took := time.Since(killed)
	_, after, err := holder(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("an edit made when leader %s died is on every proxy %s later; term %s, then %s", leader, took.Round(10*time.Millisecond), before, after)
	if before == after {
		t.Error("the lease did not change hands")
	}
	if took > 10*time.Second {
		t.Errorf("took %s, want updates to resume within 10 s", took)
	}
	s := decode[stats](t, load.wait(t))
	if s.Failed != 0 {
		t.Errorf("%+v", s)
	}
	check := decode[stats](t, customer(t, "load", "-url", "http://checkout/echo", "-rate", "200", "-requests", "200", "-interval", "0"))
	if check.Versions["v2"] != 200 {
		t.Errorf("after the edit: %+v", check)
	}
	lines(t, "-n heddle-system rollout status deployment/heddle-operator --timeout=120s")
}
