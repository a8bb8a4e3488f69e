// SPDX-License-Identifier: Apache-2.0

package http1

import (
	"errors"
	"net"
	"strconv"
	"strings"
	"testing"

	"github.com/heddle-mesh/heddle/proxy/internal/testconn"
	"github.com/heddle-mesh/heddle/proxy/message"
)

// written writes a message and returns what left.
func written(t *testing.T, write func(*Conn, *message.Head) error, h *message.Head, content string, trailer []field) string {
	t.Helper()
	m := &memory{}
	c := New(m, &defaults, nil)
	if err := write(c, h); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Write([]byte(content)); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(c.End(trailer), c.Flush()); err != nil {
		t.Fatal(err)
	}
	if m.writes > 1 {
		t.Errorf("%d writes, want one", m.writes)
	}
	return string(m.out)
}

func TestWriteRequest(t *testing.T) {
	for name, c := range map[string]struct {
		head    message.Head
		content string
		trailer []field
		want    string
	}{
		"a GET": {
			head: message.Head{Method: "GET", Authority: "b", Path: "/x?y", Fields: []field{{Name: "x-b", Value: "1"}, {Name: "HOST", Value: "a"}, {Name: "X-a", Value: ""}}},
			want: "GET /x?y HTTP/1.1\nx-b: 1\nHOST: b\nX-a: \n\n",
		},
		"Host comes first where there is none": {
			head: message.Head{Method: "GET", Authority: "b", Path: "/", Fields: []field{{Name: "A", Value: "1"}}},
			want: "GET / HTTP/1.1\nHost: b\nA: 1\n\n",
		},
		"a length stays in its place, as a number": {
			head:    message.Head{Method: "POST", Authority: "a", Path: "/", Length: 3, Fields: []field{hostA, {Name: "content-length", Value: "003"}, {Name: "A", Value: "1"}}},
			content: "abc",
			want:    "POST / HTTP/1.1\nHost: a\ncontent-length: 3\nA: 1\n\nabc",
		},
		"a length that no field tells": {
			head: message.Head{Method: "POST", Authority: "a", Path: "/", Length: 3, Fields: []field{hostA}}, content: "abc",
			want: "POST / HTTP/1.1\nHost: a\nContent-Length: 3\n\nabc",
		},
		"a length that was taken away for chunks": {
			head: message.Head{Method: "POST", Authority: "a", Path: "/", Length: -1, Fields: []field{hostA, {Name: "Content-Length", Value: "3"}}}, content: "abc",
			trailer: []field{{Name: "X", Value: "y"}},
			want:    "POST / HTTP/1.1\nHost: a\nTransfer-Encoding: chunked\n\n3\nabc\n0\nX: y\n\n",
		},
		"a second length": {
			head: message.Head{Method: "POST", Authority: "a", Path: "/", Length: 0, Fields: []field{hostA, {Name: "Content-Length", Value: "0"}, {Name: "Content-Length", Value: "1"}}},
			want: "POST / HTTP/1.1\nHost: a\nContent-Length: 0\n\n",
		},
		"what concerns the connection is ours": {
			head: message.Head{Method: "GET", Authority: "a", Path: "/", Close: true, Fields: []field{
				hostA,
				{Name: "Connection", Value: "keep-alive"},
				{Name: "keep-alive", Value: "1"},
				{Name: "Proxy-Connection", Value: "1"},
				{Name: "transfer-encoding", Value: "chunked"},
				{Name: "Upgrade", Value: "h2c"},
				{Name: "Keep-Alives", Value: "1"},
			}},
			want: "GET / HTTP/1.1\nHost: a\nKeep-Alives: 1\nConnection: close\n\n",
		},
		"an upgrade": {
			head: message.Head{Method: "GET", Authority: "a", Path: "/", Upgrade: "websocket", Fields: []field{hostA}},
			want: "GET / HTTP/1.1\nHost: a\nConnection: Upgrade\nUpgrade: websocket\n\n",
		},
		"TE is listed": {
			head: message.Head{Method: "GET", Authority: "a", Path: "/", Fields: []field{hostA, {Name: "te", Value: "trailers"}}},
			want: "GET / HTTP/1.1\nHost: a\nte: trailers\nConnection: TE\n\n",
		},
		"the absolute form": {
			head: message.Head{Method: "GET", Scheme: "http", Authority: "b:1", Path: "/x?y", Fields: []field{hostA}},
			want: "GET http://b:1/x?y HTTP/1.1\nHost: b:1\n\n",
		},
		"the absolute form of OPTIONS *": {
			head: message.Head{Method: "OPTIONS", Scheme: "https", Authority: "b", Path: "*", Fields: []field{hostA}},
			want: "OPTIONS https://b HTTP/1.1\nHost: b\n\n",
		},
		"CONNECT": {
			head: message.Head{Method: "CONNECT", Authority: "a:1", Fields: []field{hostA}},
			want: "CONNECT a:1 HTTP/1.1\nHost: a:1\n\n",
		},
		"OPTIONS *": {
			head: message.Head{Method: "OPTIONS", Authority: "a", Path: "*", Fields: []field{hostA}},
			want: "OPTIONS * HTTP/1.1\nHost: a\n\n",
		},
	} {
		t.Run(name, func(t *testing.T) {
			if got := written(t, (*Conn).WriteRequest, &c.head, c.content, c.trailer); got != crlf(c.want) {
				t.Errorf("got  %q\nwant %q", got, crlf(c.want))
			}
		})
	}
}

