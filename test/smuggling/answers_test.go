// SPDX-License-Identifier: Apache-2.0

package smuggling

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/heddle-mesh/heddle/internal/meshconfig"
	"github.com/heddle-mesh/heddle/test/pair"
)

// answer is what a server answers, and what the caller must get of it.
type answer struct {
	name   string
	method string // POST if empty: a request that is never sent twice
	fields string // of the request, more
	script script
	want   got
}

// got is what a caller gets.
type got struct {
	status  int
	body    string
	interim int      // answers before it
	fields  []string // that it must have, in this order
	lacks   []string // names that it must not have
	cut     bool     // it begins and breaks off
	tunnel  string   // what comes behind 101
	kept    bool     // the connection to the server may be used again
}

// broken is the outcome of an answer that is none.
func broken() got { return got{status: 502, body: "heddle: upstream_failed"} }

func passes(body string) got { return got{status: 200, body: body} }

func (g got) keeping() got {
	g.kept = true
	return g
}

// begun is the outcome of an answer that turns out to be none when it has begun.
func begun() got { return got{status: 200, cut: true} }

func raw(s string) script { return script{raw: s} }

// ok is an answer of 200 with fields, the empty line and content.
func ok(rest string) script { return script{raw: "HTTP/1.1 200 OK\r\n" + rest} }

// then is an answer in chunks of which the caller has read "abc" before the rest comes.
func then(rest string) script {
	return script{raw: "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n", rest: rest}
}

func okChunks(content string) script { return ok("Transfer-Encoding: chunked\r\n\r\n" + content) }

// second is an answer that nobody asked for.
const second = "HTTP/1.1 200 OK\r\nContent-Length: 8\r\n\r\npoisoned"

const upgradeFields = "Connection: Upgrade\r\nUpgrade: websocket\r\n"

