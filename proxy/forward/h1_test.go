// SPDX-License-Identifier: Apache-2.0

package forward_test

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/heddle-mesh/heddle/internal/identity"
	"github.com/heddle-mesh/heddle/internal/limits"
	"github.com/heddle-mesh/heddle/internal/meshconfig"
	"github.com/heddle-mesh/heddle/proxy/internal/testpki"
	"github.com/heddle-mesh/heddle/proxy/observe"
	"github.com/heddle-mesh/heddle/proxy/refusal"
	"github.com/heddle-mesh/heddle/proxy/upstream"
)

// until reads up to and with a text, and returns all that it read.
func until(t *testing.T, r *bufio.Reader, text string) string {
	t.Helper()
	var b strings.Builder
	for !strings.HasSuffix(b.String(), text) {
		c, err := r.ReadByte()
		if err != nil {
			t.Fatalf("%v after %q, want %q", err, b.String(), text)
		}
		b.WriteByte(c)
	}
	return b.String()
}

// pause lets time pass where it is what is tested.
func pause(d time.Duration) {
	timer := time.NewTimer(d)
	<-timer.C
}

// talk is a test's connection with what it has read.
type talk struct {
	*testing.T
	conn *net.TCPConn
	in   *bufio.Reader
}

func newTalk(t *testing.T, p *pair) *talk {
	t.Helper()
	conn := dial(t, p.client, p.at.String())
	conn.SetDeadline(time.Now().Add(20 * time.Second))
	return &talk{t, conn, bufio.NewReader(conn)}
}

func (c *talk) say(text string) {
	c.Helper()
	if _, err := io.WriteString(c.conn, text); err != nil {
		c.Fatal(err)
	}
}

// hear reads an answer to a request of a method.
func (c *talk) hear(method string) (*http.Response, string) {
	c.Helper()
	response, err := http.ReadResponse(c.in, &http.Request{Method: method})
	if err != nil {
		c.Fatal(err)
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		c.Fatal(err)
	}
	return response, string(body)
}

// rawApp runs an application that speaks by itself on each connection.
func rawApp(t *testing.T, speak func(conn net.Conn, in *bufio.Reader)) netip.AddrPort {
	t.Helper()
	return accept(t, func(c net.Conn) { speak(c, bufio.NewReader(c)) })
}

func TestFieldsKeepTheirOrderAndCase(t *testing.T) {
	heads := make(chan string, 1)
	p := newPair(t, asHTTP, rawApp(t, func(c net.Conn, in *bufio.Reader) {
		heads <- until(t, in, "\r\n\r\n")
		io.WriteString(c, "HTTP/1.1 200 OK\r\nx-LOW: 1\r\nSet-Cookie: a\r\nX-Up: 2\r\nset-cookie: b\r\nContent-Length: 0\r\n\r\n")
	}), settings{})
	c := newTalk(t, p)
	c.say("GET / HTTP/1.1\r\nx-FIRST: 1\r\nUSER-agent: t\r\nhoST: cart\r\nX-Many: a\r\nB: \r\nx-many: c\r\n\r\n")
	want := "GET / HTTP/1.1\r\nx-FIRST: 1\r\nUSER-agent: t\r\nhoST: cart\r\nX-Many: a\r\nB: \r\nx-many: c\r\n" +
		"X-Forwarded-Client-Cert: URI=" + web.String() + "\r\n\r\n"
	if got := <-heads; got != want {
		t.Errorf("the application got\n%s\nwant\n%s", got, want)
	}
	want = "HTTP/1.1 200 OK\r\nx-LOW: 1\r\nSet-Cookie: a\r\nX-Up: 2\r\nset-cookie: b\r\nContent-Length: 0\r\n\r\n"
	if got := until(t, c.in, "\r\n\r\n"); got != want {
		t.Errorf("the caller got\n%s\nwant\n%s", got, want)
	}
}

func TestPipelinedRequestsAreAnsweredInOrder(t *testing.T) {
	p := newPair(t, asHTTP, httpApp(t, func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		if r.URL.Path == "/0" {
			pause(150 * time.Millisecond) // so that the caller is watched, while more of it is here
		}
		fmt.Fprint(w, r.URL.Path, string(body))
	}), settings{})
	c := newTalk(t, p)
	var all strings.Builder
	const n = 20
	for i := range n {
		fmt.Fprintf(&all, "POST /%d HTTP/1.1\r\nHost: cart\r\nContent-Length: 2\r\n\r\n:%d", i, i%10)
	}
	c.say(all.String()[:100])
	c.say(all.String()[100:])
	for i := range n {
		if _, got := c.hear("POST"); got != fmt.Sprintf("/%d:%d", i, i%10) {
			t.Errorf("answer %d is %q", i, got)
		}
	}
}