// TestWriteResponse writes answers to requests that were read.
func TestWriteResponse(t *testing.T) {
	const (
		plain  = "GET / HTTP/1.1\nHost: a\n\n"
		old    = "GET / HTTP/1.0\n\n"
		stays  = "GET / HTTP/1.0\nConnection: keep-alive\n\n"
		closes = "GET / HTTP/1.1\nHost: a\nConnection: close\n\n"
		toHead = "HEAD / HTTP/1.1\nHost: a\n\n"
	)
	length := func(n string) []field { return []field{{Name: "Content-length", Value: n}} }
	for name, c := range map[string]struct {
		request  string
		head     message.Head
		content  string
		trailer  []field
		want     string
		reusable bool
	}{
		"content by length":                    {plain, message.Head{Status: 200, Length: 2, Fields: length("2")}, "ab", nil, "HTTP/1.1 200 OK\nContent-length: 2\n\nab", true},
		"a length that no field tells":         {plain, message.Head{Status: 200, Length: 2}, "ab", nil, "HTTP/1.1 200 OK\nContent-Length: 2\n\nab", true},
		"no content":                           {plain, message.Head{Status: 404}, "", nil, "HTTP/1.1 404 Not Found\nContent-Length: 0\n\n", true},
		"a status without a name":              {plain, message.Head{Status: 599}, "", nil, "HTTP/1.1 599 \nContent-Length: 0\n\n", true},
		"chunks":                               {plain, message.Head{Status: 200, Length: -1}, "ab", []field{{Name: "X", Value: "y"}}, "HTTP/1.1 200 OK\nTransfer-Encoding: chunked\n\n2\nab\n0\nX: y\n\n", true},
		"HTTP/1.0 knows no chunks":             {stays, message.Head{Status: 200, Length: -1}, "ab", []field{{Name: "X", Value: "y"}}, "HTTP/1.1 200 OK\nConnection: close\n\nab", false},
		"HTTP/1.0":                             {old, message.Head{Status: 200, Length: 2}, "ab", nil, "HTTP/1.1 200 OK\nContent-Length: 2\nConnection: close\n\nab", false},
		"HTTP/1.0 that stays":                  {stays, message.Head{Status: 200, Length: 2}, "ab", nil, "HTTP/1.1 200 OK\nContent-Length: 2\nConnection: keep-alive\n\nab", true},
		"the request says close":               {closes, message.Head{Status: 200, Length: 2}, "ab", nil, "HTTP/1.1 200 OK\nContent-Length: 2\nConnection: close\n\nab", false},
		"the answer says close":                {plain, message.Head{Status: 200, Length: 2, Close: true}, "ab", nil, "HTTP/1.1 200 OK\nContent-Length: 2\nConnection: close\n\nab", false},
		"to HEAD the length stays":             {toHead, message.Head{Status: 200, Fields: length("5")}, "", nil, "HTTP/1.1 200 OK\nContent-length: 5\n\n", true},
		"to HEAD the length loses zeros":       {toHead, message.Head{Status: 200, Fields: length("0010")}, "", nil, "HTTP/1.1 200 OK\nContent-length: 10\n\n", true},
		"to HEAD content is dropped":           {toHead, message.Head{Status: 403, Length: 2}, "no", nil, "HTTP/1.1 403 Forbidden\nContent-Length: 2\n\n", true},
		"to HEAD nobody knows the length":      {toHead, message.Head{Status: 200, Length: -1}, "ab", nil, "HTTP/1.1 200 OK\n\n", true},
		"204 has no length":                    {plain, message.Head{Status: 204, Fields: length("0")}, "", nil, "HTTP/1.1 204 No Content\n\n", true},
		"304 has the length that it would be":  {plain, message.Head{Status: 304, Fields: length("5")}, "", nil, "HTTP/1.1 304 Not Modified\nContent-length: 5\n\n", true},
		"101":                                  {plain, message.Head{Status: 101, Upgrade: "websocket"}, "", nil, "HTTP/1.1 101 Switching Protocols\nConnection: Upgrade\nUpgrade: websocket\n\n", false},
		"426 upgrades and closes":              {closes, message.Head{Status: 426, Upgrade: "foo"}, "", nil, "HTTP/1.1 426 Upgrade Required\nContent-Length: 0\nConnection: close, Upgrade\nUpgrade: foo\n\n", false},
		"what concerns the connection is ours": {plain, message.Head{Status: 204, Fields: []field{{Name: "Connection", Value: "close"}, {Name: "Keep-Alive", Value: "5"}, {Name: "Upgrade", Value: "h2c"}}}, "", nil, "HTTP/1.1 204 No Content\n\n", true},
	} {
		t.Run(name, func(t *testing.T) {
			m := &memory{in: []byte(crlf(c.request))}
			conn := New(m, &defaults, nil)
			if _, err := readRequest(conn); err != nil {
				t.Fatal(err)
			}
			if conn.Reusable() {
				t.Error("the connection counts as reusable before the answer")
			}
			_, err := conn.Write(nil)
			if err = errors.Join(err, conn.WriteResponse(&c.head)); err != nil {
				t.Fatal(err)
			}
			_, err = conn.Write([]byte(c.content))
			if err = errors.Join(err, conn.End(c.trailer), conn.Flush()); err != nil {
				t.Fatal(err)
			}
			if got := string(m.out); got != crlf(c.want) {
				t.Errorf("got  %q\nwant %q", got, crlf(c.want))
			}
			if got := conn.Reusable(); got != c.reusable {
				t.Errorf("reusable is %v, want %v", got, c.reusable)
			}
		})
	}
}

