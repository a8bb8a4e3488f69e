// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"context"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
	"google.golang.org/protobuf/proto"

	"github.com/heddle-mesh/heddle/internal/identity"
	"github.com/heddle-mesh/heddle/internal/meshconfig"
	"github.com/heddle-mesh/heddle/internal/signedconfig"
	"github.com/heddle-mesh/heddle/proxy/capture"
	"github.com/heddle-mesh/heddle/test/pki"
)

const (
	podIP  = "10.77.0.2"
	podUID = "11111111-2222-4333-8444-555555555555"
	app    = podIP + ":8080"
)

// TestAPod runs a pod without a cluster: a network namespace with the redirect, an application, and the proxy as its own
// user, which starts from what an earlier one kept.
func TestAPod(t *testing.T) {
	if !inNamespace(t) {
		return
	}
	for _, command := range []string{"ip link set lo up", "ip addr add " + podIP + "/32 dev lo"} {
		words := strings.Fields(command)
		if out, err := exec.CommandContext(t.Context(), words[0], words[1:]...).CombinedOutput(); err != nil {
			t.Fatalf("%s: %v %s", command, err, out)
		}
	}
	env := map[string]string{"HEDDLE_POD_IPS": podIP}
	var out, problems bytes.Buffer
	if code := run(t.Context(), []string{"init"}, lookup(env), &out, &problems); code != exitOK {
		t.Fatal(problems.String())
	}
	sick := application(t)
	p := startProxy(t)

	// Through both sides of the proxy, with mTLS between.
	status, body := get(t, directly, "http://"+app+"/hello")
	if status != http.StatusOK || !strings.Contains(body, "URI=spiffe://cluster.local/ns/shop/sa/checkout") {
		t.Errorf("the pod calls itself: %d %q", status, body)
	}
	// As somebody outside the mesh.
	status, body = get(t, outsider(), "http://"+app+"/hello")
	if status != http.StatusForbidden || !strings.Contains(body, "plaintext_refused") {
		t.Errorf("in plaintext: %d %q", status, body)
	}
	// The kubelet.
	for id, want := range map[string]int{"a": http.StatusOK, "b": http.StatusOK, "c": http.StatusServiceUnavailable} {
		if status, _ := get(t, directly, "http://"+podIP+":15020/probe/"+id); status != want {
			t.Errorf("probe %s: %d", id, status)
		}
	}
	close(sick)
	if status, _ := get(t, directly, "http://"+podIP+":15020/probe/a"); status != http.StatusInternalServerError {
		t.Errorf("the probe of an application that is sick: %d", status)
	}
	_, page := get(t, directly, "http://"+podIP+":15020/metrics")
	for _, want := range []string{
		`direction="outbound",mtls="true",response_class="2xx"`, `direction="inbound",mtls="true",response_class="2xx"`,
		`heddle_refused_total{direction="inbound",reason="plaintext_refused"} 1`, `heddle_config_serial{part="term"} 1`,
		"\nshop_sales_total 3\n",
	} {
		if !strings.Contains(page, want) {
			t.Errorf("/metrics lacks %s", want)
		}
	}
	// It is killed, and back with what it kept.
	if err := p.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = p.Wait()
	p.launch(t)
	if status, body := get(t, directly, "http://"+app+"/hello"); status != http.StatusOK {
		t.Errorf("after it was killed: %d %q", status, body)
	}
	load := keepCalling(t)
	p.expectDrain(t)
	load()
	p.expectEnd(t)
	if log := p.log.String(); !strings.Contains(log, `"msg":"denied"`) || !strings.Contains(log, `"reason":"plaintext_refused"`) {
		t.Errorf("the refusal is not logged: %s", log)
	}
}

// inNamespace runs the test in a network namespace of its own; it returns false outside.
func inNamespace(t *testing.T) bool {
	t.Helper()
	const inside = "HEDDLE_TEST_OUTSIDE_NETNS"
	namespace, err := os.Readlink("/proc/self/ns/net")
	if err != nil {
		t.Fatal(err)
	}
	if outside := os.Getenv(inside); outside != "" {
		if outside == namespace {
			t.Fatal("the network namespace is still the machine's")
		}
		return true
	}
	if os.Geteuid() != 0 {
		t.Skip("makes a network namespace: run it as root")
	}
	if _, err := exec.LookPath("ip"); err != nil {
		t.Skip("needs the command ip of iproute2")
	}
	cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^"+t.Name()+"$", "-test.v=true")
	cmd.Env = append(os.Environ(), inside+"="+namespace)
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET}
	out, err := cmd.CombinedOutput()
	t.Logf("in its own namespace:\n%s", out)
	if err != nil {
		t.Fatal(err)
	}
	return false
}