func TestConnect(t *testing.T) {
	p := newPair(t, asHTTP, rawApp(t, func(c net.Conn, in *bufio.Reader) {
		head := until(t, in, "\r\n\r\n")
		if !strings.HasPrefix(head, "CONNECT other.example:443 HTTP/1.1\r\n") {
			io.WriteString(c, "HTTP/1.1 403 Forbidden\r\nContent-Length: 2\r\n\r\nno")
			return
		}
		io.WriteString(c, "HTTP/1.1 200 Connected\r\n\r\n")
		io.Copy(c, in)
		io.WriteString(c, "bye")
	}), settings{})
	c := newTalk(t, p)
	c.say("CONNECT other.example:443 HTTP/1.1\r\nHost: other.example:443\r\n\r\nearly ")
	if head := until(t, c.in, "\r\n\r\n"); !strings.HasPrefix(head, "HTTP/1.1 200 ") || strings.Contains(head, "Content-Length") {
		t.Errorf("head %q", head)
	}
	c.say("late ")
	c.conn.CloseWrite()
	if got, err := io.ReadAll(c.in); string(got) != "early late bye" || err != nil {
		t.Errorf("got %q, %v", got, err)
	}
	c = newTalk(t, p)
	c.say("CONNECT a:1 HTTP/1.1\r\nHost: a:1\r\n\r\n")
	if response, body := c.hear("CONNECT"); response.StatusCode != http.StatusForbidden || body != "no" {
		t.Errorf("status %d, body %q", response.StatusCode, body)
	}
}

