// SPDX-License-Identifier: Apache-2.0

//go:build e2e

package e2e

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// daemon stops or starts one of the cluster's daemons.
func daemon(t *testing.T, verb, name string) {
	t.Helper()
	cmd := exec.CommandContext(context.Background(), repo("bin/cluster"), verb, name)
	cmd.Dir = *root
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("cluster %s %s: %v\n%s", verb, name, err, out)
	}
}

func scale(t *testing.T, namespace string, replicas int) {
	t.Helper()
	for _, d := range strings.Fields(must(t, "-n", namespace, "get", "deployments", "-o", "name")) {
		n := replicas
		if n < 0 { // back to what it was
			n = 1
			if strings.HasSuffix(d, "heddle-operator") {
				n = 2
			}
		}
		must(t, "-n", namespace, "scale", d, "--replicas", strconv.Itoa(n))
	}
	eventually(t, 2*time.Minute, namespace+" is scaled", func(ctx context.Context) error {
		if replicas >= 0 {
			out, err := kubectl(ctx, "-n", namespace, "get", "pods", "-o", "name")
			if err == nil && out != "" {
				err = errors.New(out)
			}
			return err
		}
		for _, d := range strings.Fields(must(t, "-n", namespace, "get", "deployments", "-o", "name")) {
			if _, err := kubectl(ctx, "-n", namespace, "rollout", "status", d, "--timeout=60s"); err != nil {
				return err
			}
		}
		return nil
	})
}

// processOf finds the process of a pod's container by its program, in the node's process table.
func processOf(t *testing.T, podUID, program string) int {
	t.Helper()
	procs, err := os.ReadDir("/proc")
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range procs {
		pid, err := strconv.Atoi(p.Name())
		if err != nil {
			continue
		}
		cgroup, err := os.ReadFile("/proc/" + p.Name() + "/cgroup")
		if err != nil {
			continue // it ended meanwhile
		}
		cmdline, err := os.ReadFile("/proc/" + p.Name() + "/cmdline")
		if err != nil {
			continue
		}
		if strings.Contains(string(cgroup), podUID) && strings.HasPrefix(string(cmdline), program) {
			return pid
		}
	}
	t.Fatalf("no process %s of pod %s", program, podUID)
	return 0
}

// loadPod runs `shop load` as a pod of its own, so that no exec session through the API server is needed.
const loadPod = `
apiVersion: v1
kind: Pod
metadata: {name: %s, namespace: shop, labels: {app: load}}
spec:
  serviceAccountName: customer
  restartPolicy: Never
  containers:
  - name: load
    image: localhost/shop:dev
    args: [load, -url, "http://checkout/echo", -rate, "%d", -duration, %s]
    securityContext: {runAsUser: 1000}
`

// With the whole control plane gone, load goes on; a proxy that is killed meanwhile comes back from what it kept.
func TestTheDataPlaneOutlivesTheControlPlane(t *testing.T) {
	pod := fmt.Sprintf(loadPod, "outage-load", 200, "60s")
	apply(t, pod)
	removeAfter(t, pod)
	lines(t, "-n shop wait pod/outage-load --for=condition=Ready --timeout=60s")
	victim := podOf(t, "app=checkout,version=v1")

	scale(t, "heddle-system", 0)
	t.Cleanup(func() { scale(t, "heddle-system", -1) })
	scale(t, "cert-manager", 0)
	t.Cleanup(func() { scale(t, "cert-manager", -1) })
	daemon(t, "stop", "apiserver")
	stopped := true
	start := func() {
		if stopped {
			stopped = false
			daemon(t, "start", "apiserver")
			eventually(t, time.Minute, "API server is back", func(ctx context.Context) error {
				_, err := kubectl(ctx, "get", "--raw", "/readyz")
				return err
			})
		}
	}
	t.Cleanup(start)

	pid, killed := processOf(t, victim.uid, "/heddle-proxy"), time.Now()
	if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	eventually(t, 10*time.Second, "the killed proxy is gone", func(context.Context) error {
		if cmdline, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid)); err == nil && len(cmdline) > 0 {
			return errors.New("it still runs")
		}
		return nil
	})
	var back time.Duration
	eventually(t, time.Minute, "the killed proxy is ready again without a control plane", func(context.Context) error {
		begun := time.Now()
		a, err := http.Get("http://" + victim.ip + ":15020/ready")
		if err != nil {
			return err
		}
		a.Body.Close()
		if a.StatusCode != http.StatusOK {
			return errors.New(a.Status)
		}
		back = time.Since(begun)
		return nil
	})
	again := processOf(t, victim.uid, "/heddle-proxy")
	if again == pid {
		t.Error("it was never killed")
	}
	t.Logf("the proxy is ready again as process %d, %s old (goal 1 s); answered in %s", again, age(t, again), back)

	start()
	eventually(t, 2*time.Minute, "the load's end", func(ctx context.Context) error {
		phase, err := kubectl(ctx, "-n", "shop", "get", "pod", "outage-load", "-o", "jsonpath={.status.containerStatuses[0].state.terminated.reason}")
		if err == nil && phase == "" {
			err = errors.New("still running")
		}
		return err
	})
	s := decode[stats](t, must(t, "-n", "shop", "logs", "outage-load", "-c", "load", "--tail", "1"))
	// What was in flight in the killed proxy may be lost with it; nothing else may.
	inFlight := 0
	for _, e := range s.Errors {
		at, err := time.ParseInLocation(time.DateOnly+" 15:04:05.000", killed.UTC().Format(time.DateOnly)+" "+e[:len("15:04:05.000")], time.UTC)
		if err != nil {
			t.Fatal(err)
		}
		if at.Sub(killed).Abs() < time.Second {
			inFlight++
		}
	}
	t.Logf("%d requests; lost with the killed proxy: %d; else failed: %d; p99 %.1f ms", s.Requests, inFlight, s.Failed-inFlight, s.P99)
	if s.Requests < 5000 || s.Failed != inFlight {
		t.Errorf("%+v", s)
	}
}

// age is how long a process has run.
func age(t *testing.T, pid int) time.Duration {
	t.Helper()
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(stat), ") ")
	ticks, err := strconv.ParseInt(strings.Fields(rest)[19], 10, 64)
	if err != nil {
		t.Fatal(err)
	}
	uptime, err := os.ReadFile("/proc/uptime")
	if err != nil {
		t.Fatal(err)
	}
	up, err := strconv.ParseFloat(strings.Fields(string(uptime))[0], 64)
	if err != nil {
		t.Fatal(err)
	}
	return time.Duration((up - float64(ticks)/100) * float64(time.Second)).Round(10 * time.Millisecond)
}
