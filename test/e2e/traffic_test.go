// SPDX-License-Identifier: Apache-2.0

//go:build e2e

package e2e

import (
	"context"
	"fmt"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

const spiffe = "URI=spiffe://cluster.local/ns/shop/sa/"

func setWeights(t *testing.T, v1, v2 int) {
	t.Helper()
	must(t, "-n", "shop", "patch", "trafficsplit", "checkout", "--type=merge", "-p", fmt.Sprintf(
		`{"spec":{"backends":[{"name":"v1","service":{"name":"checkout-v1"},"weight":%d},{"name":"v2","service":{"name":"checkout-v2"},"weight":%d}]}}`, v1, v2))
}

func TestSplitConverges(t *testing.T) {
	setWeights(t, 90, 10)
	awaitCondition(t, "shop", "trafficsplit/checkout", "Ready", "True")
	get(t, "http://checkout/checkout") // the customer's proxy now subscribes
	setWeights(t, 50, 50)
	took := awaitCondition(t, "shop", "trafficsplit/checkout", "Programmed", "True")
	t.Logf("a weight edit was enforced on every proxy, and reported, within %s (goal 1 s)", took.Round(time.Millisecond))
	setWeights(t, 90, 10)
	awaitCondition(t, "shop", "trafficsplit/checkout", "Programmed", "True")

	const n, p = 10000, 0.1
	s := decode[stats](t, customer(t, "load", "-url", "http://checkout/echo", "-rate", "400", "-requests", fmt.Sprint(n), "-interval", "0"))
	if s.Requests != n || s.Failed != 0 {
		t.Fatalf("%+v", s)
	}
	got, sigma := float64(s.Versions["v2"]), math.Sqrt(n*p*(1-p))
	t.Logf("v2 got %d of %d at 90/10: %.2f sigma off; p50 %.1f ms, p99 %.1f ms", s.Versions["v2"], n, (got-n*p)/sigma, s.P50, s.P99)
	if math.Abs(got-n*p) > 4*sigma {
		t.Errorf("more than four sigma off")
	}
	if !slices.Equal(s.Callers, []string{spiffe + "customer"}) {
		t.Errorf("checkout saw the callers %q", s.Callers)
	}
}

// A purchase goes web -> checkout (HTTP/1.1) -> payments (gRPC) and store-0 (TCP, headless, by the pod's own name).
func TestEveryHopKnowsItsCaller(t *testing.T) {
	a := get(t, "http://web/buy")
	if a.Status != 200 {
		t.Fatal(a)
	}
	for _, want := range []string{`"caller":"` + spiffe + `web"`, `"payments":"` + spiffe + `checkout"`, `"receipt":"payments-`, `"stored":"stored order payments-`} {
		if !strings.Contains(a.Body, want) {
			t.Errorf("no %s in %s", want, a.Body)
		}
	}
}

func TestPodsAreReachedDirectlyWithMTLS(t *testing.T) {
	ip := podOf(t, "app=checkout,version=v1").ip
	a := get(t, "http://"+ip+":8080/echo")
	if a.Status != 200 || !slices.Equal(a.Header["X-Caller"], []string{spiffe + "customer"}) {
		t.Errorf("%v, X-Caller %q", a, a.Header["X-Caller"])
	}
}

func TestAnUnknownAddressOfTheMeshIsRefused(t *testing.T) {
	a := get(t, "http://198.18.255.254:8080/")
	if a.Status == 200 || (a.Error == "" && len(a.Header["Heddle-Reason"]) == 0) {
		t.Errorf("%v", a)
	}
}

// What a proxy keeps can be checked offline, with roots that come from elsewhere.
func TestAKeptEnvelopeVerifiesOffline(t *testing.T) {
	get(t, "http://checkout/echo")
	dir := t.TempDir()
	roots, envelope := filepath.Join(dir, "config.pem"), filepath.Join(dir, "routes.envelope")
	for file, args := range map[string][]string{
		roots:    {"-n", "shop", "get", "configmap", "heddle-roots", "-o", `go-template={{index .data "config.pem"}}`},
		envelope: {"-n", "shop", "exec", "deploy/customer", "-c", "heddle-proxy", "--", "/heddle-proxy", "admin", "envelope", "routes/checkout.shop/*"},
	} {
		out, err := exec.CommandContext(t.Context(), "kubectl", args...).Output()
		if err != nil {
			t.Fatalf("kubectl %v: %v", args, err)
		}
		if err := os.WriteFile(file, out, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	verify := func(args ...string) (string, error) {
		cmd := exec.CommandContext(t.Context(), repo("bin/heddle"), append([]string{"config", "verify", envelope, "--roots", roots}, args...)...)
		out, err := cmd.CombinedOutput()
		return string(out), err
	}
	if out, err := verify("--audience", "mesh", "--section", "routes/checkout.shop/*"); err != nil || !strings.Contains(out, "verified:   yes") {
		t.Errorf("%v\n%s", err, out)
	}
	if out, err := verify("--min-serial", "9.0.0"); err == nil {
		t.Errorf("a serial that is too low passes:\n%s", out)
	}
}

func TestAMissingBackendIsReportedAndTheRestServes(t *testing.T) {
	const split = `
apiVersion: mesh.heddle.io/v1alpha1
kind: TrafficSplit
metadata: {name: web, namespace: shop}
spec:
  service: {name: web}
  backends:
  - {name: here, service: {name: web}, weight: 1}
  - {name: gone, service: {name: no-such-service}, weight: 0}
`
	apply(t, split)
	removeAfter(t, split)
	eventually(t, 20*time.Second, "ResolvedRefs=False", func(ctx context.Context) error {
		status, reason, message, err := condition(ctx, "shop", "trafficsplit/web", "ResolvedRefs")
		if err != nil {
			return err
		}
		if status != "False" || !strings.Contains(message, "no-such-service") {
			return fmt.Errorf("%s %s: %s", status, reason, message)
		}
		return nil
	})
	if a := get(t, "http://web/buy"); a.Status != 200 {
		t.Error(a)
	}
}