func TestContentIsNotAskedForBeforeTheApplicationAsks(t *testing.T) {
	ask := make(chan bool)
	p := newPair(t, asHTTP, rawApp(t, func(c net.Conn, in *bufio.Reader) {
		head := until(t, in, "\r\n\r\n")
		if !strings.Contains(head, "Expect: 100-continue\r\n") {
			t.Errorf("the application got %q", head)
		}
		if !<-ask {
			io.WriteString(c, "HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
			return
		}
		io.WriteString(c, "HTTP/1.1 100 Continue\r\n\r\n")
		until(t, in, "content")
		io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
	}), settings{})
	for _, wanted := range []bool{true, false} {
		c := newTalk(t, p)
		c.say("POST / HTTP/1.1\r\nHost: cart\r\nExpect: 100-continue\r\nContent-Length: 7\r\n\r\n")
		c.conn.SetReadDeadline(time.Now().Add(50 * time.Millisecond))
		if b, err := c.in.ReadByte(); err == nil {
			t.Errorf("got %q before the application spoke", b)
		}
		c.conn.SetReadDeadline(time.Time{})
		ask <- wanted
		if !wanted {
			if response, _ := c.hear("POST"); response.StatusCode != http.StatusForbidden || !response.Close {
				t.Errorf("status %d, close %v", response.StatusCode, response.Close)
			}
			continue
		}
		if head := until(t, c.in, "\r\n\r\n"); !strings.HasPrefix(head, "HTTP/1.1 100 ") {
			t.Errorf("got %q", head)
		}
		c.say("content")
		if response, _ := c.hear("POST"); response.StatusCode != http.StatusOK {
			t.Errorf("status %d", response.StatusCode)
		}
	}
}

// What is answered before a request is whole reaches a caller that goes on sending and only then reads.
func TestAnAnswerBeforeTheRequestHasEndedIsNotLost(t *testing.T) {
	p := newPair(t, asHTTP, rawApp(t, func(c net.Conn, in *bufio.Reader) {
		until(t, in, "\r\n\r\n")
		io.WriteString(c, "HTTP/1.1 413 Content Too Large\r\nContent-Length: 5\r\nConnection: close\r\n\r\nlarge")
		c.(*net.TCPConn).CloseWrite()
		io.CopyN(io.Discard, in, 100<<10)
	}), settings{})
	p.server.policy(strict, allow, rule("shop/cart/no", deny, web, nil, []string{"/denied"}))
	for path, want := range map[string]int{"/": 413, "/denied": 403} {
		c := newTalk(t, p)
		c.say("POST " + path + " HTTP/1.1\r\nHost: cart\r\nContent-Length: 1000000\r\n\r\n")
		for range 10 {
			io.WriteString(c.conn, strings.Repeat("x", 20<<10))
			pause(2 * time.Millisecond)
		}
		if response, _ := c.hear("POST"); response.StatusCode != want || !response.Close {
			t.Errorf("%s: status %d, close %v", path, response.StatusCode, response.Close)
		}
		if _, err := c.in.ReadByte(); err != io.EOF {
			t.Errorf("%s: the connection ended with %v", path, err)
		}
	}
}

func TestCallersThatAreSlow(t *testing.T) {
	p := newPair(t, asHTTP, httpApp(t, func(_ http.ResponseWriter, r *http.Request) { io.Copy(io.Discard, r.Body) }), settings{
		limits: limits.Set{HeaderTime: 50 * time.Millisecond, BodyIdle: 50 * time.Millisecond},
	})
	for name, bytes := range map[string]string{
		"with a header":  "GET / HTTP/1.1\r\nHost: c",
		"with content":   "POST / HTTP/1.1\r\nHost: cart\r\nContent-Length: 5\r\n\r\nab",
		"within a chunk": "POST / HTTP/1.1\r\nHost: cart\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nab",
	} {
		c := newTalk(t, p)
		c.say(bytes)
		response, body := c.hear("GET")
		if response.StatusCode != http.StatusRequestTimeout || response.Header.Get("heddle-reason") != "bad_request" ||
			!response.Close || !strings.Contains(body, "limit ") {
			t.Errorf("%s: status %d, header %v, body %q", name, response.StatusCode, response.Header, body)
		}
	}
}

func TestAnswersThatAreNotHTTPOrBreakOff(t *testing.T) {
	cases := map[string]struct {
		answer string
		status int // 0: the answer began, and must be seen to have broken off
	}{
		"not HTTP":              {"SSH-2.0-x\r\n\r\n", 502},
		"two lengths":           {"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nxx", 502},
		"length and coding":     {"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 502},
		"a header that is torn": {"HTTP/1.1 200 OK\r\nContent-", 502},
		"nothing":               {"", 502},
		"101 that nobody asked": {"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: x\r\n\r\n", 502},
		"a body that is torn":   {"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nshort", 0},
		"a chunk that is torn":  {"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\na\r\nshort", 0},
		"a chunk that is none":  {"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nx\r\nshort", 0},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			p := newPair(t, asHTTP, rawApp(t, func(conn net.Conn, in *bufio.Reader) {
				until(t, in, "\r\n\r\n")
				io.WriteString(conn, c.answer)
			}), settings{})
			talk := newTalk(t, p)
			talk.say("POST / HTTP/1.1\r\nHost: cart\r\nContent-Length: 0\r\n\r\n")
			response, err := http.ReadResponse(talk.in, nil)
			if err != nil {
				t.Fatal(err)
			}
			_, err = io.ReadAll(response.Body)
			if c.status == 0 && err == nil && response.StatusCode == http.StatusOK {
				t.Error("it came to a good end")
			}
			if c.status != 0 && (err != nil || response.StatusCode != c.status || response.Header.Get("heddle-reason") != "upstream_failed") {
				t.Errorf("status %d, header %v, %v", response.StatusCode, response.Header, err)
			}
			p.client.events.wait(t, "of the failure", func(e observe.Event) bool {
				return e.Reason == refusal.UpstreamFailed || e.Status == 502
			})
		})
	}
}

func TestHTTP10Callers(t *testing.T) {
	p := newPair(t, asHTTP, httpApp(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/stream" {
			http.NewResponseController(w).Flush() // so that there is no length
		}
		io.WriteString(w, r.Proto)
	}), settings{})
	c := newTalk(t, p)
	c.say("GET / HTTP/1.0\r\nHost: cart\r\nConnection: keep-alive\r\n\r\n")
	if response, body := c.hear("GET"); body != "HTTP/1.1" || response.Close {
		t.Errorf("body %q, header %v", body, response.Header)
	}
	c.say("GET /stream HTTP/1.0\r\nHost: cart\r\nConnection: keep-alive\r\n\r\n")
	if got, err := io.ReadAll(c.in); err != nil || !strings.HasSuffix(string(got), "\r\n\r\nHTTP/1.1") || strings.Contains(string(got), "chunked") {
		t.Errorf("got %q, %v, %+v", got, err, p.client.events.All())
	}
}

