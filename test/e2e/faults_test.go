// SPDX-License-Identifier: Apache-2.0

//go:build e2e

package e2e

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"net/http"
	"os"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// What callers may notice of a canary, a fault and a frozen pod: `make demo-faults` runs this alone.

// stockRoutes are the timeouts and retries that docs/resilience.md has to begin with.
const stockRoutes = `
  routes:
  - name: all
    timeouts: {request: 5s, perTry: 500ms}
    retry:
      attempts: 3
      conditions: [ConnectFailure, RefusedStream, Reset, Timeout, GatewayError]
`

const stockProfile = `
apiVersion: mesh.heddle.io/v1alpha1
kind: ServiceProfile
metadata: {name: stock, namespace: shop}
spec:
  service: {name: stock}` + stockRoutes

// stockVersion is one of the two versions behind Service stock. The kubelet finds a pod that hangs within seconds where its
// probe is strict; this one is lax, so that it is the mesh that finds it.
const stockVersion = `
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: stock-%[1]s, namespace: shop}
spec:
  replicas: 2
  selector: {matchLabels: {app: stock, version: %[1]s}}
  template:
    metadata: {labels: {app: stock, version: %[1]s}}
    spec:
      serviceAccountName: default
      containers:
      - name: stock
        image: localhost/shop:dev
        args: [checkout, -version, %[1]s]
        ports: [{name: http, containerPort: 8080}]
        readinessProbe: {httpGet: {path: /healthz, port: http}, periodSeconds: 1, failureThreshold: 120}
        securityContext: {runAsUser: 1000}
`

const stockService = `
apiVersion: v1
kind: Service
metadata: {name: stock, namespace: shop}
spec:
  selector: {app: stock}
  ports: [{name: http, port: 80, targetPort: http, appProtocol: http}]
`

// stockCanary needs no Service for each version.
const stockCanary = `
apiVersion: mesh.heddle.io/v1alpha1
kind: TrafficSplit
metadata: {name: stock, namespace: shop}
spec:
  service: {name: stock}
  backends:
  - {name: v1, selector: {version: v1}, weight: %d}
  - {name: v2, selector: {version: v2}, weight: %d}
  stickiness: {by: Cookie, name: stock-version, ttl: 1h}
`

const stockURL = "http://stock/checkout"

// promise is the share of idempotent requests that must succeed with the documented policy.
const promise = 0.999

// figures are one line of what is printed at the end.
type figures struct {
	what  string
	stats stats
	note  string
}

func (f figures) success() float64 {
	return float64(f.stats.Requests-f.stats.Failed) / float64(max(1, f.stats.Requests))
}

// kept fails the test if fewer succeeded than promised, or the load was too small to tell.
func (f figures) kept(t *testing.T, atLeast int) {
	t.Helper()
	if f.stats.Requests < atLeast {
		t.Errorf("%s: %d requests, want at least %d: %+v", f.what, f.stats.Requests, atLeast, f.stats)
	}
	if f.success() < promise {
		t.Errorf("%s: %.3f %% succeeded, want %.1f %%: %+v", f.what, 100*f.success(), 100*promise, f.stats)
	}
}

func say(format string, args ...any) { fmt.Printf(format+"\n", args...) }

// play is what the acts have come to.
type play struct{ all []figures }

func (p *play) show() {
	say("\n%-34s %8s %7s %10s %9s %9s", "", "requests", "failed", "success", "p50", "p99")
	for _, f := range p.all {
		s := f.stats
		say("%-34s %8d %7d %8.3f %% %6.1f ms %6.1f ms  %s", f.what, s.Requests, s.Failed, 100*f.success(), s.P50, s.P99, f.note)
	}
}

func TestCallersNoticeNoFault(t *testing.T) {
	documented(t)
	objects := stockService + fmt.Sprintf(stockVersion, "v1") + fmt.Sprintf(stockVersion, "v2") + "---" + stockProfile
	apply(t, objects)
	removeAfter(t, objects)
	lines(t, "-n shop rollout status deployment/stock-v1 --timeout=120s", "-n shop rollout status deployment/stock-v2 --timeout=120s")
	awaitCondition(t, "shop", "serviceprofile/stock", "Ready", "True")
	eventually(t, 30*time.Second, "stock answers", func(context.Context) error {
		if a := get(t, stockURL); a.Status != http.StatusOK {
			return errors.New(a.String())
		}
		return nil
	})
	var p play
	t.Run("a canary with sticky users", p.canary)
	t.Run("an injected fault", p.fault)
	t.Run("a frozen pod", p.frozen)
	p.show()
}

// documented checks that the policy is the one that users are told to begin with.
func documented(t *testing.T) {
	t.Helper()
	page, err := os.ReadFile(repo("docs/resilience.md"))
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(string(page), stockRoutes) {
		t.Errorf("docs/resilience.md does not have the policy that is tested:%s", stockRoutes)
	}
}

