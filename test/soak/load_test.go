// SPDX-License-Identifier: Apache-2.0

//go:build soak

package soak

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
)

// Applications answer with what they get.

func serveHTTP(tb testing.TB, addresses []string) uint16 {
	tb.Helper()
	server := &http.Server{
		Protocols: new(http.Protocols), ReadHeaderTimeout: time.Minute,
		Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path == "/stream" {
				http.NewResponseController(w).EnableFullDuplex()
				io.Copy(w, r.Body)
				return
			}
			got, err := io.ReadAll(r.Body)
			if err != nil {
				return
			}
			w.Write(got)
		}),
	}
	server.Protocols.SetHTTP1(true)
	server.Protocols.SetUnencryptedHTTP2(true)
	port, all := listen(tb, addresses)
	for _, l := range all {
		go server.Serve(l)
	}
	tb.Cleanup(func() { server.Close() })
	return port
}

// plain is a codec of gRPC whose messages are bytes.
type plain struct{}

func (plain) Marshal(v any) ([]byte, error) { return *v.(*[]byte), nil }

func (plain) Unmarshal(data []byte, v any) error {
	*v.(*[]byte) = bytes.Clone(data)
	return nil
}

func (plain) Name() string { return "plain" }

func serveGRPC(tb testing.TB, addresses []string) uint16 {
	tb.Helper()
	server := grpc.NewServer(grpc.ForceServerCodec(plain{}), grpc.UnknownServiceHandler(func(_ any, s grpc.ServerStream) error {
		for {
			var b []byte
			if err := s.RecvMsg(&b); errors.Is(err, io.EOF) {
				return nil
			} else if err != nil {
				return err
			}
			if err := s.SendMsg(&b); err != nil {
				return err
			}
		}
	}))
	port, all := listen(tb, addresses)
	for _, l := range all {
		go server.Serve(l)
	}
	tb.Cleanup(server.Stop)
	return port
}

func serveTCP(tb testing.TB, addresses []string) uint16 {
	tb.Helper()
	port, all := listen(tb, addresses)
	for _, l := range all {
		tb.Cleanup(func() { l.Close() })
		go func() {
			for {
				c, err := l.Accept()
				if err != nil {
					return
				}
				go func() {
					defer c.Close()
					io.Copy(c, c)
				}()
			}
		}()
	}
	return port
}

// load is what callers do, and how it went.
type load struct {
	done   map[string]*atomic.Int64 // by kind
	failed atomic.Int64

	mu    sync.Mutex
	first []error
}

func newLoad() *load {
	l := &load{done: make(map[string]*atomic.Int64)}
	for _, kind := range []string{"HTTP/1.1", "HTTP/2", "gRPC stream", "gRPC unary", "TCP"} {
		l.done[kind] = new(atomic.Int64)
	}
	return l
}

func (l *load) note(kind string, err error) {
	if err == nil {
		l.done[kind].Add(1)
		return
	}
	l.failed.Add(1)
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.first) < 20 {
		l.first = append(l.first, fmt.Errorf("%s at %s: %w", kind, time.Now().Format("15:04:05.000"), err))
	}
}

// pace is how often each worker does something.
const pace = 20 * time.Millisecond

// patience is how long one thing may take.
const patience = 30 * time.Second

// run works until stop is closed, and closes its connections.
func (l *load) run(m *mesh, stop <-chan struct{}) {
	var workers sync.WaitGroup
	work := func(n int, kind string, do func(ctx context.Context) error) {
		for range n {
			workers.Go(func() {
				tick := time.NewTicker(pace)
				defer tick.Stop()
				for {
					select {
					case <-stop:
						return
					case <-tick.C:
					}
					ctx, cancel := context.WithTimeout(context.Background(), patience)
					l.note(kind, do(ctx))
					cancel()
				}
			})
		}
	}
	one, two := client(m.at("web"), false), client(m.at("api"), true)
	work(8, "HTTP/1.1", func(ctx context.Context) error { return request(ctx, one) })
	work(16, "HTTP/2", func(ctx context.Context) error { return request(ctx, two) })
	conn, err := grpc.NewClient("passthrough:///"+m.at("rpc"), grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithDefaultCallOptions(grpc.ForceCodec(plain{})), grpc.WithDisableRetry())
	check(m, err)
	work(4, "gRPC stream", func(ctx context.Context) error { return stream(ctx, conn) })
	work(4, "gRPC unary", func(ctx context.Context) error { return unary(ctx, conn) })
	raw := m.at("raw")
	work(4, "TCP", func(ctx context.Context) error { return connection(ctx, raw) })
	workers.Wait()
	one.CloseIdleConnections()
	two.CloseIdleConnections()
	conn.Close()
}

// client is a client of one version of HTTP.
func client(at string, http2 bool) *http.Client {
	t := &http.Transport{
		Protocols: new(http.Protocols), DisableCompression: true, MaxIdleConnsPerHost: 100,
		DialContext: func(ctx context.Context, network, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, network, at)
		},
	}
	t.Protocols.SetHTTP1(!http2)
	t.Protocols.SetUnencryptedHTTP2(http2)
	return &http.Client{Transport: t}
}

// content is bytes of some length, that differ.
func content(most int) []byte {
	b := make([]byte, rand.IntN(most))
	for i := range b {
		b[i] = byte(i * 7)
	}
	return b
}

