// SPDX-License-Identifier: Apache-2.0

package health

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/heddle-mesh/heddle/internal/meshconfig"
	"github.com/heddle-mesh/heddle/proxy/http2"
	"github.com/heddle-mesh/heddle/proxy/message"
)

// script answers each request of a connection with the same bytes; those that end with the connection close it.
func script(answer string) func(net.Conn) {
	return func(c net.Conn) {
		in := bufio.NewReader(c)
		for {
			r, err := http.ReadRequest(in)
			if err != nil {
				return
			}
			io.Copy(io.Discard, r.Body)
			if _, err := io.WriteString(c, answer); err != nil || strings.Contains(answer, "close") {
				return
			}
		}
	}
}

func body(status int, text string) string {
	return fmt.Sprintf("HTTP/1.1 %d x\r\nContent-Length: %d\r\n\r\n%s", status, len(text), text)
}

func TestHTTP(t *testing.T) {
	tests := map[string]struct {
		config *meshconfig.HealthCheck
		serve  func(net.Conn)
		want   string // what the error says; empty: healthy
	}{
		"200":                       {nil, script(body(200, "")), ""},
		"399":                       {nil, script(body(399, "")), ""},
		"400":                       {nil, script(body(400, "")), "it answers 400"},
		"503":                       {nil, script(body(503, "no")), "it answers 503"},
		"429, which sheds load":     {nil, script(body(429, "")), ""},
		"429 where that is not":     {&meshconfig.HealthCheck{Codes: []uint32{200}}, script(body(429, "")), "it answers 429"},
		"503 where that is healthy": {&meshconfig.HealthCheck{Codes: []uint32{503}}, script(body(503, "")), ""},
		"200 where that is not":     {&meshconfig.HealthCheck{Codes: []uint32{204}}, script(body(200, "")), "it answers 200"},
		"interim answers before":    {nil, script("HTTP/1.1 103 x\r\n\r\n" + body(200, "")), ""},
		"a body that matches":       {&meshconfig.HealthCheck{Body: "^o.+k$"}, script(body(200, "o  k")), ""},
		"a body that does not":      {&meshconfig.HealthCheck{Body: "^ok$"}, script(body(200, "not ok")), "does not match"},
		"a match at the end of what is looked at": {
			&meshconfig.HealthCheck{Body: "ok"}, script(body(200, strings.Repeat(".", maxBody-2)+"ok")), "",
		},
		"a match behind it":                       {&meshconfig.HealthCheck{Body: "ok"}, script(body(200, strings.Repeat(".", maxBody)+"ok")), "does not match"},
		"a match in an endless body":              {&meshconfig.HealthCheck{Body: "ok"}, script("HTTP/1.1 200 x\r\nContent-Length: 999999\r\n\r\nok" + strings.Repeat(".", maxBody)), ""},
		"a body that ends with the connection":    {&meshconfig.HealthCheck{Body: "ok"}, script("HTTP/1.1 200 x\r\nConnection: close\r\n\r\nok"), ""},
		"a body that is cut":                      {nil, script("HTTP/1.1 200 x\r\nConnection: close\r\nContent-Length: 9\r\n\r\nok"), "reading the body"},
		"no answer":                               {nil, func(c net.Conn) { io.Copy(io.Discard, c) }, "closed"},
		"an answer of which the body never comes": {nil, script("HTTP/1.1 200 x\r\nContent-Length: 9\r\n\r\n"), "closed"},
		"what is not HTTP":                        {nil, script("SSH-2.0\r\n\r\n"), "upstream_failed"},
		"a connection that is closed":             {nil, func(net.Conn) {}, "upstream_failed"},
		"no connection":                           {nil, nil, "connect_failed"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				config := &meshconfig.HealthCheck{}
				if test.config != nil {
					config = test.config
				}
				config.Type = byHTTP
				judgeOnce(t, config, test.serve, test.want)
			})
		})
	}
}

