// SPDX-License-Identifier: Apache-2.0

package admin

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-logr/logr"
	"go.uber.org/goleak"

	"github.com/heddle-mesh/heddle/internal/probe"
	"github.com/heddle-mesh/heddle/proxy/telemetry"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// startServer runs a Server until the test ends and returns its URL.
func startServer(t *testing.T, opts Options) string {
	t.Helper()
	opts.Log, opts.PodIP = logr.Discard(), localhost
	if opts.Ready == nil {
		opts.Ready = func() error { return nil }
	}
	if opts.Live == nil {
		opts.Live = func() error { return nil }
	}
	if opts.Metrics == nil {
		m := telemetry.New(telemetry.Options{})
		opts.Metrics, opts.Scraped = m.Gatherer(), m.ApplicationScraped
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	run(t, func(ctx context.Context) error { return NewServer(opts).Serve(ctx, l) })
	return "http://" + l.Addr().String()
}

// run runs something until the test ends.
func run(t *testing.T, f func(context.Context) error) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- f(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}

// get asks on a connection of its own.
func get(t *testing.T, method, url string) (int, string) {
	t.Helper()
	transport := &http.Transport{DisableKeepAlives: true}
	request, err := http.NewRequestWithContext(t.Context(), method, url, http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	response, err := transport.RoundTrip(request)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	return response.StatusCode, string(body)
}

func TestReadyAndLivez(t *testing.T) {
	url := startServer(t, Options{Ready: func() error { return errors.New("no certificate yet") }})
	if status, body := get(t, "GET", url+"/ready"); status != 503 || body != "no certificate yet\n" {
		t.Error(status, body)
	}
	if status, body := get(t, "GET", url+"/livez"); status != 200 || body != "ok\n" {
		t.Error(status, body)
	}
	for _, path := range []string{"/", "/config", "/certs", "/drain", "/debug/pprof/", "/probe/", "/probe/unknown"} {
		if status, _ := get(t, "GET", url+path); status != 404 {
			t.Errorf("%s: %d", path, status)
		}
	}
	if status, _ := get(t, "POST", url+"/ready"); status != 405 {
		t.Error(status)
	}
}

func TestAProbeTellsTheStatusAlone(t *testing.T) {
	app := application(t, false)
	url := startServer(t, Options{Probes: []probe.Spec{
		{ID: "good", Kind: probe.HTTP, Port: app, Path: "/large"},
		{ID: "bad", Kind: probe.HTTP, Port: app, Path: "/sick"},
		{ID: "none", Kind: probe.TCP, Port: closedPort},
	}})
	for id, want := range map[string]int{"good": 200, "bad": 500, "none": 503, "other": 404} {
		status, body := get(t, "GET", url+probe.Path(id))
		if status != want || (want != 404 && body != "") {
			t.Errorf("%s: %d %q", id, status, body)
		}
	}
}

func TestProbesAreBounded(t *testing.T) {
	release := make(chan struct{})
	asked := make(chan struct{}, maxAsking)
	app := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {
		asked <- struct{}{}
		<-release
	}))
	defer app.Close()
	server := NewServer(Options{
		PodIP: localhost, Log: logr.Discard(),
		Probes: []probe.Spec{{ID: "a", Kind: probe.HTTP, Port: portOfServer(t, app.URL), TimeoutMillis: 60_000}},
	})
	ask := func() int {
		w := httptest.NewRecorder()
		server.server.Handler.ServeHTTP(w, httptest.NewRequest(http.MethodGet, probe.Path("a"), nil))
		return w.Code
	}
	var wg sync.WaitGroup
	for range maxAsking {
		wg.Go(func() {
			if status := ask(); status != 200 {
				t.Errorf("status %d", status)
			}
		})
	}
	for range maxAsking {
		<-asked
	}
	if status := ask(); status != http.StatusTooManyRequests {
		t.Errorf("one more: %d", status)
	}
	close(release)
	wg.Wait()
}