func TestWriteInterim(t *testing.T) {
	for request, want := range map[string]string{
		"GET / HTTP/1.1\nHost: a\n\n":                "HTTP/1.1 103 Early Hints\nLink: <a>\n\nHTTP/1.1 100 Continue\n\nHTTP/1.1 204 No Content\n\n",
		"GET / HTTP/1.0\nConnection: keep-alive\n\n": "HTTP/1.1 204 No Content\nConnection: keep-alive\n\n",
	} {
		m := &memory{in: []byte(crlf(request))}
		c := New(m, &defaults, nil)
		_, err := readRequest(c)
		err = errors.Join(err, c.WriteInterim(&message.Head{Status: 103, Fields: []field{{Name: "Link", Value: "<a>"}, {Name: "Connection", Value: "x"}}}),
			c.WriteInterim(&message.Head{Status: 100}), c.Flush())
		if c.Reusable() {
			t.Error("the connection counts as reusable before the answer")
		}
		if err = errors.Join(err, c.WriteResponse(&message.Head{Status: 204}), c.End(nil), c.Flush()); err != nil {
			t.Error(err)
		}
		if got := string(m.out); got != crlf(want) {
			t.Errorf("got %q, want %q", got, crlf(want))
		}
	}
}

// TestNothingIsWrittenThatWouldBeTwo gives writers what no reader lets through.
func TestNothingIsWrittenThatWouldBeTwo(t *testing.T) {
	request := func(change func(*message.Head)) *message.Head {
		h := &message.Head{Method: "GET", Authority: "a", Path: "/"}
		change(h)
		return h
	}
	for name, h := range map[string]*message.Head{
		"a method with a space":              request(func(h *message.Head) { h.Method = "GET /" }),
		"no method":                          request(func(h *message.Head) { h.Method = "" }),
		"a path with a space":                request(func(h *message.Head) { h.Path = "/ HTTP/1.1" }),
		"a path with a line":                 request(func(h *message.Head) { h.Path = "/\r\n" }),
		"a scheme without an authority":      request(func(h *message.Head) { h.Scheme, h.Authority = "http", "" }),
		"a scheme of two words":              request(func(h *message.Head) { h.Scheme = "a b" }),
		"no path":                            request(func(h *message.Head) { h.Path = "" }),
		"an asterisk with GET":               request(func(h *message.Head) { h.Path = "*" }),
		"an authority with a line":           request(func(h *message.Head) { h.Authority = "a\r\nX: y" }),
		"an authority with a space":          request(func(h *message.Head) { h.Authority = "a b" }),
		"CONNECT to two words":               request(func(h *message.Head) { h.Method, h.Authority = "CONNECT", "a b" }),
		"CONNECT to nothing":                 request(func(h *message.Head) { h.Method, h.Authority = "CONNECT", "" }),
		"a value with a line":                request(func(h *message.Head) { h.Add("A", "b\r\nX: y") }),
		"a value with LF":                    request(func(h *message.Head) { h.Add("A", "b\nX: y") }),
		"a name with a line":                 request(func(h *message.Head) { h.Add("A: b\r\nX", "y") }),
		"no name":                            request(func(h *message.Head) { h.Add("", "y") }),
		"an upgrade with a line":             request(func(h *message.Head) { h.Upgrade = "a\r\n" }),
		"a length that cannot be":            request(func(h *message.Head) { h.Length = -2 }),
		"an answer of 99":                    {Status: 99},
		"an answer of 1000":                  {Status: 1000},
		"a final answer of 100":              {Status: 100},
		"an answer with a value with a line": {Status: 200, Fields: []field{{Name: "A", Value: "\n"}}},
	} {
		t.Run(name, func(t *testing.T) {
			m := &memory{}
			c := New(m, &defaults, nil)
			write := c.WriteRequest
			if h.Status != 0 {
				write = c.WriteResponse
			}
			if err := write(h); !errors.Is(err, ErrField) {
				t.Errorf("got %v", err)
			}
			if err := c.Flush(); err != nil || len(m.out) > 0 {
				t.Errorf("%q was written, %v", m.out, err)
			}
		})
	}
	for name, f := range map[string]field{
		"a trailer that frames":      {Name: "content-length", Value: "1"},
		"a trailer with a line":      {Name: "A", Value: "\r\n"},
		"a trailer with a bad name":  {Name: "A B", Value: ""},
		"a trailer without any name": {},
	} {
		t.Run(name, func(t *testing.T) {
			c := New(&memory{}, &defaults, nil)
			if err := c.WriteResponse(&message.Head{Status: 200, Length: -1}); err != nil {
				t.Fatal(err)
			}
			if err := c.End([]field{f}); !errors.Is(err, ErrField) || c.Reusable() {
				t.Errorf("got %v", err)
			}
		})
	}
}