// judgeOnce checks an endpoint at port 80 that is served so, which must end in time.
func judgeOnce(t *testing.T, config *meshconfig.HealthCheck, serve func(net.Conn), want string) {
	t.Helper()
	c, err := New(config, 0)
	if err != nil {
		t.Fatal(err)
	}
	begun := time.Now()
	err = once(t, c.At(80), piped(t, serve))
	if took := time.Since(begun); took > c.Timeout {
		t.Errorf("it took %v", took)
	}
	switch {
	case want == "" && err != nil:
		t.Errorf("unhealthy: %v", err)
	case want != "" && err == nil:
		t.Errorf("healthy, want %q", want)
	case want != "" && !strings.Contains(err.Error(), want):
		t.Errorf("unhealthy: %v; want %q", err, want)
	}
}

func TestWhatIsAsked(t *testing.T) {
	for name, test := range map[string]struct {
		config *meshconfig.HealthCheck
		want   string
	}{
		"nothing but the path": {
			&meshconfig.HealthCheck{Path: "/ready?full=1"}, "GET /ready?full=1 HTTP/1.1\r\nHost: 192.0.2.1:80\r\nUser-Agent: heddle-health\r\n\r\n",
		},
		"a host and headers": {
			&meshconfig.HealthCheck{Host: "cart.shop", Headers: []*meshconfig.HeaderValue{{Name: "X-Why", Value: "health"}, {Name: "USER-AGENT", Value: "me"}}},
			"GET / HTTP/1.1\r\nHost: cart.shop\r\nX-Why: health\r\nUSER-AGENT: me\r\n\r\n",
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				test.config.Type = byHTTP
				asked := make(chan string, 1)
				judgeOnce(t, test.config, func(c net.Conn) {
					buf := make([]byte, 4<<10)
					n, _ := c.Read(buf)
					asked <- string(buf[:n])
					io.WriteString(c, body(200, ""))
				}, "")
				if got := <-asked; got != test.want {
					t.Errorf("asked %q, want %q", got, test.want)
				}
			})
		})
	}
}

func TestAConnectionIsUsedAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		conns := 0
		e := piped(t, func(c net.Conn) {
			conns++
			script(body(200, "ok"))(c)
		})
		c, err := New(&meshconfig.HealthCheck{Type: byHTTP}, 0)
		if err != nil {
			t.Fatal(err)
		}
		for range 5 {
			if err := once(t, c, e); err != nil {
				t.Fatal(err)
			}
		}
		if conns != 1 {
			t.Errorf("%d connections for five checks", conns)
		}
	})
}

// health2 serves HTTP/2 on a pipe and answers every request of a stream with answer when all of it has come.
func health2(answer func(*http2.Stream, string)) func(net.Conn) {
	return func(c net.Conn) {
		http2.Server(c, &http2.Config{}, func(s *http2.Stream) http2.Sink { return &asked{stream: s, answer: answer} }).Serve()
	}
}

type asked struct {
	stream *http2.Stream
	answer func(*http2.Stream, string)
	head   string
	data   []byte
}

func (a *asked) Head(h *message.Head, _ bool) {
	kind, _ := h.Get("content-type")
	te, _ := h.Get("te")
	a.head = strings.Join([]string{h.Method, h.Authority, h.Path, kind, te}, " ")
}

func (a *asked) Data(p []byte, end bool) {
	if a.data = append(a.data, p...); end {
		a.answer(a.stream, a.head+" "+string(a.data))
	}
}
func (*asked) Trailer([]message.Field)  {}
func (*asked) Reset(*http2.StreamError) {}
func (*asked) Drained(int)              {}

// says answers with this head, message and trailer; a nil message is an answer of trailers alone.
func says(status int, data []byte, code string) func(*http2.Stream, string) {
	return func(s *http2.Stream, _ string) {
		h := &message.Head{Status: status}
		h.Add("content-type", "application/grpc")
		if data == nil {
			h.Add("grpc-status", code)
			s.SendHead(h, true)
			return
		}
		s.SendHead(h, false)
		s.SendData(data, code == "")
		if code != "" {
			s.SendTrailer([]message.Field{{Name: "grpc-status", Value: code}})
		}
	}
}