// application serves the caller's identity, its health, and metrics. It is sick once the channel is closed.
func application(t *testing.T) chan struct{} {
	t.Helper()
	sick := make(chan struct{})
	mux := http.NewServeMux()
	mux.HandleFunc("/hello", func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprint(w, r.Header.Get("X-Forwarded-Client-Cert"))
	})
	mux.HandleFunc("/healthz", func(w http.ResponseWriter, _ *http.Request) {
		select {
		case <-sick:
			w.WriteHeader(http.StatusInternalServerError)
		default:
		}
	})
	mux.HandleFunc("/metrics", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, "shop_sales_total 3") })
	l, err := net.Listen("tcp", app)
	if err != nil {
		t.Fatal(err)
	}
	server := &http.Server{Handler: mux, ReadHeaderTimeout: time.Minute}
	done := make(chan struct{})
	go func() { defer close(done); _ = server.Serve(l) }()
	t.Cleanup(func() { _ = server.Close(); <-done })
	return sick
}

// process is the proxy, run by this test's binary as the proxy's user.
type process struct {
	*exec.Cmd
	state string
	exe   string
	env   []string
	log   *bytes.Buffer
}

func startProxy(t *testing.T) *process {
	t.Helper()
	// Where another user may look; the test's own folders are root's.
	base, err := os.MkdirTemp("", "heddle-pod-") //nolint:usetesting // see above
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(base) })
	p := &process{state: base + "/state", exe: base + "/proxy", log: new(bytes.Buffer)}
	binary, err := os.ReadFile("/proc/self/exe")
	if err != nil {
		t.Fatal(err)
	}
	write(t, p.exe, binary)
	keep(t, base)
	give(t, base)

	env := injected()
	env["HEDDLE_STATE_DIR"], env["HEDDLE_ROOTS_DIR"], env["HEDDLE_TOKEN_FILE"] = p.state, base+"/roots", base+"/none"
	env["HEDDLE_CONTROL_ADDRESS"], env["HEDDLE_POD_IPS"], env["HEDDLE_LOG_LEVEL"] = "127.0.0.1:1", podIP, "info"
	env["HEDDLE_METRICS_MERGE"] = `{"port":8080,"path":"/metrics"}`
	env["HEDDLE_PROBES"] = `[{"id":"a","kind":"http","port":8080,"path":"/healthz"},{"id":"b","kind":"tcp","port":8080},{"id":"c","kind":"grpc","port":8080}]`
	p.env = []string{asProxy + "=1"}
	for name, value := range env {
		p.env = append(p.env, name+"="+value)
	}
	p.launch(t)
	return p
}

// launch starts the program and waits until it is ready.
func (p *process) launch(t *testing.T) {
	t.Helper()
	begun := time.Now()
	p.Cmd = exec.Command(p.exe)
	p.Env, p.Stdout, p.Stderr = p.env, p.log, p.log
	p.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: capture.DefaultProxyUID, Gid: capture.DefaultProxyUID}, Pdeathsig: syscall.SIGKILL}
	if err := p.Start(); err != nil {
		t.Fatal(err)
	}
	cmd := p.Cmd
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		if t.Failed() {
			t.Logf("the proxy's log:\n%s", p.log)
		}
	})
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	ticker := time.NewTicker(5 * time.Millisecond)
	defer ticker.Stop()
	for last := ""; ; <-ticker.C {
		request, _ := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+podIP+":15020/ready", http.NoBody)
		response, err := directly.RoundTrip(request)
		if err == nil {
			body, _ := io.ReadAll(response.Body)
			response.Body.Close()
			if last = string(body); response.StatusCode == http.StatusOK {
				t.Logf("ready %v after its start", time.Since(begun).Round(time.Millisecond))
				return
			}
		}
		if ctx.Err() != nil {
			t.Fatalf("not ready: %s", last)
		}
	}
}

// keepCalling calls the application on kept connections until the function that it returns is called. Not one may fail.
func keepCalling(t *testing.T) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	begun := make(chan struct{})
	var wg sync.WaitGroup
	var once sync.Once
	for range 10 {
		wg.Go(func() {
			transport := &http.Transport{}
			defer transport.CloseIdleConnections()
			for n := 0; ctx.Err() == nil || n < 20; n++ {
				request, _ := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+app+"/hello", http.NoBody)
				response, err := transport.RoundTrip(request)
				if err != nil {
					t.Errorf("a call while it drains: %v", err)
					return
				}
				_, err = io.Copy(io.Discard, response.Body)
				response.Body.Close()
				if err != nil || response.StatusCode != http.StatusOK {
					t.Errorf("a call while it drains: %s, %v", response.Status, err)
				}
				once.Do(func() { close(begun) })
			}
		})
	}
	<-begun
	return func() { cancel(); wg.Wait() }
}