// TestContentKeepsItsLength breaks promises about content.
func TestContentKeepsItsLength(t *testing.T) {
	start := func(length int64) *Conn {
		c := New(&memory{}, &defaults, nil)
		if err := c.WriteResponse(&message.Head{Status: 200, Length: length}); err != nil {
			t.Fatal(err)
		}
		return c
	}
	c := start(3)
	if _, err := c.Write([]byte("abcd")); !errors.Is(err, ErrLength) || c.Reusable() {
		t.Errorf("too much at once: %v", err)
	}
	c = start(3)
	_, _ = c.Write([]byte("abc"))
	if _, err := c.Write([]byte("d")); !errors.Is(err, ErrLength) || c.Reusable() {
		t.Errorf("too much in the end: %v", err)
	}
	c = start(3)
	_, _ = c.Write([]byte("ab"))
	if err := c.End(nil); !errors.Is(err, ErrLength) || c.Reusable() {
		t.Errorf("too little: %v", err)
	}
	c = start(-1)
	if c.Reusable() {
		t.Error("reusable before the end of chunks")
	}
	if err := c.End(nil); err != nil || !c.Reusable() {
		t.Errorf("at the end of chunks: %v", err)
	}
	if _, err := c.Write([]byte("a")); !errors.Is(err, ErrLength) {
		t.Errorf("behind the end of chunks: %v", err)
	}
}

