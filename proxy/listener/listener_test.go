// SPDX-License-Identifier: Apache-2.0

package listener

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"math/big"
	"net"
	"net/netip"
	"os"
	"runtime"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/go-logr/logr"

	"github.com/heddle-mesh/heddle/internal/limits"
	"github.com/heddle-mesh/heddle/proxy/forward"
	"github.com/heddle-mesh/heddle/proxy/refusal"
)

func selfSigned(t *testing.T) tls.Certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}

// server is a forward.Server whose Serve is a function, or begins with a rest.
type server struct {
	serve    func(context.Context, *forward.Conn)
	rest     func(*forward.Conn) forward.Rest
	mu       sync.Mutex
	active   int
	drained  int
	shutdown int
}

func (s *server) Serve(ctx context.Context, c *forward.Conn) forward.Rest {
	if s.rest != nil {
		return s.rest(c)
	}
	s.serve(ctx, c)
	return nil
}

func (s *server) Drain() { s.mu.Lock(); defer s.mu.Unlock(); s.drained++ }

func (s *server) Active() int { s.mu.Lock(); defer s.mu.Unlock(); return s.active }

func (s *server) set(active int) { s.mu.Lock(); defer s.mu.Unlock(); s.active = active }

func (s *server) Shutdown(ctx context.Context) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.shutdown++
	if s.active > 0 {
		<-ctx.Done()
		return ctx.Err()
	}
	return nil
}

type events struct {
	mu                       sync.Mutex
	opened, closed, panicked int
	refused                  map[refusal.Reason]int
}

func (e *events) Opened()   { e.mu.Lock(); defer e.mu.Unlock(); e.opened++ }
func (e *events) Closed()   { e.mu.Lock(); defer e.mu.Unlock(); e.closed++ }
func (e *events) Panicked() { e.mu.Lock(); defer e.mu.Unlock(); e.panicked++ }
func (e *events) Refused(r refusal.Reason) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.refused == nil {
		e.refused = map[refusal.Reason]int{}
	}
	e.refused[r]++
}

func (e *events) of(r refusal.Reason) int { e.mu.Lock(); defer e.mu.Unlock(); return e.refused[r] }

// start runs a listener until the test ends and returns its address.
func start(t *testing.T, opts Options) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	opts.Log = logr.Discard()
	listener := New(l, opts)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- listener.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
		if n := listener.Connections(); n != 0 {
			t.Errorf("%d connections are left", n)
		}
	})
	return l.Addr().String()
}

func goingTo(dst string) func(*net.TCPConn) (netip.AddrPort, error) {
	return func(*net.TCPConn) (netip.AddrPort, error) { return netip.ParseAddrPort(dst) }
}

// ask connects and returns what it is told.
func ask(t *testing.T, address string) (string, error) {
	t.Helper()
	c, err := net.Dial("tcp", address)
	if err != nil {
		return "", err // a reset may come as early as this
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(5 * time.Second))
	b, err := io.ReadAll(c)
	return string(b), err
}

func tellDestination(_ context.Context, c *forward.Conn) {
	_, _ = io.WriteString(c, c.Destination.String()+" from "+c.Source.Addr().String())
	_ = c.Close()
}

