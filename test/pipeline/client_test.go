// SPDX-License-Identifier: Apache-2.0

package pipeline

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"connectrpc.com/connect"

	"github.com/heddle-mesh/heddle/proxy/observe"
	"github.com/heddle-mesh/heddle/proxy/refusal"
	"github.com/heddle-mesh/heddle/test/shop/paymentsapi"
)

// client is how the application of a workload calls others.
type client struct {
	from      *workload
	http      *http.Client
	transport *http.Transport // of http

	dialled atomic.Int64 // connections of the application's own
}

// client returns a client of HTTP/1.1, which keeps its connections.
func (w *workload) client() *client { return w.newClient(false) }

// client2 returns one of HTTP/2 with prior knowledge.
func (w *workload) client2() *client { return w.newClient(true) }

func (w *workload) newClient(http2 bool) *client {
	c := &client{from: w}
	protocols := new(http.Protocols)
	protocols.SetHTTP1(!http2)
	protocols.SetUnencryptedHTTP2(http2)
	transport := &http.Transport{
		Protocols: protocols, MaxIdleConnsPerHost: 100, DisableCompression: true,
		DialContext: func(ctx context.Context, _, address string) (net.Conn, error) {
			c.dialled.Add(1)
			return w.dial(ctx, address)
		},
	}
	w.mesh.Cleanup(transport.CloseIdleConnections)
	c.http, c.transport = &http.Client{Transport: transport, Timeout: patience}, transport
	return c
}

// dial opens a connection of the application's to "name.namespace:port" or an address.
func (w *workload) dial(ctx context.Context, host string) (net.Conn, error) {
	to, err := w.mesh.resolveHost(host)
	if err != nil {
		return nil, err
	}
	if !w.meshed() {
		return w.mesh.network.dial(ctx, "tcp", to.String())
	}
	p := w.running()
	if p == nil {
		return nil, errStopped
	}
	return p.call(ctx, to)
}

// answer is what came of a request.
type answer struct {
	status int
	reason string // why a proxy refused it
	by     string // who served it
	proto  string // that the server saw
	caller string // likewise
	body   string
	err    error
}

func (a answer) String() string {
	return fmt.Sprintf("status %d, reason %q, by %q, body %.120q, error %v", a.status, a.reason, a.by, a.body, a.err)
}

// served returns nil if an application answered, and otherwise what came instead.
func (a answer) served() error {
	if a.err == nil && a.status == http.StatusOK && a.by != "" {
		return nil
	}
	return errors.New(a.String())
}

// get asks for "http://name.namespace:port/path", with headers as names and values in turn.
func (c *client) get(url string, headers ...string) answer {
	r, err := http.NewRequestWithContext(c.from.mesh.Context(), http.MethodGet, url, http.NoBody)
	if err != nil {
		return answer{err: err}
	}
	for i := 0; i+1 < len(headers); i += 2 {
		r.Header.Set(headers[i], headers[i+1])
	}
	return c.do(r)
}