// canary moves the weights under 400 users, each with cookies of its own.
func (p *play) canary(t *testing.T) {
	const users = 400
	say("\n== a canary with sticky users: TrafficSplit stock goes from 90/10 to 50/50 under %d users", users)
	split := fmt.Sprintf(stockCanary, 90, 10)
	apply(t, split)
	removeAfter(t, split)
	awaitCondition(t, "shop", "trafficsplit/stock", "Programmed", "True")

	load := background(t.Context(), "load", "-url", stockURL, "-users", strconv.Itoa(users), "-rate", "200", "-duration", "3m")
	await(t, load, "every user came by twice", func(s stats) bool { return s.Requests >= 2*users })
	apply(t, fmt.Sprintf(stockCanary, 50, 50))
	awaitCondition(t, "shop", "trafficsplit/stock", "Programmed", "True")
	edited := soFar(t, load).Requests
	await(t, load, "every user came by twice more", func(s stats) bool { return s.Requests >= edited+3*users })
	say("%s", must(t, "-n", "shop", "get", "trafficsplit", "stock"))
	s := finish(t, load)

	moved, back := s.Moves["v1>v2"], s.Moves["v2>v1"]
	before := s.Users["v2"] - moved + back
	f := figures{"sticky canary, 10 % -> 50 %", s, fmt.Sprintf("%d of %d users on v2, then %d moved to it, %d back", before, users, moved, back)}
	p.all = append(p.all, f)
	f.kept(t, 5*users)
	if len(s.Moves) != 1 || back != 0 {
		t.Errorf("users moved who should have stayed: %v", s.Moves)
	}
	// Shares of users, to four standard deviations.
	for what, c := range map[string]struct {
		got   int
		share float64
	}{"on v2 at 10 %": {before, 0.1}, "moved by 40 %": {moved, 0.4}} {
		if sigma := math.Sqrt(users * c.share * (1 - c.share)); math.Abs(float64(c.got)-users*c.share) > 4*sigma {
			t.Errorf("%s: %d of %d users", what, c.got, users)
		}
	}
}

// fault has a tenth of the tries fail, which callers with retries do not notice and others do.
func (p *play) fault(t *testing.T) {
	say("\n== an injected fault: ServiceProfile stock answers 503 to 10 %% of tries, and ends by itself")
	expires := time.Now().Add(50 * time.Second).UTC().Format(time.RFC3339)
	must(t, "-n", "shop", "patch", "serviceprofile", "stock", "--type=merge", "-p", fmt.Sprintf(
		`{"spec":{"faults":[{"name":"drill","percent":10,"abort":{"httpStatus":503},"expiresAt":%q}]}}`, expires))
	awaitCondition(t, "shop", "serviceprofile/stock", "Programmed", "True")
	say("%s", must(t, "-n", "shop", "get", "serviceprofile", "stock"))
	if got := must(t, "-n", "shop", "get", "serviceprofile", "stock", "-o", "jsonpath={.status.faults}"); got != "1, next ends "+expires {
		t.Errorf("status.faults is %q", got)
	}
	repeated := background(t.Context(), "load", "-url", stockURL, "-rate", "200", "-requests", "4000")
	once := background(t.Context(), "load", "-url", stockURL, "-method", "POST", "-rate", "100", "-requests", "2000")
	gets, posts := decode[stats](t, repeated.wait(t)), decode[stats](t, once.wait(t))
	if time.Now().UTC().Format(time.RFC3339) >= expires {
		t.Errorf("the load went on beyond the end of the fault")
	}
	hidden := figures{"fault of 10 %, GET with 3 retries", gets, ""}
	p.all = append(p.all, hidden, figures{"fault of 10 %, POST, not repeated", posts, "what retries have hidden"})
	hidden.kept(t, 4000)
	const share = 0.1
	n := float64(posts.Requests)
	if sigma := math.Sqrt(n * share * (1 - share)); posts.Requests < 2000 || math.Abs(float64(posts.Failed)-n*share) > 4*sigma {
		t.Errorf("%d of %d requests without retries failed, want about a tenth: %v", posts.Failed, posts.Requests, posts.Errors)
	}
	eventually(t, time.Minute, "the fault's end", func(ctx context.Context) error {
		faults, err := kubectl(ctx, "-n", "shop", "get", "serviceprofile", "stock", "-o", "jsonpath={.status.faults}")
		if err == nil && faults != "" {
			err = errors.New(faults)
		}
		return err
	})
	after := decode[stats](t, customer(t, "load", "-url", stockURL, "-method", "POST", "-rate", "200", "-requests", "400", "-interval", "0"))
	if after.Requests != 400 || after.Failed != 0 {
		t.Errorf("after the fault's end: %+v", after)
	}
}

