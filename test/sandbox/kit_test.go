// SPDX-License-Identifier: Apache-2.0

package sandbox

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// patience is how long a test waits for what must come, on a machine that is busy.
const patience = 60 * time.Second

func check(tb testing.TB, err error) {
	tb.Helper()
	if err != nil {
		tb.Fatal(err)
	}
}

// await waits until something is so; it returns what is not so as long as it is not.
func await(tb testing.TB, so func() string) {
	tb.Helper()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	deadline := time.Now().Add(patience)
	for {
		why := so()
		if why == "" {
			return
		}
		if time.Now().After(deadline) {
			tb.Fatal("in vain: " + why)
		}
		<-tick.C
	}
}

// sandbox is one that runs.
type sandbox struct {
	*testing.T
	cmd *exec.Cmd
	dir string // of its temporary files

	mu       sync.Mutex
	lines    []string
	problems bytes.Buffer
	ended    chan struct{}
	err      error // of Wait
}

// launch starts a sandbox and returns without waiting for anything.
func launch(t *testing.T, args ...string) *sandbox {
	t.Helper()
	s := &sandbox{T: t, dir: t.TempDir(), ended: make(chan struct{})}
	s.cmd = exec.Command(filepath.Join(binaries, "heddle"), append([]string{"sandbox"}, args...)...)
	s.cmd.Env = append(os.Environ(), "TMPDIR="+s.dir, "GORACE=atexit_sleep_ms=0")
	stdout, err := s.cmd.StdoutPipe()
	check(t, err)
	stderr, err := s.cmd.StderrPipe()
	check(t, err)
	check(t, s.cmd.Start())
	var reading sync.WaitGroup
	reading.Go(func() {
		for lines := bufio.NewScanner(stdout); lines.Scan(); {
			s.mu.Lock()
			s.lines = append(s.lines, lines.Text())
			s.mu.Unlock()
		}
	})
	reading.Go(func() {
		for lines := bufio.NewScanner(stderr); lines.Scan(); {
			s.mu.Lock()
			fmt.Fprintln(&s.problems, lines.Text())
			s.mu.Unlock()
		}
	})
	go func() {
		reading.Wait()
		s.err = s.cmd.Wait()
		close(s.ended)
	}()
	t.Cleanup(func() {
		_ = s.cmd.Process.Signal(syscall.SIGTERM)
		<-s.ended
		if strings.Contains(s.complaints(), "DATA RACE") {
			t.Error("there is a data race")
		}
		if t.Failed() {
			t.Logf("%s\n%s", s.output(), s.complaints())
		}
	})
	return s
}

// start starts a sandbox and waits until it is ready.
func start(t *testing.T, args ...string) *sandbox {
	t.Helper()
	s := launch(t, args...)
	s.awaitLine("^ready$")
	return s
}

func (s *sandbox) output() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return strings.Join(s.lines, "\n")
}

func (s *sandbox) complaints() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.problems.String()
}

// awaitLine waits for a line that matches, and returns what its groups match.
func (s *sandbox) awaitLine(pattern string) []string {
	s.Helper()
	re := regexp.MustCompile("(?m)" + pattern)
	var found []string
	await(s, func() string {
		found = re.FindStringSubmatch(s.output())
		select {
		case <-s.ended:
			if found == nil {
				s.Fatalf("it ended: %v\n%s", s.err, s.complaints())
			}
		default:
		}
		if found == nil {
			return "a line like " + pattern
		}
		return ""
	})
	return found[1:]
}

// awaitComplaint waits until all of the words were complained of, in one line.
func (s *sandbox) awaitComplaint(words ...string) {
	s.Helper()
	await(s, func() string {
		for line := range strings.Lines(s.complaints()) {
			if !slices.ContainsFunc(words, func(word string) bool { return !strings.Contains(line, word) }) {
				return ""
			}
		}
		return fmt.Sprintf("a complaint about %q", words)
	})
}

// client is where a Service's client side listens, and server where an endpoint's server side does.
func (s *sandbox) client(service string) string {
	s.Helper()
	return s.awaitLine("^client service=" + regexp.QuoteMeta(service) + " listen=(\\S+) ")[0]
}

func (s *sandbox) server(endpoint string) string {
	s.Helper()
	return s.awaitLine("^server endpoint=" + regexp.QuoteMeta(endpoint) + " listen=(\\S+) ")[0]
}

// proxies are the pids of all proxies that were started.
func (s *sandbox) proxies() []int {
	s.Helper()
	var out []int
	for _, match := range regexp.MustCompile(`pid=(\d+)`).FindAllStringSubmatch(s.output(), -1) {
		pid, err := strconv.Atoi(match[1])
		check(s, err)
		out = append(out, pid)
	}
	if len(out) == 0 {
		s.Fatal("there are no proxies")
	}
	return out
}