func TestMetricsAreMerged(t *testing.T) {
	for name, c := range map[string]struct {
		page   http.HandlerFunc
		result string
		want   string // among the merged
		not    string
	}{
		"good": {func(w http.ResponseWriter, r *http.Request) {
			if r.Header.Get("Accept") != "text/plain;version=0.0.4" || r.URL.String() != "/m?x=1" {
				w.WriteHeader(http.StatusBadRequest)
			}
			_, _ = io.WriteString(w, "# TYPE go_goroutines gauge\ngo_goroutines 7\n")
		}, "ok", "\ngo_goroutines 7\n", "<"},
		"HTML": {func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "<html>\nx 1\n") }, "malformed", "\nx 1\n", "<"},
		"an error": {
			func(w http.ResponseWriter, _ *http.Request) {
				w.WriteHeader(http.StatusInternalServerError)
				_, _ = io.WriteString(w, "y 1\n")
			},
			"unreachable", "", "\ny 1",
		},
		"a redirect": {
			func(w http.ResponseWriter, r *http.Request) {
				http.Redirect(w, r, "http://192.0.2.1/", http.StatusFound)
			},
			"unreachable", "", "<",
		},
		"too large": {func(w http.ResponseWriter, _ *http.Request) {
			for line := bytes.Repeat([]byte("large_metric_of_the_shop 1\n"), 1000); ; {
				if _, err := w.Write(line); err != nil {
					return
				}
			}
		}, "too_large", "\nlarge_metric_of_the_shop 1\n", "shop 1l"},
	} {
		t.Run(name, func(t *testing.T) {
			app := httptest.NewServer(c.page)
			defer app.Close()
			m := telemetry.New(telemetry.Options{})
			url := startServer(t, Options{
				Metrics: m.Gatherer(), Scraped: m.ApplicationScraped,
				Scrape: &probe.Scrape{Port: portOfServer(t, app.URL), Path: "/m?x=1"},
			})
			status, body := get(t, "GET", url+"/metrics")
			if status != 200 || !strings.Contains(body, "heddle_build_info") || !strings.Contains(body, c.want) ||
				strings.Contains(body, c.not) || len(body) > maxScrape+1<<20 {
				t.Errorf("status %d, %d bytes: %s", status, len(body), body[max(0, len(body)-200):])
			}
			_, body = get(t, "GET", url+"/metrics")
			if !strings.Contains(body, `heddle_application_scrapes_total{result="`+c.result+`"} 1`) {
				t.Errorf("%s is not counted", c.result)
			}
		})
	}
}

func TestWithoutAnApplicationThePageIsOurs(t *testing.T) {
	m := telemetry.New(telemetry.Options{})
	url := startServer(t, Options{Metrics: m.Gatherer(), Scraped: m.ApplicationScraped, Scrape: &probe.Scrape{Port: closedPort, Path: "/metrics"}})
	if status, body := get(t, "GET", url+"/metrics"); status != 200 || !strings.Contains(body, "heddle_build_info") {
		t.Error(status, body)
	}
}

func TestOneSourceCannotTakeAllConnections(t *testing.T) {
	address := strings.TrimPrefix(startServer(t, Options{}), "http://")
	var open []net.Conn
	defer func() {
		for _, c := range open {
			c.Close()
		}
	}()
	for range maxPerSource {
		c, err := net.Dial("tcp", address)
		if err != nil {
			t.Fatal(err)
		}
		open = append(open, c)
	}
	c, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	_ = c.SetReadDeadline(time.Now().Add(3 * time.Second))
	if _, err := c.Read(make([]byte, 1)); !errors.Is(err, io.EOF) {
		t.Errorf("one more: %v, want its end", err)
	}
	open[0].Close()
	deadline := time.Now().Add(10 * time.Second)
	for ok := false; !ok; {
		if time.Now().After(deadline) {
			t.Fatal("what was given back is not given out again")
		}
		c, err := net.Dial("tcp", address)
		if err != nil {
			t.Fatal(err)
		}
		_, _ = io.WriteString(c, "GET /livez HTTP/1.0\r\n\r\n")
		answer, _ := io.ReadAll(c)
		ok = strings.Contains(string(answer), "200 OK")
		c.Close()
	}
}

