// SPDX-License-Identifier: Apache-2.0

package sandbox

import (
	"fmt"
	"net/http"
	"os"
	"strings"
	"syscall"
	"testing"
)

// free is an address that nobody uses: nor does anybody who takes any port of 127.0.0.1 before it is used.
func free(t *testing.T) string {
	t.Helper()
	return application(t, "", "127.0.0.77")
}

func TestAPairCarriesARequestUnderTheCallersIdentity(t *testing.T) {
	f := newFiles(t)
	endpoint := application(t, "cart", "127.0.0.11")
	f.service("cart", "http", endpoint)
	s := start(t, "-f", f.dir, "--caller", "cart=web/front")
	_, body := get(&http.Transport{}, "http://"+s.client("cart.shop:80")+"/")
	if want := "cart HTTP/1.1 URI=spiffe://cluster.local/ns/web/sa/front"; body != want {
		t.Errorf("%q: want %q", body, want)
	}
	admin := s.awaitLine("^server .* admin=(\\S+) ")[0]
	await(t, func() string { // it counts a request when its answer has gone
		const counted = `direction="inbound",mtls="true",response_class="2xx"`
		if _, page := get(&http.Transport{}, "http://"+admin+"/metrics"); !strings.Contains(page, counted) {
			return "the server side has no request on mutual TLS: " + page
		}
		return ""
	})
	if left, err := os.ReadDir(s.dir); err != nil || len(left) != 1 {
		t.Errorf("temporary files of a sandbox that runs: %v %v", left, err)
	}

	check(t, s.cmd.Process.Signal(syscall.SIGINT))
	<-s.ended
	if s.err != nil {
		t.Errorf("the end: %v", s.err)
	}
	s.awaitNoProxy()
	if left, err := os.ReadDir(s.dir); err != nil || len(left) != 0 {
		t.Errorf("temporary files that are left: %v %v", left, err)
	}
}

func TestEditsTakeEffect(t *testing.T) {
	f := newFiles(t)
	f.service("cart", "http")
	f.service("cart-v1", "http", application(t, "one", "127.0.0.11"))
	f.service("cart-v2", "http", application(t, "two", "127.0.0.12"))
	f.write("split.yaml", split(100, 0))
	s := start(t, "-f", f.dir, "--listen", "cart="+listenAt(t))
	client := s.client("cart.shop:80")
	awaitAnswer(t, client, http.StatusOK, "one")
	f.write("split.yaml", split(0, 100))
	awaitAnswer(t, client, http.StatusOK, "two")
	s.awaitLine(`split\.yaml TrafficSplit shop/cart: Ready=True \(1/1, generation 2\)`)

	f.write("policy.yaml", policy("{targetRef: {kind: Service, name: cart-v2}, authorization: {defaultAction: Deny, rules: [{name: web, action: Allow, from: [{serviceAccounts: [web]}]}]}}"))
	awaitAnswer(t, client, http.StatusForbidden, "")
	f.write("policy.yaml", policy("{targetRef: {kind: Service, name: cart-v2}, authorization: {defaultAction: Deny, rules: [{name: web, action: Allow, from: [{serviceAccounts: [default]}]}]}}"))
	awaitAnswer(t, client, http.StatusOK, "two")
	check(t, os.Remove(f.dir+"/policy.yaml"))
	s.awaitLine(`^MeshPolicy shop/cart: gone`)
	awaitAnswer(t, client, http.StatusOK, "two")
	if n := strings.Count(s.output(), "pid="); n != 3 {
		t.Errorf("%d proxies were started: want one client side and two server sides", n)
	}
}

// listenAt is an address for a listener.
func listenAt(t *testing.T) string {
	t.Helper()
	var at string
	t.Run("find a port", func(t *testing.T) { at = free(t) }) // which is free once that has ended
	return at
}