// awaitNoProxy waits until no proxy is left.
func (s *sandbox) awaitNoProxy() {
	s.Helper()
	await(s, func() string {
		for _, pid := range s.proxies() {
			if err := syscall.Kill(pid, 0); !errors.Is(err, syscall.ESRCH) {
				return fmt.Sprintf("process %d is left: %v", pid, err)
			}
		}
		return ""
	})
}

// files is a directory of objects.
type files struct {
	testing.TB
	dir string
}

func newFiles(tb testing.TB) *files {
	tb.Helper()
	return &files{tb, tb.TempDir()}
}

// write replaces a file, as an editor does.
func (f *files) write(name, text string) {
	f.Helper()
	next := filepath.Join(f.dir, "."+name)
	check(f, os.WriteFile(next, []byte(text), 0o600))
	check(f, os.Rename(next, filepath.Join(f.dir, name)))
}

// service writes a Service with one port, 80, and its endpoints, in one file.
func (f *files) service(name, portName string, endpoints ...string) {
	f.Helper()
	f.write(name+".yaml", serviceYAML(name, portName, endpoints...))
}

func serviceYAML(name, portName string, endpoints ...string) string {
	text := fmt.Sprintf("apiVersion: v1\nkind: Service\nmetadata: {name: %s, namespace: shop}\nspec: {ports: [{name: %s, port: 80}]}\n", name, portName)
	for i, e := range endpoints {
		host, port, _ := strings.Cut(e, ":")
		text += fmt.Sprintf("---\napiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\n"+
			"metadata: {name: %s-%d, namespace: shop, labels: {kubernetes.io/service-name: %s}}\n"+
			"addressType: IPv4\nports: [{name: %s, port: %s}]\nendpoints: [{addresses: [%s]}]\n", name, i, name, portName, port, host)
	}
	return text
}

func split(v1, v2 int) string {
	return fmt.Sprintf(`apiVersion: mesh.heddle.io/v1alpha1
kind: TrafficSplit
metadata: {name: cart, namespace: shop}
spec:
  service: {name: cart}
  backends:
  - {name: v1, service: {name: cart-v1}, weight: %d}
  - {name: v2, service: {name: cart-v2}, weight: %d}
`, v1, v2)
}

func policy(spec string) string {
	return "apiVersion: mesh.heddle.io/v1alpha1\nkind: MeshPolicy\nmetadata: {name: cart, namespace: shop}\nspec: " + spec + "\n"
}

// application answers with its name, the version of HTTP and who calls, on an address of loopback. It speaks HTTP/1.1, and
// HTTP/2 in clear.
func application(t *testing.T, name, ip string) (endpoint string) {
	t.Helper()
	l, err := net.Listen("tcp", ip+":0")
	check(t, err)
	serve(t, l, &http.Server{Handler: handler(name)})
	return l.Addr().String()
}

func handler(name string) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprintf(w, "%s %s %s", name, r.Proto, r.Header.Get("X-Forwarded-Client-Cert"))
	})
}

func serve(t *testing.T, l net.Listener, server *http.Server) {
	t.Helper()
	if server.Protocols == nil {
		server.Protocols = new(http.Protocols)
		server.Protocols.SetHTTP1(true)
		server.Protocols.SetUnencryptedHTTP2(true)
	}
	server.ReadHeaderTimeout = time.Minute
	server.ErrorLog = log.New(io.Discard, "", 0) // who goes away in a handshake is no news
	done := make(chan struct{})
	go func() {
		defer close(done)
		if server.TLSConfig != nil {
			_ = server.ServeTLS(l, "", "")
		} else {
			_ = server.Serve(l)
		}
	}()
	t.Cleanup(func() { _ = server.Close(); <-done })
}

// get asks for something on a connection of its own.
func get(transport *http.Transport, url string) (int, string) {
	transport.DisableKeepAlives = true
	defer transport.CloseIdleConnections()
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, http.NoBody)
	if err != nil {
		return 0, err.Error()
	}
	response, err := transport.RoundTrip(request)
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

// awaitAnswer waits until an address answers so, five times in a row.
func awaitAnswer(tb testing.TB, address string, status int, words string) {
	tb.Helper()
	await(tb, func() string {
		for range 5 {
			if got, body := get(&http.Transport{}, "http://"+address+"/"); got != status || !strings.Contains(body, words) {
				return fmt.Sprintf("%s answers %d %q: want %d %q", address, got, body, status, words)
			}
		}
		return ""
	})
}
