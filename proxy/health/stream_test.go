// SPDX-License-Identifier: Apache-2.0

package health

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/heddle-mesh/heddle/internal/meshconfig"
	"github.com/heddle-mesh/heddle/proxy/http2"
	"github.com/heddle-mesh/heddle/proxy/message"
	"github.com/heddle-mesh/heddle/proxy/upstream"
)

// gets serves HTTP/2 on a pipe, and nothing else, and answers every request when its head has come.
func gets(answer func(*http2.Stream, *message.Head)) func(net.Conn) {
	return func(c net.Conn) {
		http2.Server(c, &http2.Config{}, func(s *http2.Stream) http2.Sink { return &got{asked{stream: s}, answer} }).Serve()
	}
}

type got struct {
	asked
	answer func(*http2.Stream, *message.Head)
}

func (g *got) Head(h *message.Head, end bool) {
	if end {
		g.answer(g.stream, h)
	}
}

// tells answers with this status and these pieces of a body.
func tells(status int, pieces ...string) func(*http2.Stream, *message.Head) {
	return func(s *http2.Stream, _ *message.Head) {
		s.SendHead(&message.Head{Status: status, Length: message.Unknown}, len(pieces) == 0)
		for i, p := range pieces {
			s.SendData([]byte(p), i == len(pieces)-1)
		}
	}
}

func TestHTTPByStreams(t *testing.T) {
	tests := map[string]struct {
		config *meshconfig.HealthCheck
		serve  func(net.Conn)
		want   string // what the error says; empty: healthy
	}{
		"200 without body":          {nil, gets(tells(200)), ""},
		"200 with one":              {nil, gets(tells(200, "ok")), ""},
		"503":                       {nil, gets(tells(503, "no")), "it answers 503"},
		"429, which sheds load":     {nil, gets(tells(429)), ""},
		"503 where that is healthy": {&meshconfig.HealthCheck{Codes: []uint32{503}}, gets(tells(503)), ""},
		"an interim answer before": {nil, gets(func(s *http2.Stream, h *message.Head) {
			s.SendHead(&message.Head{Status: 103}, false)
			tells(200)(s, h)
		}), ""},
		"a body that matches, in pieces": {&meshconfig.HealthCheck{Body: "^o.+k$"}, gets(tells(200, "o", "  ", "k")), ""},
		"a body that does not":           {&meshconfig.HealthCheck{Body: "^ok$"}, gets(tells(200, "not ok")), "does not match"},
		"a body that a trailer ends": {&meshconfig.HealthCheck{Body: "^ok$"}, gets(func(s *http2.Stream, _ *message.Head) {
			s.SendHead(&message.Head{Status: 200, Length: message.Unknown}, false)
			s.SendData([]byte("ok"), false)
			s.SendTrailer([]message.Field{{Name: "x", Value: "y"}})
		}), ""},
		"a match behind what is looked at": {
			&meshconfig.HealthCheck{Body: "ok"}, gets(tells(200, strings.Repeat(".", maxBody-1), "ok")), "does not match",
		},
		"a match in an endless body": {&meshconfig.HealthCheck{Body: "ok"}, gets(func(s *http2.Stream, _ *message.Head) {
			s.SendHead(&message.Head{Status: 200, Length: message.Unknown}, false)
			s.SendData([]byte("ok"+strings.Repeat(".", maxBody)), false)
		}), ""},
		"a body that is cut": {nil, gets(func(s *http2.Stream, _ *message.Head) {
			s.SendHead(&message.Head{Status: 200, Length: message.Unknown}, false)
			s.SendData([]byte("o"), false)
			s.Reset(http2.InternalError)
		}), "INTERNAL_ERROR"},
		"a stream that is refused": {nil, gets(func(s *http2.Stream, _ *message.Head) { s.Reset(http2.RefusedStream) }), "REFUSED_STREAM"},
		"no answer":                {nil, gets(func(*http2.Stream, *message.Head) {}), "deadline exceeded"},
		"no connection":            {nil, nil, "connect_failed"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				config := &meshconfig.HealthCheck{}
				if test.config != nil {
					config = test.config
				}
				config.Type, config.Http2Ports = byHTTP, []uint32{79, 80}
				judgeOnce(t, config, test.serve, test.want)
			})
		})
	}
}