func TestGRPC(t *testing.T) {
	framed := func(p ...byte) []byte { return append([]byte{0, 0, 0, 0, byte(len(p))}, p...) }
	tests := map[string]struct {
		answer func(*http2.Stream, string)
		want   string
	}{
		"SERVING":                      {says(200, framed(8, 1), "0"), ""},
		"SERVING among unknown fields": {says(200, framed(0x12, 2, 'h', 'i', 8, 1, 0x18, 5), "0"), ""},
		"NOT_SERVING":                  {says(200, framed(8, 2), "0"), "serving status is 2"},
		"SERVICE_UNKNOWN":              {says(200, framed(8, 3), "0"), "serving status is 3"},
		"UNKNOWN, which is no field":   {says(200, framed(), "0"), "serving status is 0"},
		"SERVING and a code":           {says(200, framed(8, 1), "14"), `grpc-status is "14"`},
		"NOT_FOUND without message":    {says(200, nil, "5"), `grpc-status is "5"`},
		"OK without message":           {says(200, nil, "0"), "not one message"},
		"no grpc-status":               {says(200, framed(8, 1), ""), "no grpc-status"},
		"RESOURCE_EXHAUSTED":           {says(200, nil, "8"), ""},
		"404":                          {says(404, nil, "0"), "it answers 404"},
		"a message that is compressed": {says(200, []byte{1, 0, 0, 0, 2, 8, 1}, "0"), "not one message"},
		"a message that is cut":        {says(200, []byte{0, 0, 0, 0, 3, 8, 1}, "0"), "not one message"},
		"a message that is none":       {says(200, framed(8), "0"), "EOF"},
		"a field that is none":         {says(200, framed(0), "0"), "invalid field number"},
		"a field that is cut":          {says(200, framed(0x12, 9), "0"), "EOF"},
		"a message of a book":          {says(200, make([]byte, 5000), "0"), "too long"},
		"a stream that is refused":     {func(s *http2.Stream, _ string) { s.Reset(http2.RefusedStream) }, "REFUSED_STREAM"},
		"no answer":                    {func(*http2.Stream, string) {}, "deadline exceeded"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				judgeOnce(t, &meshconfig.HealthCheck{Type: byGRPC}, health2(test.answer), test.want)
			})
		})
	}
	t.Run("no connection", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) { judgeOnce(t, &meshconfig.HealthCheck{Type: byGRPC}, nil, "connect_failed") })
	})
	t.Run("a server that is silent", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			judgeOnce(t, &meshconfig.HealthCheck{Type: byGRPC}, func(c net.Conn) { io.Copy(io.Discard, c) }, "deadline exceeded")
		})
	})
	t.Run("what is asked", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			got := make(chan string, 1)
			judgeOnce(t, &meshconfig.HealthCheck{Type: byGRPC, Host: "cart.shop", GrpcService: "cart.Cart"}, health2(func(s *http2.Stream, asked string) {
				got <- asked
				says(200, framed(8, 1), "0")(s, asked)
			}), "")
			want := "POST cart.shop /grpc.health.v1.Health/Check application/grpc trailers \x00\x00\x00\x00\x0b\x0a\x09cart.Cart"
			if asked := <-got; asked != want {
				t.Errorf("asked %q, want %q", asked, want)
			}
		})
	})
}

func TestTCP(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		judgeOnce(t, &meshconfig.HealthCheck{Type: byTCP}, func(c net.Conn) { io.Copy(io.Discard, c) }, "")
		judgeOnce(t, &meshconfig.HealthCheck{Type: byTCP}, func(net.Conn) {}, "")
		judgeOnce(t, &meshconfig.HealthCheck{Type: byTCP}, nil, "connect_failed")
	})
}