var answers = []answer{
	{name: "an answer as it should be", script: ok("Content-Length: 3\r\nX-b: 1\r\nx-A: 2\r\nX-b: 3\r\n\r\nabc"), want: got{status: 200, body: "abc", fields: []string{"X-b: 1", "x-A: 2", "X-b: 3"}, kept: true}},
	{name: "an answer in chunks", script: okChunks("1\r\na\r\n2;x=y\r\nbc\r\n0\r\nX: y\r\n\r\n"), want: passes("abc").keeping()},
	{name: "an answer that ends with the connection", script: script{raw: "HTTP/1.1 200 OK\r\n\r\nabc", close: true}, want: passes("abc")},
	{name: "an answer of HTTP/1.0", script: script{raw: "HTTP/1.0 200 OK\r\n\r\nabc", close: true}, want: passes("abc")},
	{name: "an answer of HTTP/1.0 with a length", script: script{raw: "HTTP/1.0 200 OK\r\nContent-Length: 3\r\n\r\nabc", close: true}, want: passes("abc")},
	{name: "an answer without a reason", script: raw("HTTP/1.1 200 \r\nContent-Length: 3\r\n\r\nabc"), want: passes("abc").keeping()},
	{name: "an answer with a status that nobody knows", script: raw("HTTP/1.1 299 What\r\nContent-Length: 3\r\n\r\nabc"), want: got{status: 299, body: "abc", kept: true}},

	{name: "no HTTP", script: raw("hello\r\n\r\n"), want: broken()},
	{name: "HTTP/0.9", script: script{raw: "<html>hello</html>", close: true}, want: broken()},
	{name: "the end before an answer", script: script{close: true}, want: broken()},
	{name: "half a head", script: script{raw: "HTTP/1.1 200 OK\r\nContent-Le", close: true}, want: broken()},
	{name: "an empty line first", script: raw("\r\nHTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"), want: broken()},
	{name: "an answer of HTTP/2.0", script: raw("HTTP/2.0 200 OK\r\nContent-Length: 0\r\n\r\n"), want: broken()},
	{name: "a version in lower case", script: raw("http/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"), want: broken()},
	{name: "a status of two digits", script: raw("HTTP/1.1 20 OK\r\nContent-Length: 0\r\n\r\n"), want: broken()},
	{name: "a status of four digits", script: raw("HTTP/1.1 2000 OK\r\nContent-Length: 0\r\n\r\n"), want: broken()},
	{name: "a status with a sign", script: raw("HTTP/1.1 +20 OK\r\nContent-Length: 0\r\n\r\n"), want: broken()},
	{name: "a status below 100", script: raw("HTTP/1.1 099 OK\r\nContent-Length: 0\r\n\r\n"), want: broken()},
	{name: "two spaces before the status", script: raw("HTTP/1.1  200 OK\r\nContent-Length: 0\r\n\r\n"), want: broken()},
	{name: "a status line that ends with LF", script: raw("HTTP/1.1 200 OK\nContent-Length: 0\r\n\r\n"), want: broken()},
	{name: "a reason with a bare CR", script: raw("HTTP/1.1 200 O\rK\r\nContent-Length: 0\r\n\r\n"), want: broken()},
	{name: "a reason with NUL", script: raw("HTTP/1.1 200 O\x00K\r\nContent-Length: 0\r\n\r\n"), want: broken()},
	{name: "an empty line within the head", script: raw("HTTP/1.1 200 OK\r\n X: y\r\nContent-Length: 0\r\n\r\n"), want: broken()},

	{name: "CL and TE", script: ok("Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"), want: broken()},
	{name: "TE and CL", script: ok("Transfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n"), want: broken()},
	{name: "TE and CL of 0", script: ok("Transfer-Encoding: chunked\r\nContent-Length: 0\r\n\r\n0\r\n\r\n"), want: broken()},
	{name: "two lengths", script: ok("Content-Length: 3\r\nContent-Length: 4\r\n\r\nabcd"), want: broken()},
	{name: "two lengths that agree", script: ok("Content-Length: 3\r\nContent-Length: 3\r\n\r\nabc"), want: broken()},
	{name: "a list of lengths", script: ok("Content-Length: 3, 3\r\n\r\nabc"), want: broken()},
	{name: "a length with a sign", script: ok("Content-Length: +3\r\n\r\nabc"), want: broken()},
	{name: "a negative length", script: ok("Content-Length: -3\r\n\r\nabc"), want: broken()},
	{name: "a hexadecimal length", script: ok("Content-Length: 0x3\r\n\r\nabc"), want: broken()},
	{name: "a length that is too large", script: ok("Content-Length: 9223372036854775808\r\n\r\nabc"), want: broken()},
	{name: "an empty length", script: ok("Content-Length:\r\n\r\n"), want: broken()},
	{name: "chunked twice", script: ok("Transfer-Encoding: chunked, chunked\r\n\r\n0\r\n\r\n"), want: broken()},
	{name: "two lines of chunked", script: ok("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"), want: broken()},
	{name: "chunked before another", script: ok("Transfer-Encoding: chunked, gzip\r\n\r\n0\r\n\r\n"), want: broken()},
	{name: "a coding that nobody knows", script: ok("Transfer-Encoding: cow\r\n\r\n"), want: broken()},
	{name: "identity", script: ok("Transfer-Encoding: identity\r\nContent-Length: 3\r\n\r\nabc"), want: broken()},
	{name: "chunks in HTTP/1.0", script: raw("HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"), want: broken()},
	{name: "a folded field", script: ok("X: y\r\n z\r\nContent-Length: 0\r\n\r\n"), want: broken()},
	{name: "a folded length", script: ok("Content-Length:\r\n 3\r\n\r\nabc"), want: broken()},
	{name: "a space before a colon", script: ok("Content-Length : 3\r\n\r\nabc"), want: broken()},
	{name: "a bare LF between fields", script: ok("X: y\nContent-Length: 0\r\n\r\n"), want: broken()},
	{name: "a bare CR in a value", script: ok("X: y\rz\r\nContent-Length: 0\r\n\r\n"), want: broken()},
	{name: "NUL in a value", script: ok("X: y\x00\r\nContent-Length: 0\r\n\r\n"), want: broken()},
	{name: "a name with a space", script: ok("X Y: z\r\nContent-Length: 0\r\n\r\n"), want: broken()},
	{name: "a header of 200,000 bytes", script: ok(strings.Repeat("X: "+strings.Repeat("y", 996)+"\r\n", 200) + "Content-Length: 0\r\n\r\n"), want: broken()},
	{name: "a thousand fields", script: ok(strings.Repeat("X: y\r\n", 1000) + "Content-Length: 0\r\n\r\n"), want: broken()},

	{name: "less content than announced", script: script{raw: "HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nabc", rest: "de", close: true}, want: begun()},
	{name: "more content than announced", script: ok("Content-Length: 3\r\n\r\nabcdef"), want: passes("abc")},
	{name: "chunks that break off", script: script{raw: "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n", rest: "3\r\nab", close: true}, want: begun()},
	{name: "a chunk that is longer than its size", script: then("3\r\nabcd\r\n0\r\n\r\n"), want: begun()},
	{name: "a chunk size with 0x", script: then("0x3\r\nabc\r\n0\r\n\r\n"), want: begun()},
	{name: "a chunk size with a minus", script: then("-3\r\nabc\r\n0\r\n\r\n"), want: begun()},
	{name: "a chunk size that ends with LF", script: then("3\nabc\r\n0\r\n\r\n"), want: begun()},
	{name: "a chunk extension with LF", script: then("3;a\nb\r\nabc\r\n0\r\n\r\n"), want: begun()},
	{name: "a chunk size beyond 64 bits", script: then("10000000000000003\r\nabc\r\n0\r\n\r\n"), want: begun()},
	{name: "Content-Length in a trailer", script: then("0\r\nContent-Length: 3\r\n\r\n"), want: begun()},
	{name: "a trailer with a space before its colon", script: then("0\r\nX : y\r\n\r\n"), want: begun()},

	{name: "two answers to one request", script: ok("Content-Length: 3\r\n\r\nabc" + second), want: passes("abc")},
	{name: "two answers to one request, in chunks", script: okChunks("3\r\nabc\r\n0\r\n\r\n" + second), want: passes("abc")},
	{name: "an answer behind no content", script: raw("HTTP/1.1 204 No Content\r\n\r\n" + second), want: got{status: 204}},
	{name: "an answer behind one that has not changed", script: raw("HTTP/1.1 304 Not Modified\r\nContent-Length: 3\r\n\r\n" + second), want: got{status: 304}},
	{name: "an interim answer behind the answer", script: ok("Content-Length: 3\r\n\r\nabcHTTP/1.1 100 Continue\r\n\r\n"), want: passes("abc")},
	{name: "an empty line behind the answer", script: ok("Content-Length: 3\r\n\r\nabc\r\n"), want: passes("abc")},
	{name: "204 with content", script: raw("HTTP/1.1 204 No Content\r\nContent-Length: 3\r\n\r\nabc"), want: broken()},
	{name: "204 in chunks", script: raw("HTTP/1.1 204 No Content\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"), want: broken()},
	{name: "304 with content", script: raw("HTTP/1.1 304 Not Modified\r\nContent-Length: 3\r\n\r\nabc"), want: got{status: 304}},
	{name: "HEAD answered with content", method: "HEAD", script: ok("Content-Length: 3\r\n\r\nabc"), want: got{status: 200}},
	{name: "HEAD answered with content that is an answer", method: "HEAD", script: ok(fmt.Sprintf("Content-Length: %d\r\n\r\n", len(second)) + second), want: got{status: 200}},
	{name: "HEAD answered in chunks", method: "HEAD", script: okChunks("3\r\nabc\r\n0\r\n\r\n"), want: got{status: 200}},
	{name: "HEAD answered as it should be", method: "HEAD", script: ok("Content-Length: 1000000\r\n\r\n"), want: got{status: 200, kept: true}},

	{name: "hints before the answer", script: raw("HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabc"), want: got{status: 200, body: "abc", interim: 1, kept: true}},
	{name: "an interim answer that nobody asked for", script: raw("HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabc"), want: got{status: 200, body: "abc", interim: -1, kept: true}},
	{name: "a flood of interim answers", script: raw(strings.Repeat("HTTP/1.1 103 Early Hints\r\n\r\n", 10_000) + "HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabc"), want: got{status: 502, body: "heddle: upstream_failed", interim: -1}},
	{name: "an interim answer with a length", script: raw("HTTP/1.1 103 Early Hints\r\nContent-Length: 3\r\n\r\nabcHTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabc"), want: broken()},
	{name: "an interim answer in chunks", script: raw("HTTP/1.1 103 Early Hints\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabc"), want: broken()},
	{name: "an interim answer and the end", script: script{raw: "HTTP/1.1 103 Early Hints\r\n\r\n", close: true}, want: got{status: 502, body: "heddle: upstream_failed", interim: 1}},
	{name: "an interim answer of HTTP/1.0", script: raw("HTTP/1.0 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabc"), want: broken()},

	{name: "101 that nobody asked for", script: raw("HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n" + second), want: broken()},
	{name: "101 that nobody asked for, without Upgrade", script: raw("HTTP/1.1 101 Switching Protocols\r\n\r\n" + second), want: broken()},
	{name: "101 to another protocol", method: "GET", fields: upgradeFields, script: raw("HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n"), want: broken()},
	{name: "101 to an upgrade that was not passed on", method: "GET", fields: "Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAAP__\r\n", script: raw("HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n"), want: broken()},
	{name: "101 with a length", method: "GET", fields: upgradeFields, script: raw("HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nContent-Length: 3\r\n\r\nabc"), want: broken()},
	{name: "101 without Connection", method: "GET", fields: upgradeFields, script: raw("HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n\r\n"), want: broken()},
	{name: "101 as it should be", method: "GET", fields: upgradeFields, script: script{raw: "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\nhello" + second, close: true}, want: got{status: 101, tunnel: "hello" + second}},

	{name: "an answer before the request", fields: "Content-Length: 10\r\n", script: script{raw: "HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabc", early: true, stay: true}, want: passes("abc")},
	{name: "an answer before the request, and the end", fields: "Content-Length: 10\r\n", script: script{raw: "HTTP/1.1 413 Too Large\r\nContent-Length: 3\r\nConnection: close\r\n\r\nabc", early: true, stay: true}, want: got{status: 413, body: "abc"}},
	{name: "an answer that says close", script: script{raw: "HTTP/1.1 200 OK\r\nContent-Length: 3\r\nConnection: close\r\n\r\nabc", stay: true}, want: passes("abc")},
	{name: "what Connection lists in an answer is dropped", script: ok("Connection: x-secret\r\nX-Secret: 1\r\nContent-Length: 0\r\n\r\n"), want: got{status: 200, lacks: []string{"X-Secret"}, kept: true}},
	{name: "fields of the mesh's own in an answer are dropped", script: ok("heddle-undelivered: 1\r\nHeddle_Reason: x\r\nHeddle-Reason: denied\r\nContent-Length: 0\r\n\r\n"), want: got{status: 200, lacks: []string{"heddle-undelivered", "heddle_reason", "heddle-reason"}, kept: true}},
	{name: "an answer that offers upgrades", script: ok("Upgrade: h2c\r\nConnection: Upgrade\r\nContent-Length: 0\r\n\r\n"), want: got{status: 200, lacks: []string{"Upgrade"}, kept: true}},
}