func (p *process) expectDrain(t *testing.T) {
	t.Helper()
	var out, problems bytes.Buffer
	if code := run(t.Context(), []string{"drain", "-socket", p.state + "/admin.sock"}, lookup(nil), &out, &problems); code != exitOK || !strings.HasPrefix(out.String(), "{\"running\":") {
		t.Errorf("drain: %d %s %s", code, out.String(), problems.String())
	}
	if status, _ := get(t, directly, "http://"+podIP+":15020/ready"); status != http.StatusServiceUnavailable {
		t.Errorf("/ready while it drains: %d", status)
	}
	if status, body := get(t, directly, "http://"+app+"/hello"); status != http.StatusOK {
		t.Errorf("a call while it drains: %d %q", status, body)
	}
}

func (p *process) expectEnd(t *testing.T) {
	t.Helper()
	if err := p.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if err := p.Wait(); err != nil {
		t.Errorf("after SIGTERM: %v", err)
	}
}

// keep writes what an earlier proxy would have kept, and the roots.
func keep(t *testing.T, base string) {
	t.Helper()
	workloads, signers := pki.NewCA(t, "workloads"), pki.NewConfigCA(t, "config")
	id := identity.ID{TrustDomain: "cluster.local", Namespace: "shop", ServiceAccount: "checkout"}
	leaf := workloads.Workload(t, id)
	key, err := x509.MarshalPKCS8PrivateKey(leaf.PrivateKey)
	if err != nil {
		t.Fatal(err)
	}
	kept := pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: key})
	for _, der := range leaf.Certificate {
		kept = append(kept, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})...)
	}
	write(t, base+"/state/identity.pem", kept)
	write(t, base+"/roots/operator.pem", workloads.PEM())
	write(t, base+"/roots/config.pem", signers.PEM())
	root, _ := pem.Decode(workloads.PEM())

	signer := signers.Signer(t, time.Time{}, time.Time{})
	inbound := meshconfig.InboundName("0123456789abcdef")
	for name, m := range map[meshconfig.Name]proto.Message{
		meshconfig.MeshName: &meshconfig.Mesh{TrustDomain: "cluster.local", WorkloadRoots: [][]byte{root.Bytes}, Networks: []string{"10.77.0.0/16"}},
		meshconfig.BindingName(podUID): &meshconfig.Binding{
			PodUid: podUID, Pod: "shop/checkout-1", Identity: id.String(), Inbound: string(inbound), Workload: "checkout",
		},
		inbound: &meshconfig.Inbound{DefaultPolicy: &meshconfig.PortPolicy{
			Mtls: meshconfig.MTLSMode_MTLS_MODE_STRICT, DefaultAction: meshconfig.Action_ACTION_ALLOW,
		}},
		meshconfig.AddressName(netip.MustParseAddr(podIP)): &meshconfig.Address{
			Address: podIP, Pod: &meshconfig.PodAddress{
				Endpoint: &meshconfig.Endpoint{Address: podIP, Identity: id.String(), Pod: "shop/checkout-1", Workload: "checkout"},
			},
		},
	} {
		audience := signedconfig.AudienceMesh
		if name.Kind() == meshconfig.KindBinding {
			audience = signedconfig.AudiencePod(podUID)
		}
		payload := meshconfig.Encode(m)
		envelope, err := signer.Sign(&signedconfig.Statement{
			Section: string(name), MeshID: "mesh", Audience: audience, Serial: signedconfig.Serial{Term: 1, Counter: 1},
			IssuedAt: time.Now(), PayloadType: meshconfig.PayloadType(name.Kind()), Payload: payload,
		})
		if err != nil {
			t.Fatal(err)
		}
		write(t, base+"/state/sections/"+url.PathEscape(string(name))+".envelope", envelope)
	}
}

func write(t *testing.T, path string, data []byte) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, data, 0o755); err != nil {
		t.Fatal(err)
	}
}

// give makes the proxy's user the owner.
func give(t *testing.T, base string) {
	t.Helper()
	err := filepath.WalkDir(base, func(path string, _ fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		return os.Chown(path, capture.DefaultProxyUID, capture.DefaultProxyUID)
	})
	if err != nil {
		t.Fatal(err)
	}
}

// directly dials as an application of the pod.
var directly = &http.Transport{DisableKeepAlives: true}

// outsider dials as the redirect of what comes from outside does: to the inbound side, in plaintext.
func outsider() http.RoundTripper {
	return &http.Transport{DialContext: func(ctx context.Context, network, address string) (net.Conn, error) {
		runtime.LockOSThread() // the user is the thread's
		defer runtime.UnlockOSThread()
		if _, err := unix.SetfsuidRetUid(capture.DefaultProxyUID); err != nil {
			return nil, err
		}
		defer func() { _, _ = unix.SetfsuidRetUid(0) }()
		d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1)}}
		return d.DialContext(ctx, network, address)
	}}
}

// get asks once, on a connection of its own.
func get(t *testing.T, by http.RoundTripper, target string) (int, string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, target, http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	request.Close = true
	response, err := by.RoundTrip(request)
	if err != nil {
		return 0, err.Error()
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		return 0, err.Error()
	}
	return response.StatusCode, string(body)
}
