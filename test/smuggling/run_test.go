// SPDX-License-Identifier: Apache-2.0

package smuggling

import (
	"bufio"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/heddle-mesh/heddle/internal/meshconfig"
	"github.com/heddle-mesh/heddle/test/pair"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// patience is how long anything may take. It is a bound for a busy machine, not a goal.
const patience = 5 * time.Second

// attack is what a caller sends, and its one outcome.
type attack struct {
	name string
	send string // lines end as they stand here
	want want
}

// want is an outcome: a refusal with a status, or a request that the origin gets.
type want struct {
	status int  // of the refusal; 0: it is forwarded
	stays  bool // where the message ends is beyond doubt, so that the connection may go on after the refusal

	head    []string // the request line and the fields, without those that frame the content
	body    string
	trailer []string
	upgrade string // the protocol to which it asks to upgrade
	lists   string // what Connection lists, or empty
	closes  bool   // the connection ends after the answer
}

// refused is the outcome of a request that nobody gets: the caller reads the status, and then the end.
func refused(status int) want { return want{status: status} }

// declined is the outcome of a request that nobody gets for what it asks for; how it is framed is beyond doubt.
func declined(status int) want { return want{status: status, stays: true} }

// as is the outcome of a request that the origin gets with a head: the request line and fields.
func as(head ...string) want { return want{head: head} }

func (w want) with(body string, trailer ...string) want {
	w.body, w.trailer = body, trailer
	return w
}

func (w want) thenClosed() want {
	w.closes = true
	return w
}

func (w want) upgrading(protocol string) want {
	w.upgrade, w.lists = protocol, "upgrade"
	return w
}

// listing is for what a sender must list in Connection, such as TE (RFC 9110, section 10.1.4).
func (w want) listing(option string) want {
	w.lists = option
	return w
}

// post is a request with Host and more: fields, the empty line and content.
func post(rest string) string { return "POST /a HTTP/1.1\r\nHost: cart\r\n" + rest }

// get is a request without content, with Host and more fields.
func get(fields string) string { return "GET /a HTTP/1.1\r\nHost: cart\r\n" + fields + "\r\n" }

// chunks is a request with content in chunks, as it stands here.
func chunks(content string) string { return post("Transfer-Encoding: chunked\r\n\r\n" + content) }

// asPost is the head of post, and asGet that of get, when they are forwarded with some fields.
func asPost(fields ...string) want {
	return as(append([]string{"POST /a HTTP/1.1", "Host: cart"}, fields...)...)
}

func asGet(fields ...string) want {
	return as(append([]string{"GET /a HTTP/1.1", "Host: cart"}, fields...)...)
}

// inner is a request that hides in the content of another.
const inner = "GET /smuggled HTTP/1.1\r\nHost: cart\r\n\r\n"

// methodOf returns the method that an attack's answer is for.
func (a *attack) methodOf() string {
	method, _, _ := strings.Cut(a.want.head[0], " ")
	return method
}

// bench is a pair with the strict origin, and a way in.
type bench struct {
	origin *origin
	dial   func(tb testing.TB) net.Conn
	n      int // of the last canary
}

// faces are the ways in: the client-side proxy, in clear, and the server-side one, as a caller with an identity.
var faces = []string{"client side", "server side"}

func newBench(tb testing.TB, face string, protocol meshconfig.Protocol) *bench {
	tb.Helper()
	b := &bench{origin: newOrigin(tb)}
	p := pair.New(tb, b.origin.address, pair.Options{Protocol: protocol})
	caller := p.CallerTLS("heddle/h1")
	b.dial = func(tb testing.TB) net.Conn {
		tb.Helper()
		address := p.Client
		if face == "server side" {
			address = p.Server
		}
		c, err := net.Dial("tcp", address.String())
		if err != nil {
			tb.Fatal(err)
		}
		c.SetDeadline(time.Now().Add(patience))
		if face == "server side" {
			return tls.Client(c, caller)
		}
		return c
	}
	return b
}

// canary makes a request, the next of its kind.
func (b *bench) canary() (request, body string, arrives want) {
	b.n++
	target := fmt.Sprintf("/canary/%d", b.n)
	return "GET " + target + " HTTP/1.1\r\nHost: cart\r\n\r\n", answerTo("GET", target), as("GET "+target+" HTTP/1.1", "Host: cart")
}

// run sends an attack, in one write or in single bytes, and checks everything that follows from it.
func (b *bench) run(t *testing.T, a *attack, inBytes bool) {
	t.Helper()
	b.origin.take()
	c := b.dial(t)
	defer c.Close()
	canary, answer, arrives := b.canary()
	var writing sync.WaitGroup
	writing.Go(func() { send(c, a.send+canary, inBytes) })
	defer writing.Wait()
	defer c.Close()

	var arrivals []want
	r := bufio.NewReader(c)
	switch {
	case a.want.stays:
		mustDecline(t, r, a.want.status)
		arrivals = append(arrivals, arrives)
		mustAnswer(t, r, "the canary behind it", "GET", answer)
	case a.want.status != 0:
		mustRefuse(t, r, a.want.status)
	default:
		arrivals = append(arrivals, a.want)
		method := a.methodOf()
		mustAnswer(t, r, "the attack", method, answerTo(method, strings.Fields(a.want.head[0])[1]))
		if a.want.closes {
			mustEnd(t, r)
		} else {
			arrivals = append(arrivals, arrives)
			mustAnswer(t, r, "the canary behind it", "GET", answer)
		}
	}
	c.Close()

	arrivals = append(arrivals, b.another(t))
	b.check(t, arrivals)
}

// another sends a canary on a connection of its own.
func (b *bench) another(t testing.TB) want {
	t.Helper()
	canary, answer, arrives := b.canary()
	c := b.dial(t)
	defer c.Close()
	send(c, canary, false)
	mustAnswer(t, bufio.NewReader(c), "the canary on another connection", "GET", answer)
	return arrives
}

// check compares what arrived at the origin.
func (b *bench) check(t *testing.T, wanted []want) {
	t.Helper()
	got := b.origin.take()
	for i, a := range got {
		switch {
		case a.breach != nil:
			t.Errorf("the origin got what is no request: %v", a.breach)
		case i >= len(wanted):
			t.Errorf("the origin got one request more: %v", a.request)
		default:
			if err := wanted[i].carried(a.request); err != nil {
				t.Errorf("request %d at the origin: %v", i, err)
			}
		}
	}
	if len(got) < len(wanted) {
		t.Errorf("the origin got %d requests, want %d", len(got), len(wanted))
	}
}

// send writes what it can: who is refused early cannot write all of it.
func send(c net.Conn, s string, inBytes bool) {
	const most = 2048 // bytes that go one by one
	for inBytes && len(s) > 0 && len(s) < most {
		if _, err := io.WriteString(c, s[:1]); err != nil {
			return
		}
		s = s[1:]
	}
	io.WriteString(c, s)
}

// mustRefuse reads a refusal and then the end.
func mustRefuse(t *testing.T, r *bufio.Reader, status int) {
	t.Helper()
	m, _, err := readAnswer(r, "GET")
	if err != nil {
		t.Fatalf("no refusal: %v", err)
	}
	if m.status() != status {
		t.Errorf("it was answered %v, want %d", m, status)
	}
	if m.status() >= 400 && !strings.EqualFold(m.value("Connection"), "close") {
		t.Errorf("the refusal does not say that the connection closes: %v", m)
	}
	mustEnd(t, r)
}

// mustDecline reads a refusal after which the connection goes on.
func mustDecline(t *testing.T, r *bufio.Reader, status int) {
	t.Helper()
	if m, _, err := readAnswer(r, "GET"); err != nil || m.status() != status {
		t.Fatalf("it was answered %v, %v, want %d", m, err, status)
	}
}

// mustAnswer reads the answer to one request.
func mustAnswer(t testing.TB, r *bufio.Reader, what, method, body string) {
	t.Helper()
	m, _, err := readAnswer(r, method)
	switch {
	case err != nil:
		t.Fatalf("%s has no answer: %v", what, err)
	case method == "HEAD":
		body = ""
	}
	status := 200
	if method == "CONNECT" {
		status = 405
	}
	if m.status() != status || m.body != body {
		t.Fatalf("%s was answered %v, want %q", what, m, body)
	}
}

// mustEnd reads the end of the connection and nothing before.
func mustEnd(t *testing.T, r *bufio.Reader) {
	t.Helper()
	rest, err := io.ReadAll(r)
	if len(rest) > 0 {
		t.Errorf("behind the answer came %q", clip(string(rest)))
	}
	var timeout net.Error
	if err != nil && !errors.Is(err, syscall.ECONNRESET) && !errors.Is(err, io.ErrUnexpectedEOF) || errors.As(err, &timeout) && timeout.Timeout() {
		t.Errorf("the connection did not end: %v", err)
	}
}

// attacks are all tables of requests.
var attacks = [][]attack{lineAttacks, hostAttacks, lengthAttacks, codingAttacks, fieldAttacks, chunkAttacks, trailerAttacks, otherAttacks}

func TestTheTableIsLarge(t *testing.T) {
	seen := map[string]bool{}
	for _, table := range attacks {
		for _, a := range table {
			if seen[a.name] {
				t.Errorf("%q is there twice", a.name)
			}
			seen[a.name] = true
		}
	}
	n := len(seen) + len(answers) + len(downgrades)
	t.Logf("%d requests of HTTP/1.1, %d answers, %d requests of HTTP/2: %d cases", len(seen), len(answers), len(downgrades), n)
	if n < 200 {
		t.Errorf("%d cases, want at least 200", n)
	}
}

func TestRequests(t *testing.T) {
	for _, face := range faces {
		t.Run(face, func(t *testing.T) {
			b := newBench(t, face, meshconfig.Protocol_PROTOCOL_HTTP1)
			for _, table := range attacks {
				for i := range table {
					for _, inBytes := range []bool{false, true} {
						name := table[i].name
						if inBytes {
							name += ", in single bytes"
						}
						t.Run(name, func(t *testing.T) { b.run(t, &table[i], inBytes) })
					}
				}
			}
		})
	}
}