func TestAnswers(t *testing.T) {
	for _, alone := range []bool{false, true} {
		name := map[bool]string{false: "through the pair", true: "client side alone"}[alone]
		t.Run(name, func(t *testing.T) {
			b := newClientBench(t, alone)
			for i := range answers {
				t.Run(answers[i].name, func(t *testing.T) { b.ask(t, &answers[i], fmt.Sprintf("/evil/%d", i)) })
			}
		})
	}
}

// newClientBench has the client-side proxy as its way in, alone or with the server-side one behind it.
func newClientBench(tb testing.TB, alone bool) *bench {
	tb.Helper()
	b := &bench{origin: newOrigin(tb)}
	p := pair.New(tb, b.origin.address, pair.Options{Protocol: meshconfig.Protocol_PROTOCOL_HTTP1, Alone: alone})
	b.dial = func(tb testing.TB) net.Conn {
		tb.Helper()
		c, err := net.Dial("tcp", p.Client.String())
		if err != nil {
			tb.Fatal(err)
		}
		c.SetDeadline(time.Now().Add(patience))
		return c
	}
	return b
}

// ask sends a request that is answered by a script, and canaries behind it.
func (b *bench) ask(t *testing.T, a *answer, target string) {
	t.Helper()
	b.origin.take()
	b.origin.script(target, a.script)
	method, content := a.method, ""
	if method == "" {
		method = "POST"
	}
	if a.fields == "" && method == "POST" {
		a.fields = "Content-Length: 0\r\n"
	}
	if strings.Contains(a.fields, "Content-Length: 10") {
		content = "01234" // and no more
	}
	c := b.dial(t)
	defer c.Close()
	io.WriteString(c, method+" "+target+" HTTP/1.1\r\nHost: cart\r\n"+a.fields+"\r\n"+content)
	r := bufio.NewReader(c)
	if a.script.rest != "" {
		awaitFirst(t, r)
		b.origin.more <- struct{}{}
	}
	m, interim, err := readAnswer(r, method)
	a.want.check(t, m, interim, err)
	canaries := 1
	switch {
	case a.want.tunnel != "":
		rest, _ := io.ReadAll(r)
		if string(rest) != a.want.tunnel {
			t.Errorf("behind 101 came %q", rest)
		}
	case a.want.cut, strings.EqualFold(m.value("Connection"), "close"):
		mustEnd(t, r)
	default:
		request, body, _ := b.canary()
		io.WriteString(c, request)
		mustAnswer(t, r, "the canary behind it", "GET", body)
		canaries++
	}
	b.another(t)

	evil := 0
	arrived := b.origin.take()
	for _, next := range arrived {
		switch {
		case next.breach != nil:
			t.Errorf("the origin got what is no request: %v", next.breach)
		case strings.Contains(next.request.start, target+" "):
			evil = next.conn
		case strings.Contains(next.request.start, "/canary/"):
			canaries--
		default:
			t.Errorf("the origin got %v", next.request)
		}
	}
	for _, next := range arrived {
		if next.conn == evil && next.request != nil && strings.Contains(next.request.start, "/canary/") && !a.want.kept {
			t.Errorf("the connection on which that was answered was used again: %v", next.request)
		}
	}
	if canaries != 0 {
		t.Errorf("%d canaries have not arrived", canaries)
	}
}