// frozen stops one pod's process in its tracks: it takes connections and requests, and answers none.
func (p *play) frozen(t *testing.T) {
	say("\n== a frozen pod: SIGSTOP to the application of one of four pods under load")
	pod, caller := podOf(t, "app=stock,version=v1"), podOf(t, "app=customer")
	address := pod.ip + ":8080"
	pid := processOf(t, pod.uid, "/shop")
	wake := func() {
		if err := syscall.Kill(pid, syscall.SIGCONT); err != nil && !errors.Is(err, syscall.ESRCH) {
			t.Error(err)
		}
	}

	load := background(t.Context(), "load", "-url", stockURL, "-rate", "200", "-duration", "3m")
	await(t, load, "the pod gets requests", func(s stats) bool { return s.Requests >= 600 && s.Pods[pod.name] > 0 })
	t.Cleanup(wake)
	if err := syscall.Kill(pid, syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	stopped := time.Now()
	ejected := eventually(t, 15*time.Second, "the caller's proxy ejects "+address, func(ctx context.Context) error { return out(ctx, caller.ip, 1) })
	shown := ejectedStatus(t, "1: "+address) + ejected
	say("%s stopped; ejected %.1f s later, shown in status %.1f s later:\n%s", pod.name, ejected.Seconds(), shown.Seconds(),
		must(t, "-n", "shop", "get", "serviceprofile", "stock"))
	wake()
	woken := time.Now()
	returned := eventually(t, 30*time.Second, "the pod passes its trial", func(ctx context.Context) error { return out(ctx, caller.ip, 0) })
	back := soFar(t, load).Pods[pod.name]
	await(t, load, "the pod gets requests again", func(s stats) bool { return s.Pods[pod.name] >= back+100 })
	again := time.Since(woken)
	ejectedStatus(t, "")
	say("%s goes on; its trial has passed %.1f s later", pod.name, returned.Seconds())

	s := finish(t, load)
	f := figures{"pod frozen by SIGSTOP, GET", s, fmt.Sprintf("ejected after %.1f s, back %.1f s after SIGCONT", ejected.Seconds(), returned.Seconds())}
	p.all = append(p.all, f)
	f.kept(t, 2000)
	if s.Max < 450 {
		t.Errorf("no request has met the frozen pod: the slowest took %.1f ms", s.Max)
	}
	t.Logf("frozen for %s; 100 requests to it %s after it went on", woken.Sub(stopped).Round(time.Millisecond), again.Round(time.Millisecond))
}

// ejectedStatus waits for status.ejected of stock.
func ejectedStatus(t *testing.T, want string) time.Duration {
	t.Helper()
	return eventually(t, 20*time.Second, fmt.Sprintf("status.ejected is %q", want), func(ctx context.Context) error {
		got, err := kubectl(ctx, "-n", "shop", "get", "serviceprofile", "stock", "-o", "jsonpath={.status.ejected}")
		if err == nil && got != want {
			err = fmt.Errorf("it is %q", got)
		}
		return err
	})
}

var endpointsOut = regexp.MustCompile(`(?m)^heddle_endpoints_out\{service="stock\.shop",why="ejected"\} (\d+)$`)

// out returns an error unless a pod's proxy leaves out so many endpoints of stock.
func out(ctx context.Context, podIP string, want int) error {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+podIP+":15020/metrics", nil)
	if err != nil {
		return err
	}
	answer, err := (&http.Client{Timeout: 5 * time.Second}).Do(request)
	if err != nil {
		return err
	}
	defer answer.Body.Close()
	page, err := io.ReadAll(answer.Body)
	if err != nil {
		return err
	}
	got := "0"
	if match := endpointsOut.FindSubmatch(page); match != nil {
		got = string(match[1])
	}
	if got != strconv.Itoa(want) {
		return fmt.Errorf("%s are out", got)
	}
	return nil
}

// soFar adds up the counts of the lines that a load has printed.
func soFar(t *testing.T, load *running) stats {
	t.Helper()
	sum := stats{Pods: map[string]int{}}
	scanner := bufio.NewScanner(strings.NewReader(load.printed()))
	for scanner.Scan() {
		var s stats
		if err := json.Unmarshal(scanner.Bytes(), &s); err != nil {
			continue // the end of a line is still to come
		}
		if s.Total {
			t.Fatalf("the load has ended: %+v", s)
		}
		sum.Requests += s.Requests
		for pod, n := range s.Pods {
			sum.Pods[pod] += n
		}
	}
	return sum
}

// finish ends a load, the only one that runs, and returns its total.
func finish(t *testing.T, load *running) stats {
	t.Helper()
	if err := syscall.Kill(processOf(t, podOf(t, "app=customer").uid, "/shop\x00load"), syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	return decode[stats](t, load.wait(t))
}

// await waits until what a load has done so far is enough.
func await(t *testing.T, load *running, what string, enough func(stats) bool) {
	t.Helper()
	eventually(t, 30*time.Second, what, func(context.Context) error {
		s := soFar(t, load)
		if !enough(s) {
			return fmt.Errorf("%+v", s)
		}
		return nil
	})
}