func TestABadFileKeepsTheLastGood(t *testing.T) {
	f := newFiles(t)
	f.service("cart", "http")
	f.service("cart-v1", "http", application(t, "one", "127.0.0.11"))
	f.service("cart-v2", "http", application(t, "two", "127.0.0.12"))
	f.write("split.yaml", split(100, 0))
	s := start(t, "-f", f.dir)
	client := s.client("cart.shop:80")
	for name, c := range map[string]struct {
		text  string
		words []string
	}{
		"a field that is not there": {
			strings.ReplaceAll(split(0, 100), "weight", "wieght"),
			[]string{"split.yaml", "TrafficSplit shop/cart", "spec.backends[0].wieght", "stays in force"},
		},
		"a value of another type": {
			strings.ReplaceAll(split(0, 100), "weight: 100", "weight: most"),
			[]string{"split.yaml", "TrafficSplit shop/cart", "weight", "stays in force"},
		},
		"no YAML":        {"{", []string{"split.yaml", "document 1", "stays in force"}},
		"the same twice": {split(0, 100) + "---\n" + split(0, 100), []string{"split.yaml", "TrafficSplit shop/cart", "has it too"}},
		"another file's": {split(0, 100) + "---\n" + serviceYAML("cart", "http"), []string{"split.yaml", "Service shop/cart", "cart.yaml has it too"}},
	} {
		f.write("split.yaml", c.text)
		s.awaitComplaint(c.words...)
		if _, body := get(&http.Transport{}, "http://"+client+"/"); !strings.HasPrefix(body, "one ") {
			t.Errorf("%s: %q", name, body)
		}
		f.write("split.yaml", split(100, 0))
	}
	// What the schema of the API cannot say the compiler does, and keeps the last good spec.
	f.write("split.yaml", split(0, 0))
	s.awaitLine(`split\.yaml TrafficSplit shop/cart: Ready=False .* spec\.backends: Invalid value: 0: .* stays in force`)
	awaitAnswer(t, client, http.StatusOK, "one")
	f.write("split.yaml", split(0, 100))
	awaitAnswer(t, client, http.StatusOK, "two")
}

func TestWhatIsWrongAtTheStartEndsIt(t *testing.T) {
	f := newFiles(t)
	f.service("cart", "http", "127.0.0.11:8080")
	bad := newFiles(t)
	bad.service("cart", "http", "10.0.0.1:8080")
	for name, c := range map[string]struct {
		args []string
		want string
	}{
		"no files":                  {nil, "want -f DIR"},
		"files that are not there":  {[]string{"-f", f.dir + "/none"}, "no such file"},
		"an address elsewhere":      {[]string{"-f", bad.dir}, `endpoints[0].addresses[0]: Invalid value: "10.0.0.1": want a loopback address`},
		"a Service that is none":    {[]string{"-f", f.dir, "--listen", "kart=127.0.0.1:1"}, `there is no Service "kart"`},
		"a port that is none":       {[]string{"-f", f.dir, "--listen", "cart:90=127.0.0.1:1"}, "has the ports http"},
		"a caller of nobody":        {[]string{"-f", f.dir, "--caller", "kart=shop/web"}, `--caller kart`},
		"an admin of nobody":        {[]string{"-f", f.dir, "--admin", "kart=127.0.0.1:1"}, `--admin kart`},
		"half of an address":        {[]string{"-f", f.dir, "--inbound", "127.0.0.11:8080=:1"}, "--inbound"},
		"both sides alone":          {[]string{"-f", f.dir, "--inbound-only", "--outbound-only"}, "one of them"},
		"a caller without a client": {[]string{"-f", f.dir, "--inbound-only", "--caller", "cart=shop/web"}, "--caller"},
		"a proxy that is none":      {[]string{"-f", f.dir, "--proxy", "/nowhere"}, "/nowhere"},
		"a proxy that ends":         {[]string{"-f", f.dir, "--proxy-arg=-wrong"}, "the proxy ended"},
	} {
		s := launch(t, c.args...)
		<-s.ended
		if code := s.cmd.ProcessState.ExitCode(); code != 1 || !strings.Contains(s.complaints(), c.want) {
			t.Errorf("%s: exit code %d, %s", name, code, s.complaints())
		}
	}
}

func TestAPodGivesItsIdentity(t *testing.T) {
	f := newFiles(t)
	endpoint := application(t, "cart", "127.0.0.11")
	_, port, _ := strings.Cut(endpoint, ":")
	f.write("all.json", fmt.Sprintf(`{"apiVersion": "v1", "kind": "List", "items": [
		{"apiVersion": "v1", "kind": "Service", "metadata": {"name": "cart", "namespace": "shop"},
		 "spec": {"selector": {"app": "cart"}, "ports": [{"name": "http", "port": 80, "targetPort": %s}]}},
		{"apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": "IPv4",
		 "metadata": {"name": "cart-x", "namespace": "shop", "labels": {"kubernetes.io/service-name": "cart"}},
		 "ports": [{"name": "http", "port": %s}], "endpoints": [{"addresses": ["127.0.0.11"], "targetRef": {"kind": "Pod", "name": "cart-0"}}]},
		{"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "cart-0", "namespace": "shop", "labels": {"app": "cart", "track": "canary"}},
		 "spec": {"serviceAccountName": "trolley", "containers": [{"name": "app", "image": "cart"}]}},
		{"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "cart", "namespace": "shop"}}
	]}`, port, port))
	f.write("policy.yaml", policy("{targetRef: {kind: Workload, selector: {matchLabels: {track: canary}}}, authorization: {defaultAction: Deny, rules: [{name: none, action: Deny, to: [{paths: [/x]}]}]}}"))
	s := start(t, "-f", f.dir)
	s.awaitLine("^server endpoint=127.0.0.11:" + port + " .* identity=spiffe://cluster.local/ns/shop/sa/trolley ")
	awaitAnswer(t, s.client("cart.shop:80"), http.StatusForbidden, "") // the policy chose it by its label
	check(t, os.Remove(f.dir+"/policy.yaml"))
	awaitAnswer(t, s.client("cart.shop:80"), http.StatusOK, "cart")
}