// awaitFirst waits until the head of an answer is here, and three bytes of content behind it.
func awaitFirst(t *testing.T, r *bufio.Reader) {
	t.Helper()
	for n := 1; ; n++ {
		b, err := r.Peek(n)
		if err != nil {
			t.Fatalf("the answer did not begin: %v", err)
		}
		if _, content, ok := strings.Cut(string(b), "\r\n\r\n"); ok && strings.Contains(content, "abc") {
			return
		}
	}
}

// check compares what the caller got.
func (g *got) check(t *testing.T, m *message, interim int, err error) {
	t.Helper()
	if g.cut {
		if m == nil || m.status() != g.status || err == nil || errors.Is(err, errBreach) {
			t.Fatalf("it was answered %v, %v, want %d that breaks off", m, err, g.status)
		}
		return
	}
	if err != nil {
		t.Fatalf("no answer: %v", err)
	}
	if m.status() != g.status || g.status == 502 && !strings.HasPrefix(m.body, g.body) || g.status != 502 && m.body != g.body {
		t.Errorf("it was answered %v, want %d %q", m, g.status, g.body)
	}
	if g.interim >= 0 && interim != g.interim {
		t.Errorf("%d interim answers, want %d", interim, g.interim)
	}
	at := 0
	for _, line := range m.fields {
		if at < len(g.fields) && line == g.fields[at] {
			at++
		}
	}
	if at < len(g.fields) {
		t.Errorf("the answer's fields are %q, want %q", m.fields, g.fields)
	}
	for _, name := range g.lacks {
		if m.count(name) > 0 {
			t.Errorf("the answer has %s: %q", name, m.fields)
		}
	}
}