func (c *client) do(r *http.Request) answer {
	response, err := c.http.Do(r)
	if err != nil {
		return answer{err: err}
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	h := response.Header
	return answer{
		status: response.StatusCode, reason: h.Get(refusal.Header), by: h.Get(headerBy), proto: h.Get(headerProto),
		caller: h.Get(headerCaller), body: string(body), err: err,
	}
}

// payments returns a gRPC client of "name.namespace:port".
func (c *client) payments(host string) paymentsapi.PaymentsClient {
	return paymentsapi.NewPaymentsClient(c.http, "http://"+host, connect.WithGRPC())
}

// lines is a connection to the TCP port of an application.
type lines struct {
	net.Conn
	reader *bufio.Reader
	by     string // who greeted
}

// lines connects, sends words that nobody waits for, and reads the greeting.
func (w *workload) lines(host string, words ...string) (*lines, error) {
	ctx, cancel := context.WithTimeout(w.mesh.Context(), patience)
	defer cancel()
	conn, err := w.dial(ctx, host)
	if err != nil {
		return nil, err
	}
	w.mesh.Cleanup(func() { _ = conn.Close() })
	l := &lines{Conn: conn, reader: bufio.NewReader(conn)}
	for _, word := range words {
		if _, err := fmt.Fprintln(conn, word); err != nil {
			return nil, err
		}
	}
	greeting, err := l.read()
	if err != nil {
		_ = conn.Close()
		return nil, fmt.Errorf("greeting: %w", err)
	}
	l.by = strings.TrimPrefix(greeting, "ready ")
	return l, nil
}

func (l *lines) read() (string, error) {
	if err := l.SetReadDeadline(time.Now().Add(patience)); err != nil {
		return "", err
	}
	line, err := l.reader.ReadString('\n')
	return strings.TrimSuffix(line, "\n"), err
}

// ask sends a line and fails unless the same server answers it.
func (l *lines) ask(line string) error {
	if _, err := fmt.Fprintln(l, line); err != nil {
		return err
	}
	got, err := l.read()
	if err == nil && got != l.by+" "+line {
		err = fmt.Errorf("answer %q", got)
	}
	return err
}

// load calls again and again, by so many at a time, until what it returns is called, which says how often. Each call that
// fails has the test fail.
func (m *mesh) load(workers int, call func() error) (stop func() int) {
	m.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	var calls, failed atomic.Int64
	rounds := make([]atomic.Int64, workers)
	begun := make(chan struct{})
	var once sync.Once
	for n := range workers {
		wg.Go(func() {
			pace := time.NewTicker(2 * time.Millisecond) // others run here, too
			defer pace.Stop()
			for ctx.Err() == nil {
				// Once a test has failed, its context ends what is under way.
				if err := call(); err != nil && m.Context().Err() == nil && failed.Add(1) <= 5 {
					m.Errorf("under load: %v", err)
				}
				calls.Add(1)
				rounds[n].Add(1)
				once.Do(func() { close(begun) })
				select {
				case <-pace.C:
				case <-ctx.Done():
				}
			}
		})
	}
	m.mu.Lock()
	m.loads = append(m.loads, rounds)
	m.mu.Unlock()
	stop = sync.OnceValue(func() int {
		cancel()
		wg.Wait()
		if n := failed.Load(); n > 0 {
			m.Errorf("%d of %d calls failed", n, calls.Load())
		}
		return int(calls.Load())
	})
	m.Cleanup(func() { stop() })
	<-begun
	return stop
}

// outlive waits until every call under load that began before has ended.
func (m *mesh) outlive() {
	m.Helper()
	m.mu.Lock()
	loads := slices.Clone(m.loads)
	m.mu.Unlock()
	for _, workers := range loads {
		for n := range workers {
			begun := workers[n].Load()
			await(m, "the calls that are under way end", func() bool { return workers[n].Load() > begun })
		}
	}
}

// complaints remember why a proxy refused or broke off something, for a test that fails.
type complaints struct {
	observe.Observer

	of   string
	mu   sync.Mutex
	last []string
}

// Bind implements observe.Observer.
func (c *complaints) Bind(l observe.Labels) observe.Series {
	return complaining{c.Observer.Bind(l), c}
}

type complaining struct {
	observe.Series

	to *complaints
}

// Observe implements observe.Series.
func (c complaining) Observe(e *observe.Event) {
	c.Series.Observe(e)
	if e.Reason == refusal.None {
		return
	}
	c.to.mu.Lock()
	defer c.to.mu.Unlock()
	const kept = 20
	c.to.last = append(c.to.last[max(0, len(c.to.last)-kept):], fmt.Sprintf("%s %v %s %s, endpoint %v, after %d attempts: %v",
		time.Now().Format("05.000"), e.Labels.Direction, e.Protocol, e.Path, e.Endpoint, e.Attempts, e.Err))
}

func (c *complaints) print(t *testing.T) {
	t.Helper()
	if !t.Failed() {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, line := range c.last {
		t.Log(c.of, line)
	}
}