// TestLargeContent writes content of many sizes to every kind of connection and reads it again.
func TestLargeContent(t *testing.T) {
	for _, kind := range []string{"memory", "tcp", "wrapped"} {
		for _, length := range []int64{0, message.Unknown} {
			for _, size := range []int{1, 100, 8<<10 - 100, 8<<10 - 20, 8 << 10, 9 << 10, 16 << 10, 40 << 10, 1 << 20} {
				name := kind + " " + strconv.Itoa(size) + " " + strconv.FormatInt(length, 10)
				t.Run(name, func(t *testing.T) { writeLarge(t, kind, length, size) })
			}
		}
	}
}

func writeLarge(t *testing.T, kind string, length int64, size int) {
	t.Helper()
	pieces := []string{strings.Repeat("a", size), "b", strings.Repeat("c", size), "d"}
	whole := strings.Join(pieces, "")
	if length == 0 {
		length = int64(len(whole))
	}
	m := &memory{}
	var to, from net.Conn = m, m
	if kind != "memory" {
		to, from = testconn.TCP(t)
	}
	if kind == "wrapped" {
		to = &reading{Conn: to}
	}
	got := make(chan told, 1)
	read := func() {
		answer, err := readResponse(New(from, &defaults, nil), get)
		if err != nil {
			t.Error(err)
		}
		got <- answer
	}
	if kind != "memory" {
		go read()
	}
	c := New(to, &defaults, nil)
	err := c.WriteResponse(&message.Head{Status: 200, Length: length})
	for _, piece := range pieces {
		_, werr := c.Write([]byte(piece))
		err = errors.Join(err, werr)
	}
	if err = errors.Join(err, c.End(nil), c.Flush()); err != nil {
		t.Fatal(err)
	}
	if kind == "memory" {
		m.in = m.out
		read()
	}
	if answer := <-got; answer.content != whole || !c.Reusable() || c.out.buf != nil {
		t.Errorf("%d bytes arrived of %d", len(answer.content), len(whole))
	}
}

// TestRecall takes an answer back as long as nothing of it was sent.
func TestRecall(t *testing.T) {
	m := &memory{in: []byte("GET / HTTP/1.1\r\nHost: a\r\n\r\n")}
	c := New(m, &defaults, nil)
	if _, err := readRequest(c); err != nil {
		t.Fatal(err)
	}
	before := c.Written()
	err := c.WriteResponse(&message.Head{Status: 200, Length: 5})
	_, werr := c.Write([]byte("abc"))
	if err = errors.Join(err, werr); err != nil || !c.Recall(before) || c.Reusable() {
		t.Fatalf("it was not taken back, %v", err)
	}
	if err := errors.Join(c.WriteResponse(&message.Head{Status: 502}), c.End(nil), c.Flush()); err != nil || !c.Reusable() {
		t.Fatalf("another one: %v", err)
	}
	if want := "HTTP/1.1 502 Bad Gateway\r\nContent-Length: 0\r\n\r\n"; string(m.out) != want || c.Recall(before) {
		t.Errorf("got %q, want %q, for good", m.out, want)
	}
}

// Towards what is no TCP a message leaves in as few writes as buffers allow.
func TestContentLeavesWithItsHead(t *testing.T) {
	for size, want := range map[int]int{100: 1, 16 << 10: 1, 60 << 10: 1, 64 << 10: 2, 150 << 10: 3} {
		for _, length := range []int64{int64(size), message.Unknown} {
			below := &memory{}
			c := New(below, &defaults, nil)
			if err := c.WriteResponse(&message.Head{Status: 200, Length: length}); err != nil {
				t.Fatal(err)
			}
			if n, err := c.Write(make([]byte, size)); n != size || err != nil {
				t.Fatalf("wrote %d, %v", n, err)
			}
			if err := errors.Join(c.End(nil), c.Flush()); err != nil || below.writes != want {
				t.Errorf("%d bytes left in %d writes, %v", size, below.writes, err)
			}
		}
	}
}