func TestListener(t *testing.T) {
	pod := func(ip netip.Addr) bool { return ip == netip.MustParseAddr("10.0.0.5") }
	own := []uint16{15001, 15006}
	for name, c := range map[string]struct {
		opts    Options
		want    string
		refused refusal.Reason
	}{
		"it tells where the connection was going": {
			Options{OriginalDestination: goingTo("10.0.0.5:8080"), Local: pod, OnlyLocal: true, OwnPorts: own}, "10.0.0.5:8080 from 127.0.0.1", "",
		},
		"an IPv4 address in IPv6 form is IPv4": {
			Options{OriginalDestination: goingTo("[::ffff:10.0.0.5]:8080"), Local: pod, OnlyLocal: true}, "10.0.0.5:8080 from 127.0.0.1", "",
		},
		"outbound takes any address, with any port": {
			Options{OriginalDestination: goingTo("192.0.2.1:15001"), Local: pod, OwnPorts: own}, "192.0.2.1:15001 from 127.0.0.1", "",
		},
		"nobody redirected it":                    {Options{}, "", NotRedirected},
		"it was going to the proxy's own port":    {Options{OriginalDestination: goingTo("10.0.0.5:15001"), Local: pod, OwnPorts: own}, "", NotRedirected},
		"it was going to somebody else's address": {Options{OriginalDestination: goingTo("169.254.169.254:80"), Local: pod, OnlyLocal: true}, "", NotRedirected},
		"as many are carried as may be":           {Options{OriginalDestination: goingTo("10.0.0.5:1"), MaxConnections: -1}, "", refusal.Overloaded},
	} {
		t.Run(name, func(t *testing.T) {
			counted := &events{}
			c.opts.Server, c.opts.Events = &server{serve: tellDestination}, counted
			got, err := ask(t, start(t, c.opts))
			if got != c.want {
				t.Errorf("got %q, %v, want %q", got, err, c.want)
			}
			if c.refused != "" {
				if !errors.Is(err, syscall.ECONNRESET) {
					t.Errorf("error %v, want a reset", err)
				}
				if n := counted.of(c.refused); n != 1 {
					t.Errorf("counted %d, want one", n)
				}
			}
		})
	}
}

// exceeded counts what went over limits.
type exceeded struct {
	mu    sync.Mutex
	count map[limits.Name]int
}

func (e *exceeded) Exceeded(n limits.Name) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.count == nil {
		e.count = make(map[limits.Name]int)
	}
	e.count[n]++
}

func (e *exceeded) of(n limits.Name) int {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.count[n]
}

func TestMaxConnections(t *testing.T) {
	for name, c := range map[string]struct {
		limit limits.Name
		opts  Options
	}{
		"of a listener": {limits.Connections, Options{MaxConnections: 1}},
		"by its files":  {limits.Connections, Options{Files: limits.NewBudget(3)}},
		"of a source":   {limits.ConnectionsPerSource, Options{MaxPerSource: 1}},
	} {
		t.Run(name, func(t *testing.T) {
			testMaxConnections(t, c.limit, c.opts)
			for deadline := time.Now().Add(5 * time.Second); c.opts.Files.Held() != 0; runtime.Gosched() {
				if time.Now().After(deadline) {
					t.Fatalf("%d files are still held", c.opts.Files.Held())
				}
			}
		})
	}
}

func testMaxConnections(t *testing.T, limit limits.Name, opts Options) {
	t.Helper()
	hold := make(chan struct{})
	counted, over := &events{}, &exceeded{}
	address := start(t, Options{
		OriginalDestination: goingTo("10.0.0.5:1"), Events: counted, Count: over,
		MaxConnections: opts.MaxConnections, MaxPerSource: opts.MaxPerSource, Files: opts.Files,
		Server: &server{serve: func(_ context.Context, c *forward.Conn) {
			_, _ = c.Write([]byte("x"))
			<-hold
		}},
	})
	first, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	defer first.Close()
	if _, err := io.ReadFull(first, make([]byte, 1)); err != nil {
		t.Fatal(err)
	}
	if _, err := ask(t, address); !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("the second: %v, want a reset", err)
	}
	if over.of(limit) != 1 || counted.of(refusal.Overloaded) != 1 {
		t.Errorf("counted %d times as %s, %d as overloaded", over.of(limit), limit, counted.of(refusal.Overloaded))
	}
	if opts.MaxPerSource > 0 {
		other := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 0, 0, 2)}}
		c, err := other.Dial("tcp", address)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		if _, err := io.ReadFull(c, make([]byte, 1)); err != nil {
			t.Errorf("another source: %v", err)
		}
	}
	close(hold)
	if _, err := io.ReadAll(first); err != nil {
		t.Error(err)
	}
	deadline := time.Now().Add(5 * time.Second)
	for got := ""; got != "x"; got, _ = ask(t, address) {
		if time.Now().After(deadline) {
			t.Fatal("the one after is not carried")
		}
	}
}