func TestAnAnswerToAnHTTP10CallerThatBreaksOffLooksSo(t *testing.T) {
	p := newPair(t, asHTTP, rawApp(t, func(c net.Conn, in *bufio.Reader) {
		until(t, in, "\r\n\r\n")
		io.WriteString(c, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nbegun\r\n")
		pause(20 * time.Millisecond)
	}), settings{})
	c := newTalk(t, p)
	c.say("GET / HTTP/1.0\r\nHost: cart\r\n\r\n")
	until(t, c.in, "\r\n\r\nbegun")
	if b, err := c.in.ReadByte(); err == nil || err == io.EOF {
		t.Errorf("it ended with %q, %v", b, err)
	}
}

// Content that is still coming goes to the second endpoint from its start.
func TestContentThatStreamsIsSentToASecondEndpoint(t *testing.T) {
	var served atomic.Int64
	p := newPair(t, asHTTP, httpApp(t, func(w http.ResponseWriter, r *http.Request) {
		served.Add(1)
		io.Copy(w, r.Body)
	}), settings{})
	p.client.endpoints(cart, shop, p.server.listen(nobody()), p.inside)
	for range 20 {
		c := newTalk(t, p)
		c.say("POST / HTTP/1.1\r\nHost: cart\r\nTransfer-Encoding: chunked\r\n\r\n3\r\none\r\n")
		pause(5 * time.Millisecond)
		c.say("3\r\ntwo\r\n")
		pause(time.Millisecond)
		c.say("5\r\nthree\r\n0\r\n\r\n")
		if response, body := c.hear("POST"); response.StatusCode != http.StatusOK || body != "onetwothree" {
			t.Errorf("status %d, body %q", response.StatusCode, body)
		}
	}
	if n := served.Load(); n != 20 {
		t.Errorf("served %d times", n)
	}
}

func TestAPolicyThatDeniesBeforeAnAnswerHasBegunIsAnswered(t *testing.T) {
	started := make(chan struct{})
	p := newPair(t, asHTTP, httpApp(t, func(_ http.ResponseWriter, r *http.Request) {
		close(started)
		<-r.Context().Done()
	}), settings{})
	c := newTalk(t, p)
	c.say("GET / HTTP/1.1\r\nHost: cart\r\n\r\n")
	<-started
	p.server.policy(strict, deny)
	response, body := c.hear("GET")
	if response.StatusCode != http.StatusForbidden || response.Header.Get("heddle-reason") != "policy_changed" || !strings.Contains(body, "rule: ") {
		t.Errorf("status %d, header %v, body %q", response.StatusCode, response.Header, body)
	}
	p.server.policy(strict, allow)
	p.client.service(asHTTP, func(port *meshconfig.ServicePort) { port.Routes = nil }, 1)
}

// What is neither HTTP/2 nor HTTP/1.1 gets no answer of HTTP/1.1 where HTTP/2 was declared.
func TestBytesThatAreNoHTTPOnAPortOfHTTP2(t *testing.T) {
	const asHTTP2 = meshconfig.Protocol_PROTOCOL_HTTP2
	p := newPair(t, asHTTP2, httpApp(t, ok), settings{})
	p.server.policyOf(&meshconfig.PortPolicy{Mtls: permissive, DefaultAction: allow, Protocol: asHTTP2})
	for side, at := range map[*proxy]netip.AddrPort{p.client: p.at, p.server: p.inside} {
		conn := dial(t, side, at.String())
		io.WriteString(conn, "INVALID CONNECTION PREFACE\r\n\r\n")
		if got, _ := io.ReadAll(conn); len(got) != 0 {
			t.Errorf("got %q", got)
		}
		side.events.wait(t, "of the bytes", func(e observe.Event) bool { return e.Reason == refusal.BadRequest })
	}
}

func TestAServerPicksOneOfTheUpgradesThatAreOffered(t *testing.T) {
	app := rawApp(t, func(c net.Conn, in *bufio.Reader) {
		until(t, in, "\r\n\r\n")
		io.WriteString(c, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: foo\r\n\r\nhi")
		io.Copy(c, in)
	})
	p := newPair(t, asHTTP, app, settings{})
	c := newTalk(t, p)
	c.say("GET / HTTP/1.1\r\nHost: cart\r\nConnection: Upgrade\r\nUpgrade: websocket, foo\r\n\r\n")
	if r, body := c.hear("GET"); r.StatusCode != http.StatusSwitchingProtocols {
		t.Errorf("status %d %s", r.StatusCode, body)
	}
}

func TestASecondTrySendsTheSameTrailer(t *testing.T) {
	var tries atomic.Int64
	second := make(chan string, 1)
	app := rawApp(t, func(c net.Conn, in *bufio.Reader) {
		got := until(t, in, "X-Last: 1\r\n\r\n")
		if tries.Add(1) == 1 {
			c.(*net.TCPConn).SetLinger(0)
			return
		}
		second <- got
		io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
	})
	p := newPair(t, asHTTP, app, settings{})
	p.client.endpoints(cart, identity.ID{}, app)
	c := newTalk(t, p)
	c.say("PUT / HTTP/1.1\r\nHost: cart\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\nheddle-x: one\r\nX-Last: 1\r\n\r\n")
	if r, body := c.hear("PUT"); r.StatusCode != http.StatusOK {
		t.Fatalf("status %d %s", r.StatusCode, body)
	}
	if got := <-second; !strings.HasSuffix(got, "\r\n0\r\nX-Last: 1\r\n\r\n") {
		t.Errorf("the second try had %q", got)
	}
}

// An endpoint that has answered may not read the rest of the request. It holds the caller's connection for a moment only.
func TestAnEndpointThatAnswersEarlyAndDoesNotReadHoldsNobody(t *testing.T) {
	var dials atomic.Int64
	asked, over := make(chan struct{}), make(chan struct{})
	server := func(c net.Conn) {
		in := bufio.NewReaderSize(c, 16) // a pipe gives what is read, no more
		first := dials.Add(1) == 1
		until(t, in, "\r\n\r\n")
		if first {
			close(asked)
			c.Read(make([]byte, 1)) // of the content, so that the rest is being written
		}
		io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
		<-over
		c.Close()
	}
	var serving sync.WaitGroup
	s := settings{upstream: upstream.Options{Dial: func(context.Context, string, string) (net.Conn, error) {
		near, far := net.Pipe()
		serving.Go(func() { server(far) })
		return near, nil
	}}}
	defer serving.Wait()
	defer close(over)
	p := start(t, testpki.NewAuthority(t), web, false, s)
	p.service(asHTTP, nil, 1)
	p.endpoints(cart, identity.ID{}, nobody())
	at := p.listen(netip.AddrPortFrom(cartIP, 80))
	conn := dial(t, p, at.String())
	conn.SetDeadline(time.Now().Add(20 * time.Second))
	c := &talk{t, conn, bufio.NewReader(conn)}
	c.say("POST /1 HTTP/1.1\r\nHost: cart\r\nContent-Length: 10\r\n\r\n")
	<-asked
	c.say("0123456789")
	c.say("GET /2 HTTP/1.1\r\nHost: cart\r\n\r\n")
	for _, method := range []string{"POST", "GET"} {
		if r, body := c.hear(method); r.StatusCode != http.StatusOK || r.Close {
			t.Errorf("%s: status %d %s, close %v", method, r.StatusCode, body, r.Close)
		}
	}
	if n := dials.Load(); n != 2 {
		t.Errorf("%d connections, want another one for the second request", n)
	}
}

// exceeded gets the name of each limit that was exceeded.
type exceeded chan limits.Name

func (e exceeded) Exceeded(name limits.Name) { e <- name }

func TestAnIdleConnectionIsClosedAndCounted(t *testing.T) {
	over := make(exceeded, 10)
	app := httpApp(t, func(http.ResponseWriter, *http.Request) {})
	p := newPair(t, asHTTP, app, settings{limits: limits.Set{Idle: 100 * time.Millisecond}, count: over})
	c := newTalk(t, p)
	c.say("GET / HTTP/1.1\r\nHost: cart\r\n\r\n")
	c.hear("GET")
	if _, err := c.in.ReadByte(); err != io.EOF {
		t.Errorf("the connection ended with %v", err)
	}
	if name := <-over; name != limits.Idle {
		t.Errorf("limit %s was exceeded", name)
	}
}