// request sends content, by length or in chunks, and compares what comes back.
func request(ctx context.Context, c *http.Client) error {
	sent := content(32 << 10)
	var body io.Reader = bytes.NewReader(sent)
	if len(sent)%2 == 0 {
		body = io.MultiReader(body) // of a length that nobody knows
	}
	method := http.MethodPost
	if len(sent)%5 == 0 {
		method, body, sent = http.MethodGet, http.NoBody, nil
	}
	r, err := http.NewRequestWithContext(ctx, method, "http://shop/echo", body)
	if err != nil {
		return err
	}
	r.GetBody = nil // nothing is sent twice: it must come through at once
	answer, err := c.Do(r)
	if err != nil {
		return err
	}
	defer answer.Body.Close()
	got, err := io.ReadAll(answer.Body)
	switch {
	case err != nil:
		return err
	case answer.StatusCode != http.StatusOK:
		return fmt.Errorf("%s of %d bytes: status %d: %s", method, len(sent), answer.StatusCode, got)
	case !bytes.Equal(got, sent):
		return fmt.Errorf("%s of %d bytes came back as %d others", method, len(sent), len(got))
	}
	return nil
}

// stream is a stream of gRPC in both directions.
func stream(ctx context.Context, conn *grpc.ClientConn) error {
	s, err := conn.NewStream(ctx, &grpc.StreamDesc{ClientStreams: true, ServerStreams: true}, "/soak/Stream")
	if err != nil {
		return err
	}
	for range 10 {
		sent := content(4 << 10)
		if err := s.SendMsg(&sent); err != nil {
			return err
		}
		var got []byte
		if err := s.RecvMsg(&got); err != nil {
			return err
		}
		if !bytes.Equal(got, sent) {
			return fmt.Errorf("%d bytes came back as %d", len(sent), len(got))
		}
	}
	if err := s.CloseSend(); err != nil {
		return err
	}
	var none []byte
	if err := s.RecvMsg(&none); !errors.Is(err, io.EOF) {
		return fmt.Errorf("in the end: %w", err)
	}
	return nil
}

func unary(ctx context.Context, conn *grpc.ClientConn) error {
	sent := content(4 << 10)
	var got []byte
	if err := conn.Invoke(ctx, "/soak/Unary", &sent, &got); err != nil {
		return err
	}
	if !bytes.Equal(got, sent) {
		return fmt.Errorf("%d bytes came back as %d", len(sent), len(got))
	}
	return nil
}

// connection sends bytes, ends its direction, and reads them back.
func connection(ctx context.Context, at string) error {
	c, err := new(net.Dialer).DialContext(ctx, "tcp", at)
	if err != nil {
		return err
	}
	defer c.Close()
	deadline, _ := ctx.Deadline()
	c.SetDeadline(deadline)
	sent := content(64 << 10)
	failed := make(chan error, 1)
	go func() {
		_, err := c.Write(sent)
		failed <- errors.Join(err, c.(*net.TCPConn).CloseWrite())
	}()
	got, err := io.ReadAll(c)
	if err := errors.Join(err, <-failed); err != nil {
		return fmt.Errorf("after %d of %d bytes: %w", len(got), len(sent), err)
	}
	if !bytes.Equal(got, sent) {
		return fmt.Errorf("%d bytes came back as %d", len(sent), len(got))
	}
	return nil
}

// gibibyte is 1 GiB, of which the same is expected back.
type gibibyte struct{ at int64 }

const gibi = 1 << 30

func octet(at int64) byte { return byte(at*31 ^ at>>16) }

// Read implements io.Reader.
func (g *gibibyte) Read(p []byte) (int, error) {
	if g.at == gibi {
		return 0, io.EOF
	}
	p = p[:min(int64(len(p)), gibi-g.at)]
	for i := range p {
		p[i] = octet(g.at + int64(i))
	}
	g.at += int64(len(p))
	return len(p), nil
}

// receive reads 1 GiB and compares it. It calls warm once, when the sixteenth part has come.
func receive(r io.Reader, warm func()) error {
	var at int64
	b := make([]byte, 64<<10)
	for {
		n, err := r.Read(b)
		for i, c := range b[:n] {
			if c != octet(at+int64(i)) {
				return fmt.Errorf("byte %d is another", at+int64(i))
			}
		}
		if at < gibi/16 && at+int64(n) >= gibi/16 {
			warm()
		}
		at += int64(n)
		switch {
		case errors.Is(err, io.EOF) && at == gibi:
			return nil
		case err != nil:
			return fmt.Errorf("after %d bytes: %w", at, err)
		}
	}
}

// upload streams 1 GiB to an application that sends it back at the same time.
func upload(ctx context.Context, c *http.Client, warm func()) error {
	defer c.CloseIdleConnections()
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://shop/stream", new(gibibyte))
	if err != nil {
		return err
	}
	answer, err := c.Do(r)
	if err != nil {
		return err
	}
	defer answer.Body.Close()
	if answer.StatusCode != http.StatusOK {
		return fmt.Errorf("status %d", answer.StatusCode)
	}
	return receive(answer.Body, warm)
}

// pipe does the same over TCP.
func pipe(ctx context.Context, at string, warm func()) error {
	c, err := new(net.Dialer).DialContext(ctx, "tcp", at)
	if err != nil {
		return err
	}
	defer c.Close()
	stop := context.AfterFunc(ctx, func() { c.Close() })
	defer stop()
	failed := make(chan error, 1)
	go func() {
		_, err := io.Copy(c, new(gibibyte))
		failed <- errors.Join(err, c.(*net.TCPConn).CloseWrite())
	}()
	return errors.Join(receive(c, warm), <-failed)
}