func TestTheSocket(t *testing.T) {
	path := t.TempDir() + "/admin.sock"
	begun := make(chan time.Duration, 1)
	socket := NewSocket(SocketOptions{
		Config:       func() any { return map[string]int{"sections": 3} },
		Certificates: func() any { return map[string]string{"serial": "2a"} },
		Envelope: func(section string) ([]byte, error) {
			if section != "routes/cart.shop/*" {
				return nil, errors.New("none is kept")
			}
			return []byte{0, 255}, nil
		},
		Drain: func(ctx context.Context) int {
			deadline, _ := ctx.Deadline()
			begun <- time.Until(deadline)
			return 5
		},
	})
	for range 2 { // the second replaces what the first left
		l, err := ListenSocket(t.Context(), path)
		if err != nil {
			t.Fatal(err)
		}
		l.(*net.UnixListener).SetUnlinkOnClose(false)
		run(t, func(ctx context.Context) error { return socket.Serve(ctx, l) })
	}
	client := NewClient(path)
	for name, want := range map[string]string{"config": "{\n  \"sections\": 3\n}\n", "certs": "{\n  \"serial\": \"2a\"\n}\n"} {
		var b strings.Builder
		if err := client.Show(t.Context(), name, &b); err != nil || b.String() != want {
			t.Errorf("%s: %q, %v", name, b.String(), err)
		}
	}
	var b strings.Builder
	if err := client.Envelope(t.Context(), "routes/cart.shop/*", &b); err != nil || b.String() != "\x00\xff" {
		t.Errorf("envelope: %q, %v", b.String(), err)
	}
	if err := client.Envelope(t.Context(), "mesh", &b); err == nil || !strings.Contains(err.Error(), "none is kept") {
		t.Errorf("an envelope that is not there: %v", err)
	}
	d, err := client.Drain(t.Context(), time.Minute)
	if wait := <-begun; err != nil || d.Running != 5 || wait > time.Minute || wait < 50*time.Second {
		t.Errorf("%+v, %v, waited %v", d, err, wait)
	}
	var cpu bytes.Buffer
	if err := client.Profile(t.Context(), 1, &cpu); err != nil || !bytes.HasPrefix(cpu.Bytes(), []byte("\x1f\x8b")) {
		t.Errorf("profile: %d bytes, %v", cpu.Len(), err)
	}
	for _, seconds := range []int{0, -1, MaxProfileSeconds + 1} {
		if err := client.Profile(t.Context(), seconds, io.Discard); err == nil || !strings.Contains(err.Error(), "seconds:") {
			t.Errorf("a profile of %d s: %v", seconds, err)
		}
	}
	if r, err := client.Runtime(t.Context()); err != nil || r.Goroutines < 2 || r.Descriptors < 3 || r.HeapBytes == 0 || r.StackBytes == 0 {
		t.Errorf("runtime: %+v, %v", r, err)
	}
	if _, err := client.Drain(t.Context(), 2*MaxDrainWait); err == nil || !strings.Contains(err.Error(), "wait:") {
		t.Errorf("a wait without bound: %v", err)
	}
	if err := client.Show(t.Context(), "keys", io.Discard); err == nil || !strings.Contains(err.Error(), strconv.Itoa(404)) {
		t.Error(err)
	}
	if err := NewClient(path+"x").Show(t.Context(), "config", io.Discard); err == nil || !strings.Contains(err.Error(), "is the proxy running") {
		t.Error(err)
	}
	if _, err := ListenSocket(t.Context(), "/nowhere/x.sock"); err == nil || !strings.Contains(err.Error(), "mounted") {
		t.Error(err)
	}
}