func TestAPanicEndsItsConnectionAlone(t *testing.T) {
	counted := &events{}
	address := start(t, Options{
		OriginalDestination: goingTo("10.0.0.5:1"), Events: counted,
		Server: &server{serve: func(context.Context, *forward.Conn) { panic("a fault") }},
	})
	for range 2 {
		if got, err := ask(t, address); got != "" || err != nil {
			t.Errorf("got %q, %v", got, err)
		}
	}
	counted.mu.Lock()
	defer counted.mu.Unlock()
	if counted.panicked != 2 {
		t.Errorf("%d counted", counted.panicked)
	}
}

// shortOf is a listener that first lacks file descriptors.
type shortOf struct {
	net.Listener
	times int
}

func (s *shortOf) Addr() net.Addr { return &net.TCPAddr{} }
func (s *shortOf) Close() error   { return nil }
func (s *shortOf) Accept() (net.Conn, error) {
	if s.times--; s.times >= 0 {
		return nil, &net.OpError{Op: "accept", Err: os.NewSyscallError("accept4", syscall.EMFILE)}
	}
	return nil, net.ErrClosed
}

func TestWithoutFileDescriptorsItWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		begun := time.Now()
		l := New(&shortOf{times: 10}, Options{Log: logr.Discard()})
		if err := l.Run(t.Context()); err != nil {
			t.Error(err)
		}
		// 5 ms doubled seven times, then a second each.
		if took := time.Since(begun); took != 1275*time.Millisecond+2*time.Second {
			t.Errorf("ten times took %v", took)
		}
	})
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		if err := New(&shortOf{times: 1 << 30}, Options{Log: logr.Discard()}).Run(ctx); err != nil {
			t.Error(err)
		}
	})
}

func TestLocals(t *testing.T) {
	now := time.Unix(1000, 0)
	asked := 0
	l := NewLocals([]netip.Addr{netip.MustParseAddr("10.0.0.5")}, func() time.Time { return now })
	l.list = func() ([]net.Addr, error) {
		asked++
		return []net.Addr{&net.IPNet{IP: net.ParseIP("fd00::5"), Mask: net.CIDRMask(64, 128)}}, nil
	}
	if !l.Contains(netip.MustParseAddr("::ffff:10.0.0.5")) || asked != 0 {
		t.Error("the kubelet's address isn't known")
	}
	if !l.Contains(netip.MustParseAddr("fd00::5")) || asked != 1 {
		t.Error("an interface's address isn't found")
	}
	for range 3 {
		if l.Contains(netip.MustParseAddr("192.0.2.1")) {
			t.Error("a foreign address is taken")
		}
	}
	if asked != 1 {
		t.Errorf("asked %d times within a second", asked)
	}
	now = now.Add(time.Second)
	if l.Contains(netip.MustParseAddr("192.0.2.1")) || asked != 2 {
		t.Errorf("asked %d times", asked)
	}
}

func TestTheEndCutsConnections(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	serving, ended := make(chan struct{}), make(chan error, 1)
	listener := New(l, Options{
		Log: logr.Discard(), OriginalDestination: goingTo("192.0.2.1:80"), Events: &events{},
		Server: &server{serve: func(_ context.Context, c *forward.Conn) {
			close(serving)
			_, err := c.Read(make([]byte, 1))
			ended <- err
		}},
	})
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	done := make(chan error, 1)
	go func() { done <- listener.Run(ctx) }()
	c, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	<-serving
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
	if err := <-ended; !errors.Is(err, net.ErrClosed) {
		t.Errorf("its server saw %v", err)
	}
	if _, err := c.Read(make([]byte, 1)); !errors.Is(err, io.EOF) {
		t.Errorf("its caller saw %v", err)
	}
}

func TestDrain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		in, out := &server{active: 1}, &server{active: 1}
		d := NewDrain(in, out)
		d.Begin()
		d.Begin()
		if !d.Draining() || in.drained != 1 || out.drained != 0 {
			t.Errorf("inbound drained %d times, outbound %d", in.drained, out.drained)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if err := d.Wait(ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("with a request running: %v", err)
		}
		in.set(0)
		if err := d.Wait(t.Context()); err != nil {
			t.Error(err)
		}
		ctx, cancel = context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if err := d.Finish(ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("with an outbound request running: %v", err)
		}
		out.set(0)
		if err := d.Finish(t.Context()); err != nil || in.shutdown != 2 || out.shutdown != 2 {
			t.Error(err, in.shutdown, out.shutdown)
		}
	})
}
