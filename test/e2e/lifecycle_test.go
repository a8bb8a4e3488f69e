// SPDX-License-Identifier: Apache-2.0

//go:build e2e

package e2e

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"testing"
	"time"
)

func itoa(i int) string { return strconv.Itoa(i) }

func TestAJobWithASidecarCompletes(t *testing.T) {
	const job = `
apiVersion: batch/v1
kind: Job
metadata: {name: purchase, namespace: shop}
spec:
  backoffLimit: 0
  template:
    spec:
      serviceAccountName: customer
      restartPolicy: Never
      containers:
      - {name: purchase, image: "localhost/shop:dev", args: [job, -url, "http://web/buy"], securityContext: {runAsUser: 1000}}
`
	apply(t, job)
	removeAfter(t, job)
	lines(t, "-n shop wait job/purchase --for=condition=Complete --timeout=90s")
}

// The shop's own probes are HTTP (named port), TCP and gRPC: that its pods are ready shows that they pass. Here they fail.
func TestARewrittenProbeFailsWhenTheApplicationFails(t *testing.T) {
	web := podOf(t, "app=web")
	readiness := func(ctx context.Context) (string, error) {
		return kubectl(ctx, "-n", "shop", "get", "pod", web.name, "-o", "jsonpath={.status.containerStatuses[?(@.name==\"web\")].ready}")
	}
	probes := must(t, "-n", "shop", "get", "pods", "-o", "jsonpath={range .items[*].spec.containers[?(@.readinessProbe)]}{.name} {.readinessProbe.httpGet.port} {.readinessProbe.httpGet.path}{\"\\n\"}{end}")
	for line := range strings.Lines(probes) {
		if !strings.Contains(line, " 15020 /probe/") {
			t.Errorf("not rewritten: %s", line)
		}
	}
	get(t, "-method", "POST", "http://web/sick")
	eventually(t, 30*time.Second, "web is not ready when sick", func(ctx context.Context) error {
		ready, err := readiness(ctx)
		if err == nil && ready != "false" {
			err = errors.New("ready: " + ready)
		}
		return err
	})
	// No Service leads to it any more: its own address does.
	get(t, "-method", "POST", "http://"+web.ip+":8080/well")
	eventually(t, 30*time.Second, "web is ready when well", func(ctx context.Context) error {
		ready, err := readiness(ctx)
		if err == nil && ready != "true" {
			err = errors.New("ready: " + ready)
		}
		return err
	})
}

// The kubelet's hook comes by way of the proxy, under Strict.
func TestAnHTTPLifecycleHookReachesTheApplication(t *testing.T) {
	pod := podOf(t, "app=web").name
	logs := make(chan string, 1)
	go func() {
		out, err := kubectl(t.Context(), "-n", "shop", "logs", pod, "-c", "web", "--follow")
		logs <- fmt.Sprint(out, err)
	}()
	lines(t, "-n shop delete pod "+pod+" --timeout=60s", "-n shop rollout status deployment/web --timeout=60s")
	if out := <-logs; !strings.Contains(out, "the preStop hook was called") {
		t.Errorf("it was not: %s", out)
	}
}

func TestPodsThatCannotWorkAreRefusedWithTheReason(t *testing.T) {
	const space = `
apiVersion: v1
kind: Namespace
metadata: {name: baseline, labels: {heddle.io/inject: enabled, pod-security.kubernetes.io/enforce: baseline}}
`
	apply(t, space)
	removeAfter(t, space)
	for name, c := range map[string]struct{ spec, want string }{
		"Pod Security baseline": {`{metadata: {name: p, namespace: baseline}, spec: {containers: [{name: a, image: "localhost/shop:dev"}]}}`, "NET_ADMIN"},
		"takes the proxy's uid": {`{metadata: {name: p, namespace: shop}, spec: {containers: [{name: a, image: "localhost/shop:dev", securityContext: {runAsUser: 1337}}]}}`, "1337"},
		"shares processes":      {`{metadata: {name: p, namespace: shop}, spec: {shareProcessNamespace: true, containers: [{name: a, image: "localhost/shop:dev"}]}}`, "shareProcessNamespace"},
	} {
		out, err := kubectlIn(t.Context(), "apiVersion: v1\nkind: Pod\n"+strings.TrimSuffix(strings.TrimPrefix(strings.ReplaceAll(c.spec, "}, spec:", "}\nspec:"), "{"), "}")+"\n", "create", "-f", "-", "--dry-run=server")
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v %s", name, err, out)
		}
	}
}

func TestDeletingEveryObjectReturnsTheMeshToItsDefaults(t *testing.T) {
	load := background(t.Context(), "load", "-url", "http://checkout/echo", "-rate", "100", "-duration", "20s", "-interval", "0")
	lines(t, "-n shop delete trafficsplits,serviceprofiles,meshpolicies --all --timeout=30s")
	eventually(t, 20*time.Second, "anyone may call payments again, and both versions answer", func(context.Context) error {
		a := get(t, "-method", "POST", "http://payments:9090/shop.payments.v1.Payments/Charge")
		if a.Status == 403 {
			return errors.New(a.String())
		}
		s := decode[stats](t, customer(t, "load", "-url", "http://checkout/echo", "-rate", "200", "-requests", "100", "-interval", "0"))
		if s.Versions["v1"] < 20 || s.Versions["v2"] < 20 {
			return fmt.Errorf("%v", s.Versions)
		}
		return nil
	})
	s := decode[stats](t, load.wait(t))
	if s.Failed != 0 {
		t.Errorf("%+v", s)
	}
	lines(t, "apply -k test/shop/manifests")
	for _, o := range []string{"trafficsplit/checkout", "serviceprofile/checkout", "meshpolicy/payments"} {
		awaitCondition(t, "shop", o, "Ready", "True")
	}
}