func TestEndpointsComeAndGo(t *testing.T) {
	f := newFiles(t)
	one, two := application(t, "one", "127.0.0.11"), application(t, "two", "127.0.0.12")
	f.service("cart", "http", one)
	s := start(t, "-f", f.dir, "--listen", "cart="+listenAt(t))
	client := s.client("cart.shop:80")
	awaitAnswer(t, client, http.StatusOK, "one")
	f.service("cart", "http", two)
	awaitAnswer(t, client, http.StatusOK, "two")
	f.service("cart", "http", one)
	awaitAnswer(t, client, http.StatusOK, "one")
	f.service("cart", "http")
	awaitAnswer(t, client, http.StatusServiceUnavailable, "no_endpoints")
	f.service("cart", "http", one, two)
	awaitAnswer(t, client, http.StatusOK, "")
	f.service("web", "http", application(t, "web", "127.0.0.1"))
	s.awaitLine("^server .* of=web.shop ")
}

func TestAProxyThatDiesEndsTheSandbox(t *testing.T) {
	f := newFiles(t)
	f.service("cart", "http", application(t, "cart", "127.0.0.11"))
	s := start(t, "-f", f.dir)
	check(t, syscall.Kill(s.proxies()[0], syscall.SIGKILL))
	<-s.ended
	if code := s.cmd.ProcessState.ExitCode(); code != 1 || !strings.Contains(s.complaints(), "ended: signal: killed") {
		t.Errorf("exit code %d: %s", code, s.complaints())
	}
	s.awaitNoProxy()
}

func TestASandboxThatIsKilledLeavesNoProxy(t *testing.T) {
	f := newFiles(t)
	f.service("cart", "http", application(t, "cart", "127.0.0.11"))
	s := start(t, "-f", f.dir)
	check(t, s.cmd.Process.Kill())
	s.awaitNoProxy()
	<-s.ended
}

// The objects that docs/sandbox.md begins with.
func TestTheSamples(t *testing.T) {
	const samples = "../../config/samples/sandbox"
	f := newFiles(t)
	entries, err := os.ReadDir(samples)
	check(t, err)
	one, two := application(t, "one", "127.0.0.11"), application(t, "two", "127.0.0.12")
	for _, e := range entries {
		text, err := os.ReadFile(samples + "/" + e.Name())
		check(t, err)
		f.write(e.Name(), string(text))
	}
	s := start(t, "-f", f.dir, "--caller", "cart=shop/web", "--inbound", "127.0.0.11:9001="+listenAt(t), "--inbound", "127.0.0.12:9001="+listenAt(t))
	s.awaitLine(`^\S+/policy\.yaml MeshPolicy shop/shop: Ready=True `)
	s.awaitLine(`^\S+/split\.yaml TrafficSplit shop/cart: Ready=True `)
	// Nobody listens at the samples' own ports: that the request came so far is enough.
	awaitAnswer(t, s.client("cart.shop:80"), http.StatusServiceUnavailable, "connect_failed")
	text, err := os.ReadFile(samples + "/services.yaml")
	check(t, err)
	f.write("services.yaml", strings.NewReplacer(
		"port: 9001}]\nendpoints: [{addresses: [127.0.0.11]}]", "port: "+strings.Split(one, ":")[1]+"}]\nendpoints: [{addresses: [127.0.0.11]}]",
		"port: 9001}]\nendpoints: [{addresses: [127.0.0.12]}]", "port: "+strings.Split(two, ":")[1]+"}]\nendpoints: [{addresses: [127.0.0.12]}]",
	).Replace(string(text)))
	awaitAnswer(t, s.client("cart.shop:80"), http.StatusOK, "URI=spiffe://cluster.local/ns/shop/sa/web")
}
