// SPDX-License-Identifier: Apache-2.0

package inject

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/heddle-mesh/heddle/internal/probe"
)

// The pod of testdata/shop.in.yaml, in four files: our two containers, our volumes, and the rest.
func TestAPodIsInjected(t *testing.T) {
	in, err := os.ReadFile(filepath.Join("testdata", "shop.in.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	out := injected(t, podOf(t, string(in)))
	if got := []string{out.Spec.InitContainers[0].Name, out.Spec.InitContainers[1].Name}; !slices.Equal(got, []string{ContainerInit, ContainerProxy}) {
		t.Fatalf("the first containers are %q: want the redirect, then the proxy", got)
	}
	golden(t, "init.yaml", out.Spec.InitContainers[0])
	golden(t, "proxy.yaml", out.Spec.InitContainers[1])
	golden(t, "volumes.yaml", out.Spec.Volumes[1:])
	out.Spec.InitContainers, out.Spec.Volumes = out.Spec.InitContainers[2:], out.Spec.Volumes[:1]
	golden(t, "shop.out.yaml", out)
}

func TestPodsThatAreLeftAlone(t *testing.T) {
	for name, text := range map[string]string{
		"opted out":         `metadata: {annotations: {heddle.io/inject: disabled}}`,
		"host network":      `spec: {hostNetwork: true}`,
		"of a static pod":   `metadata: {annotations: {kubernetes.io/config.mirror: abc}}`,
		"opted out, faulty": "metadata: {annotations: {heddle.io/inject: disabled}}\nspec: {shareProcessNamespace: true}",
	} {
		t.Run(name, func(t *testing.T) {
			pod := podOf(t, text)
			out, _, err := testConfig(t).Inject(pod, map[string]string{podSecurityLabel: "restricted"})
			if err != nil {
				t.Fatal(err)
			}
			if operations := patch(pod, out); len(operations) != 0 {
				t.Errorf("got %v: want nothing", operations)
			}
		})
	}
}

func TestPodsThatCannotWorkAreRefused(t *testing.T) {
	for name, tc := range map[string]struct {
		pod   string
		words []string
	}{
		"Windows by its OS":       {`spec: {os: {name: windows}}`, []string{"Windows"}},
		"Windows by its nodes":    {`spec: {nodeSelector: {kubernetes.io/os: windows}}`, []string{"Windows"}},
		"one process namespace":   {`spec: {shareProcessNamespace: true}`, []string{"shareProcessNamespace", "unset it"}},
		"our container":           {`spec: {containers: [{name: heddle-proxy}]}`, []string{`"heddle-proxy"`, "choose another"}},
		"our init container":      {`spec: {initContainers: [{name: heddle-init}]}`, []string{`"heddle-init"`}},
		"our volume":              {`spec: {volumes: [{name: heddle-state, emptyDir: {}}]}`, []string{`volume name "heddle-state"`}},
		"a mount of our volume":   {`spec: {containers: [{name: app, volumeMounts: [{name: heddle-token, mountPath: /x}]}]}`, []string{`"app" mounts "heddle-token"`}},
		"our audience":            {`spec: {volumes: [{name: t, projected: {sources: [{serviceAccountToken: {audience: heddle.io/identity, path: t}}]}}]}`, []string{"audience"}},
		"our uid in a container":  {`spec: {containers: [{name: app, securityContext: {runAsUser: 1337}}]}`, []string{`"app" runs as user 1337`}},
		"our uid in the pod":      {`spec: {securityContext: {runAsUser: 1337}, initContainers: [{name: migrate}]}`, []string{`"migrate" runs as user 1337`}},
		"our port":                {`spec: {containers: [{name: app, ports: [{containerPort: 15006}]}]}`, []string{"15006"}},
		"a probe of our port":     {`spec: {containers: [{name: app, livenessProbe: {tcpSocket: {port: 15001}}}]}`, []string{"liveness", "15001"}},
		"a probe of a port name":  {`spec: {containers: [{name: app, livenessProbe: {httpGet: {port: web}}}]}`, []string{`port "web"`, "does not declare"}},
		"a hook of a port name":   {`spec: {containers: [{name: app, lifecycle: {preStop: {httpGet: {port: web}}}}]}`, []string{"preStop", `port "web"`}},
		"a copied probe":          {`spec: {containers: [{name: app, livenessProbe: {httpGet: {port: 15020, path: /probe/0123456789ab}}}]}`, []string{"15020"}},
		"a word for inject":       {`metadata: {annotations: {heddle.io/inject: "false"}}`, []string{`"disabled"`}},
		"no quantity":             {`metadata: {annotations: {heddle.io/proxy-cpu-limit: lots}}`, []string{"heddle.io/proxy-cpu-limit", "lots"}},
		"a negative quantity":     {`metadata: {annotations: {heddle.io/proxy-cpu-limit: "-1"}}`, []string{"above 0"}},
		"too little memory":       {`metadata: {annotations: {heddle.io/proxy-memory-limit: 1Mi}}`, []string{"at least 16Mi"}},
		"a request above a limit": {`metadata: {annotations: {heddle.io/proxy-memory-request: 1Gi}}`, []string{"above the limit 256Mi"}},
		"a log level":             {`metadata: {annotations: {heddle.io/proxy-log-level: loud}}`, []string{"debug, info, warn, error"}},
		"an access log":           {`metadata: {annotations: {heddle.io/access-log: "on"}}`, []string{"off, errors, json"}},
		"a limit":                 {`metadata: {annotations: {heddle.io/proxy-limits: "stream=1,idle=10"}}`, []string{`there is no limit "stream": want one of header-bytes`, `limit idle="10": want 1s to 24h`}},
		"a port":                  {`metadata: {annotations: {heddle.io/skip-inbound-ports: "80,http"}}`, []string{`"http"`, "8000-8100"}},
		"a range of ports":        {`metadata: {annotations: {heddle.io/skip-outbound-ports: "90-80"}}`, []string{`"90-80"`}},
		"the proxy's port open":   {`metadata: {annotations: {heddle.io/skip-inbound-ports: "15000-15010"}}`, []string{"15001", "leave it out"}},
		"a CIDR":                  {`metadata: {annotations: {heddle.io/skip-outbound-cidrs: "10.0.0.0/33"}}`, []string{`"10.0.0.0/33"`}},
		"an IPv4 CIDR as IPv6":    {`metadata: {annotations: {heddle.io/skip-outbound-cidrs: "::ffff:10.0.0.0/104"}}`, []string{"CIDR"}},
		"too much to skip":        {`metadata: {annotations: {heddle.io/skip-outbound-ports: "` + manyPorts() + `"}}`, []string{"at most 256"}},
	} {
		t.Run(name, func(t *testing.T) { refusedFor(t, podOf(t, tc.pod), nil, tc.words...) })
	}
	for _, level := range []string{"baseline", "restricted"} {
		t.Run("Pod Security "+level, func(t *testing.T) {
			refusedFor(t, podOf(t, ""), map[string]string{podSecurityLabel: level}, "NET_ADMIN", "privileged", level)
		})
	}
}

func manyPorts() string {
	ports := ""
	for i := range maxSkipped + 1 {
		ports += fmt.Sprintf("%d,", i+1)
	}
	return ports
}

func TestAllFaultsAreToldAtOnce(t *testing.T) {
	_, _, err := testConfig(t).Inject(podOf(t, "metadata: {annotations: {heddle.io/access-log: x, heddle.io/proxy-log-level: y}}\nspec: {shareProcessNamespace: true}"), nil)
	refusal, ok := err.(*Refusal) //nolint:errorlint // Inject returns it as it is
	if !ok || len(refusal.Faults) != 3 {
		t.Errorf("got %v: want three faults", err)
	}
}

func TestPodSecurityThatAllowsTheRedirect(t *testing.T) {
	for _, labels := range []map[string]string{nil, {podSecurityLabel: "privileged"}, {"pod-security.kubernetes.io/warn": "restricted"}} {
		if _, _, err := testConfig(t).Inject(podOf(t, ""), labels); err != nil {
			t.Errorf("%v: %v", labels, err)
		}
	}
}

func TestResourcesByAnnotation(t *testing.T) {
	for name, tc := range map[string]struct {
		annotations          string
		procs, memory        string
		cpuRequest, cpuLimit string
		memRequest, memLimit string
	}{
		"none":                     {"{}", "1", "214748364B", "10m", "0", "32Mi", "256Mi"},
		"a limit above a core":     {`{heddle.io/proxy-cpu-limit: "1500m"}`, "2", "214748364B", "10m", "1500m", "32Mi", "256Mi"},
		"a limit of two cores":     {`{heddle.io/proxy-cpu-limit: "2"}`, "2", "214748364B", "10m", "2", "32Mi", "256Mi"},
		"a limit below a request":  {`{heddle.io/proxy-cpu-limit: "5m", heddle.io/proxy-memory-limit: 16Mi}`, "1", "13421772B", "5m", "5m", "16Mi", "16Mi"},
		"a memory limit of a gibi": {`{heddle.io/proxy-memory-limit: 1Gi, heddle.io/proxy-memory-request: 1Gi}`, "1", "858993456B", "10m", "0", "1Gi", "1Gi"},
	} {
		t.Run(name, func(t *testing.T) {
			out := injected(t, podOf(t, "metadata: {annotations: "+tc.annotations+"}"))
			for _, name := range []string{ContainerProxy, ContainerInit} {
				r := container(t, out, name).Resources
				for what, pair := range map[string][2]resource.Quantity{
					"cpu request": {*r.Requests.Cpu(), resource.MustParse(tc.cpuRequest)}, "cpu limit": {*r.Limits.Cpu(), resource.MustParse(tc.cpuLimit)},
					"memory request": {*r.Requests.Memory(), resource.MustParse(tc.memRequest)}, "memory limit": {*r.Limits.Memory(), resource.MustParse(tc.memLimit)},
				} {
					if pair[0].Cmp(pair[1]) != 0 {
						t.Errorf("%s: %s is %s: want %s", name, what, pair[0].String(), pair[1].String())
					}
				}
			}
			proxy := container(t, out, ContainerProxy)
			if got := env(proxy, "GOMAXPROCS"); got != tc.procs {
				t.Errorf("GOMAXPROCS=%s: want %s", got, tc.procs)
			}
			if got := env(proxy, "GOMEMLIMIT"); got != tc.memory {
				t.Errorf("GOMEMLIMIT=%s: want %s", got, tc.memory)
			}
		})
	}
}

func TestProbesThatStayAsTheyAre(t *testing.T) {
	out := injected(t, podOf(t, `
spec:
  containers:
  - name: app
    livenessProbe: {exec: {command: [x]}}
    readinessProbe: {httpGet: {host: 192.0.2.1, port: 80}}
    startupProbe: {tcpSocket: {host: 192.0.2.1, port: 80}}
    lifecycle: {postStart: {httpGet: {host: 192.0.2.1, port: 80}}, preStop: {sleep: {seconds: 5}}}`))
	if got := env(container(t, out, ContainerProxy), probe.EnvProbes); got != "" {
		t.Errorf("rewritten: %s", got)
	}
	if get := container(t, out, "app").ReadinessProbe.HTTPGet; get.Host != "192.0.2.1" || get.Port.IntVal != 80 {
		t.Errorf("the probe of another host became %v", get)
	}
}

// What came between two passes, of another webhook say, is taken in; what was there stays as that webhook left it.
func TestALaterPassTakesInNewContainers(t *testing.T) {
	first := injected(t, podOf(t, `spec: {containers: [{name: app, livenessProbe: {httpGet: {path: /live, port: 80}}}]}`))
	between := first.DeepCopy()
	between.Spec.Containers = append(between.Spec.Containers, podOf(t, `
spec: {containers: [{name: agent, readinessProbe: {tcpSocket: {port: 99}}}]}`).Spec.Containers...)
	between.Spec.InitContainers = append([]corev1.Container{{Name: "early"}}, between.Spec.InitContainers...)
	between.Spec.Volumes = append(between.Spec.Volumes, corev1.Volume{Name: "theirs"})
	container(t, between, ContainerProxy).Resources.Limits[corev1.ResourceCPU] = resource.MustParse("1")
	container(t, between, "app").LivenessProbe.TimeoutSeconds = 9

	out := injected(t, between)
	probes := probesOf(t, out)
	if live := probes["app/liveness"]; live.Path != "/live" || live.Port != 80 || live.TimeoutMillis != 9000 {
		t.Errorf("the first probe became %+v", live)
	}
	if ready := probes["agent/readiness"]; ready.Kind != probe.TCP || ready.Port != 99 {
		t.Errorf("the new probe became %+v", ready)
	}
	if limit := container(t, out, ContainerProxy).Resources.Limits.Cpu().String(); limit != "1" {
		t.Errorf("a limit that another plugin set became %s", limit)
	}
	if got := out.Spec.InitContainers[0].Name; got != ContainerInit {
		t.Errorf("%s is first: want %s", got, ContainerInit)
	}
}

// Someone applies what `kubectl get pod -o yaml` printed, after the operator was upgraded or with other settings.
func TestACopyOfAnInjectedPodIsBroughtUpToDate(t *testing.T) {
	first := injected(t, podOf(t, `spec: {containers: [{name: app, livenessProbe: {httpGet: {path: /live, port: 80}}}]}`))
	copied := first.DeepCopy()
	copied.Annotations[AnnotationLogLevel] = "debug"
	container(t, copied, ContainerProxy).Image = "evil"
	out := injected(t, copied)
	proxy := container(t, out, ContainerProxy)
	if proxy.Image != testConfig(t).Image || env(proxy, "HEDDLE_LOG_LEVEL") != "debug" {
		t.Errorf("the proxy is %s with log level %s", proxy.Image, env(proxy, "HEDDLE_LOG_LEVEL"))
	}
	if live := probesOf(t, out)["app/liveness"]; live.Path != "/live" {
		t.Errorf("the probe became %+v", live)
	}
	if len(out.Spec.InitContainers) != 2 || len(out.Spec.Volumes) != len(ourVolumes) {
		t.Errorf("%d init containers and %d volumes", len(out.Spec.InitContainers), len(out.Spec.Volumes))
	}
}

func TestLimitsByAnnotation(t *testing.T) {
	for annotation, want := range map[string]string{"": "", "{heddle.io/proxy-limits: 'streams=9, idle=1m'}": "streams=9, idle=1m"} {
		pod := podOf(t, "")
		if annotation != "" {
			pod = podOf(t, "metadata: {annotations: "+annotation+"}")
		}
		if got := env(container(t, injected(t, pod), ContainerProxy), "HEDDLE_LIMITS"); got != want {
			t.Errorf("%s: %q", annotation, got)
		}
	}
}

func TestUnknownAnnotationsAreWarnedOf(t *testing.T) {
	_, warnings, err := testConfig(t).Inject(podOf(t, `metadata: {annotations: {heddle.io/proxy-cpu-limits: "1", heddle.io/proxy-cpu-limit: "1"}}`), nil)
	if err != nil || len(warnings) != 1 {
		t.Errorf("got %q and %v: want one warning", warnings, err)
	}
}

// Properties of a pass over pods made at random: injected checks them.
func TestAnyPodComesThroughTwoPasses(t *testing.T) {
	for seed := range uint64(300) {
		r := rand.New(rand.NewPCG(seed, 0)) //nolint:gosec // a test's
		pod := randomPod(r)
		out := injected(t, pod)
		one, err := json.Marshal(patch(pod, out))
		if err != nil {
			t.Fatal(err)
		}
		again, _, err := testConfig(t).Inject(pod, nil)
		if err != nil {
			t.Fatal(err)
		}
		two, err := json.Marshal(patch(pod, again))
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(string(one), string(two)); diff != "" {
			t.Errorf("seed %d: the patch differs from time to time: %s", seed, diff)
		}
		if t.Failed() {
			t.Fatalf("seed %d", seed)
		}
	}
}

func randomPod(r *rand.Rand) *corev1.Pod {
	pod := &corev1.Pod{}
	if r.IntN(2) == 0 {
		pod.Labels = map[string]string{"a/b~c": "x"}
	}
	if r.IntN(2) == 0 {
		pod.Annotations = map[string]string{scrapeWanted: "true", scrapePort: "9100", "a": "b"}
	}
	for i := range r.IntN(3) {
		pod.Spec.Volumes = append(pod.Spec.Volumes, corev1.Volume{Name: fmt.Sprintf("v%d", i)})
	}
	for i := range r.IntN(3) {
		pod.Spec.InitContainers = append(pod.Spec.InitContainers, randomContainer(r, fmt.Sprintf("i%d", i)))
	}
	for i := range 1 + r.IntN(3) {
		pod.Spec.Containers = append(pod.Spec.Containers, randomContainer(r, fmt.Sprintf("c%d", i)))
	}
	return pod
}

func randomContainer(r *rand.Rand, name string) corev1.Container {
	get := func() *corev1.HTTPGetAction {
		return &corev1.HTTPGetAction{Path: "/x", Port: []intstr.IntOrString{intstr.FromString("web"), intstr.FromInt32(80), intstr.FromString("81")}[r.IntN(3)]}
	}
	handler := func() *corev1.Probe {
		p := &corev1.Probe{TimeoutSeconds: r.Int32N(3)}
		switch r.IntN(5) {
		case 0:
			return nil
		case 1:
			p.HTTPGet = get()
		case 2:
			p.TCPSocket = &corev1.TCPSocketAction{Port: intstr.FromInt32(82)}
		case 3:
			p.GRPC = &corev1.GRPCAction{Port: 83}
		case 4:
			p.Exec = &corev1.ExecAction{Command: []string{"x"}}
		}
		return p
	}
	c := corev1.Container{
		Name: name, Ports: []corev1.ContainerPort{{Name: "web", ContainerPort: 8080}},
		LivenessProbe: handler(), ReadinessProbe: handler(), StartupProbe: handler(),
	}
	if r.IntN(2) == 0 {
		c.Lifecycle = &corev1.Lifecycle{PreStop: &corev1.LifecycleHandler{HTTPGet: get()}}
	}
	return c
}