func TestWhatIsAskedByStreams(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		asked := make(chan string, 1)
		judgeOnce(t, &meshconfig.HealthCheck{
			Type: byHTTP, Http2Ports: []uint32{80}, Path: "/ready?full=1", Host: "cart.shop", Headers: []*meshconfig.HeaderValue{{Name: "X-Why", Value: "health"}},
		}, gets(func(s *http2.Stream, h *message.Head) {
			why, _ := h.Get("x-why")
			agent, _ := h.Get("user-agent")
			asked <- strings.Join([]string{h.Method, h.Scheme, h.Authority, h.Path, why, agent}, " ")
			tells(200)(s, h)
		}), "")
		if got, want := <-asked, "GET http cart.shop /ready?full=1 health heddle-health"; got != want {
			t.Errorf("asked %q, want %q", got, want)
		}
	})
}

func TestTheVersionIsThatOfThePort(t *testing.T) {
	c, err := New(&meshconfig.HealthCheck{Type: byHTTP, Ports: []uint32{80, 81}, Http2Ports: []uint32{81}}, 0)
	if err != nil {
		t.Fatal(err)
	}
	synctest.Test(t, func(t *testing.T) {
		of1, of2 := piped(t, script(body(200, ""))), piped(t, gets(tells(200)))
		if err := once(t, c.At(80), of1); err != nil {
			t.Errorf("at the port of HTTP/1.1: %v", err)
		}
		if err := once(t, c.At(81), of2); err != nil {
			t.Errorf("at the port of HTTP/2: %v", err)
		}
	})
	if c.At(82) != nil || (*Check)(nil).At(80) != nil {
		t.Error("a port is checked that is not to be")
	}
}

// Nobody is there. What a check has begun to make may be waited for by requests, which have no longer than that.
func TestAConnectionTakesNoLongerThanThatOfARequest(t *testing.T) {
	const connect = 200 * time.Millisecond
	for name, config := range map[string]*meshconfig.HealthCheck{
		"of HTTP/1.1": {Type: byHTTP}, "of HTTP/2": {Type: byHTTP, Http2Ports: []uint32{80}}, "of gRPC": {Type: byGRPC}, "of TCP": {Type: byTCP},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				took := make(chan time.Duration, 1)
				e := acquire(t, registry(t, upstream.Options{Dial: func(ctx context.Context, _, _ string) (net.Conn, error) {
					begun := time.Now()
					<-ctx.Done()
					took <- time.Since(begun)
					return nil, ctx.Err()
				}}), upstream.Key{Address: netip.MustParseAddrPort("192.0.2.1:80")})
				c, err := New(config, connect)
				if err != nil {
					t.Fatal(err)
				}
				if err := once(t, c.At(80), e); err == nil || !strings.Contains(err.Error(), "connect_failed") {
					t.Errorf("unhealthy: %v", err)
				}
				if got := <-took; got != connect {
					t.Errorf("it was tried for %v, want %v", got, connect)
				}
			})
		})
	}
}

// A network is slow, a check has no time for it, and what waits for the same connection has.
func TestAConnectionIsMadeThoughTheCheckIsOver(t *testing.T) {
	const connect = 500 * time.Millisecond
	synctest.Test(t, func(t *testing.T) {
		e := slow(t, connect, gets(tells(200)))
		hasty, err := New(&meshconfig.HealthCheck{Type: byGRPC, Timeout: connect.Milliseconds() / 2}, 2*connect)
		if err != nil {
			t.Fatal(err)
		}
		patient, err := New(&meshconfig.HealthCheck{Type: byHTTP, Http2Ports: []uint32{80}}, 2*connect)
		if err != nil {
			t.Fatal(err)
		}
		over := make(chan error, 1)
		go func() { over <- once(t, hasty, e) }()
		synctest.Wait() // it has begun to connect
		if err := once(t, patient.At(80), e); err != nil {
			t.Errorf("who waits as well: %v", err)
		}
		if err := <-over; !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("who has no time: %v", err)
		}
	})
}

// slow makes an endpoint as piped does, to which connections take a while to be made.
func slow(t *testing.T, takes time.Duration, serve func(net.Conn)) *upstream.Endpoint {
	t.Helper()
	var over sync.WaitGroup
	t.Cleanup(over.Wait)
	r := registry(t, upstream.Options{Dial: func(ctx context.Context, _, _ string) (net.Conn, error) {
		timer := time.NewTimer(takes)
		defer timer.Stop()
		select {
		case <-timer.C:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
		near, far := net.Pipe()
		over.Go(func() {
			defer far.Close()
			serve(far)
		})
		return near, nil
	}})
	return acquire(t, r, upstream.Key{Address: netip.MustParseAddrPort("192.0.2.1:80")})
}
