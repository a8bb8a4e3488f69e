// SPDX-License-Identifier: Apache-2.0

package http1

import (
	"bytes"
	"errors"
	"io"
	"reflect"
	"strconv"
	"strings"
	"testing"

	"github.com/heddle-mesh/heddle/internal/limits"
	"github.com/heddle-mesh/heddle/proxy/message"
)

type field = message.Field

var hostA = field{Name: "Host", Value: "a"}

// TestRequests reads what is allowed, whole and in pieces.
func TestRequests(t *testing.T) {
	for name, c := range map[string]struct {
		request string
		want    told
	}{
		"a GET": {
			"GET /a/b?c=d&e HTTP/1.1\nHost: a\n\n",
			told{head: message.Head{Method: "GET", Authority: "a", Path: "/a/b?c=d&e", Fields: []field{hostA}}},
		},
		"fields keep case, order and repetition": {
			"GET / HTTP/1.1\nx-B: 1\nHost: a\nX-a:2\nx-B:\t3 \t\nEmpty:\n\n",
			told{head: message.Head{Method: "GET", Authority: "a", Path: "/", Fields: []field{
				{Name: "x-B", Value: "1"}, hostA, {Name: "X-a", Value: "2"}, {Name: "x-B", Value: "3"}, {Name: "Empty"},
			}}},
		},
		"a value may have tabs and bytes beyond ASCII": {
			"GET / HTTP/1.1\nHost: a\nX: caf\xe9\tand \xc3\xa9 ; \"quoted\"\n\n",
			told{head: message.Head{Method: "GET", Authority: "a", Path: "/", Fields: []field{hostA, {Name: "X", Value: "caf\xe9\tand \xc3\xa9 ; \"quoted\""}}}},
		},
		"a method nobody knows": {
			"M-SEARCH /~a!$&'()*+,;=:@%20[]{}|\\^\"<> HTTP/1.1\nHost: a\n\n",
			told{head: message.Head{Method: "M-SEARCH", Authority: "a", Path: "/~a!$&'()*+,;=:@%20[]{}|\\^\"<>", Fields: []field{hostA}}},
		},
		"content by length": {
			"POST / HTTP/1.1\nHost: a\nContent-Length: 005\n\nabcde",
			told{
				head:    message.Head{Method: "POST", Authority: "a", Path: "/", Length: 5, Fields: []field{hostA, {Name: "Content-Length", Value: "005"}}},
				content: "abcde",
			},
		},
		"content in chunks, with extensions and trailers": {
			"POST / HTTP/1.1\nHost: a\nTransfer-Encoding: Chunked\nTrailer: X\n\n3;a;b=c;d=\"e \\\" ;\"\nabc\n0002\nde\n0;last\nX: 1\nY: 2\n\n",
			told{
				head:    message.Head{Method: "POST", Authority: "a", Path: "/", Length: -1, Fields: []field{hostA, {Name: "Trailer", Value: "X"}}},
				content: "abcde", trailer: []field{{Name: "X", Value: "1"}, {Name: "Y", Value: "2"}},
			},
		},
		"as many extensions as may be": {
			"POST / HTTP/1.1\nHost: a\nTransfer-Encoding: chunked\n\n" + strings.Repeat("1;"+strings.Repeat("a", 1000)+"\na\n", 16) + "0\n\n",
			told{head: message.Head{Method: "POST", Authority: "a", Path: "/", Length: -1, Fields: []field{hostA}}, content: strings.Repeat("a", 16)},
		},
		"close": {
			"GET / HTTP/1.1\nHost: a\nConnection: x, Close\n\n",
			told{head: message.Head{Method: "GET", Authority: "a", Path: "/", Close: true, Fields: []field{hostA, {Name: "Connection", Value: "x, Close"}}}},
		},
		"HTTP/1.0 without Host": {
			"GET / HTTP/1.0\n\n",
			told{head: message.Head{Method: "GET", Path: "/", HTTP10: true, Close: true}},
		},
		"HTTP/1.0 that stays": {
			"GET / HTTP/1.0\nConnection: Keep-Alive\n\n",
			told{head: message.Head{Method: "GET", Path: "/", HTTP10: true, Fields: []field{{Name: "Connection", Value: "Keep-Alive"}}}},
		},
		"HTTP/1.0 cannot upgrade nor expect": {
			"POST / HTTP/1.0\nConnection: upgrade\nUpgrade: websocket\nExpect: 100-continue\nContent-Length: 1\n\na",
			told{
				head: message.Head{Method: "POST", Path: "/", HTTP10: true, Close: true, Length: 1, Fields: []field{
					{Name: "Connection", Value: "upgrade"}, {Name: "Upgrade", Value: "websocket"}, {Name: "Content-Length", Value: "1"},
				}},
				content: "a",
			},
		},
		"the absolute form": {
			"GET http://A.example:8080/b?c HTTP/1.1\nHost: a.Example:8080\n\n",
			told{head: message.Head{Method: "GET", Scheme: "http", Authority: "A.example:8080", Path: "/b?c", Fields: []field{{Name: "Host", Value: "a.Example:8080"}}}},
		},
		"the absolute form without Host in HTTP/1.0": {
			"GET HTTPS://a HTTP/1.0\n\n",
			told{head: message.Head{Method: "GET", Scheme: "https", Authority: "a", Path: "/", HTTP10: true, Close: true}},
		},
		"the absolute form with a query alone": {
			"GET http://a?b HTTP/1.1\nHost: a\n\n",
			told{head: message.Head{Method: "GET", Scheme: "http", Authority: "a", Path: "/?b", Fields: []field{hostA}}},
		},
		"the absolute form of OPTIONS *": {
			"OPTIONS http://a HTTP/1.1\nHost: a\n\n",
			told{head: message.Head{Method: "OPTIONS", Scheme: "http", Authority: "a", Path: "*", Fields: []field{hostA}}},
		},
		"OPTIONS *": {
			"OPTIONS * HTTP/1.1\nHost: a\n\n",
			told{head: message.Head{Method: "OPTIONS", Authority: "a", Path: "*", Fields: []field{hostA}}},
		},
		"CONNECT, with a Host without port": {
			"CONNECT a:443 HTTP/1.1\nHost: a\n\n",
			told{head: message.Head{Method: "CONNECT", Authority: "a:443", Fields: []field{hostA}}},
		},
		"an address for Host": {
			"GET / HTTP/1.1\nHost: [2001:db8::1]:80\n\n",
			told{head: message.Head{Method: "GET", Authority: "[2001:db8::1]:80", Path: "/", Fields: []field{{Name: "Host", Value: "[2001:db8::1]:80"}}}},
		},
		"an upgrade": {
			"GET / HTTP/1.1\nHost: a\nConnection: keep-alive, Upgrade\nUpgrade: websocket, foo/2\n\n",
			told{head: message.Head{Method: "GET", Authority: "a", Path: "/", Upgrade: "websocket, foo/2", Fields: []field{
				hostA, {Name: "Connection", Value: "keep-alive, Upgrade"}, {Name: "Upgrade", Value: "websocket, foo/2"},
			}}},
		},
		"an upgrade to HTTP/2 is none": {
			"GET / HTTP/1.1\nHost: a\nConnection: Upgrade\nUpgrade: h2c\n\n",
			told{head: message.Head{Method: "GET", Authority: "a", Path: "/", Fields: []field{hostA, {Name: "Connection", Value: "Upgrade"}, {Name: "Upgrade", Value: "h2c"}}}},
		},
		"an upgrade to another HTTP is none": {
			"GET / HTTP/1.1\nHost: a\nConnection: Upgrade\nUpgrade: HTTP/2.0\n\n",
			told{head: message.Head{Method: "GET", Authority: "a", Path: "/", Fields: []field{hostA, {Name: "Connection", Value: "Upgrade"}, {Name: "Upgrade", Value: "HTTP/2.0"}}}},
		},
		"an upgrade that Connection does not list is none": {
			"GET / HTTP/1.1\nHost: a\nUpgrade: websocket\n\n",
			told{head: message.Head{Method: "GET", Authority: "a", Path: "/", Fields: []field{hostA, {Name: "Upgrade", Value: "websocket"}}}},
		},
		"an expectation": {
			"POST / HTTP/1.1\nHost: a\nExpect: 100-Continue\nContent-Length: 1\n\na",
			told{
				head: message.Head{Method: "POST", Authority: "a", Path: "/", Length: 1, Expect: true, Fields: []field{
					hostA, {Name: "Expect", Value: "100-Continue"}, {Name: "Content-Length", Value: "1"},
				}},
				content: "a",
			},
		},
		"an expectation of nothing is none": {
			"POST / HTTP/1.1\nHost: a\nExpect: 100-continue\n\n",
			told{head: message.Head{Method: "POST", Authority: "a", Path: "/", Fields: []field{hostA, {Name: "Expect", Value: "100-continue"}}}},
		},
	} {
		for _, piece := range []int{0, 1, 3} {
			t.Run(name+" in pieces of "+strconv.Itoa(piece), func(t *testing.T) {
				raw := strings.ReplaceAll(c.request, "\n", "\r\n")
				conn := New(&memory{in: []byte(raw + canary), piece: piece}, &defaults, nil)
				got, err := readRequest(conn)
				if err != nil {
					t.Fatal(err)
				}
				if !reflect.DeepEqual(got, c.want) {
					t.Errorf("got  %+v\nwant %+v", got, c.want)
				}
				if next, err := readRequest(conn); err != nil || next.head.Path != "/canary" {
					t.Errorf("behind it came %+v, %v", next, err)
				}
			})
		}
	}
}

// TestPipelinedRequests reads requests that were sent at once in order, and ends the connection at the limit.
func TestPipelinedRequests(t *testing.T) {
	const sent = 12
	set := limits.Set{Pipelined: 10}.WithDefaults()
	var count counted
	m := &memory{in: []byte(strings.Repeat(browserRequest+after("Content-Length: 3\r\n\r\nabc"), sent/2))}
	c := New(m, &set, &count)
	var h message.Head
	for i := range sent {
		if err := c.Wait(past); err != nil {
			t.Fatal(err)
		}
		if err := c.ReadRequest(&h); err != nil {
			t.Fatal(err)
		}
		if got := h.Length == 3; got != (i%2 == 1) {
			t.Fatalf("request %d is %s", i, h.Method)
		}
		body, _, err := content(c)
		if err != nil || h.Length == 3 && body != "abc" {
			t.Fatalf("request %d has %q, %v", i, body, err)
		}
		if err := errors.Join(c.WriteResponse(&message.Head{Status: 204}), c.End(nil)); err != nil {
			t.Fatal(err)
		}
		if got := c.Reusable(); got != (i <= 10) {
			t.Fatalf("behind request %d, reusable is %v", i, got)
		}
	}
	if err := c.Flush(); err != nil || m.writes != 1 {
		t.Errorf("%d writes, %v; want all answers in one", m.writes, err)
	}
	if count.of[limits.Pipelined] == 0 {
		t.Error("the limit was not counted")
	}
	if n := strings.Count(string(m.out), "Connection: close"); n != 1 {
		t.Errorf("%d answers say close, want the last alone", n)
	}
	if err := c.Wait(past); !errors.Is(err, io.EOF) {
		t.Errorf("in the end: %v", err)
	}
}

// TestStringsLastAsLongAsTheExchange keeps the strings of a head while content of all lengths is read and written.
func TestStringsLastAsLongAsTheExchange(t *testing.T) {
	for _, padding := range []int{0, 2000, 3000, 3900, 4000, 7000, 19000, 60000, 100000} {
		for _, size := range []int{1, 5000, 25000, 100000} {
			pad := strings.Repeat("p", padding)
			head := "POST /path HTTP/1.1\r\nHost: a\r\nX-Pad: " + pad + "\r\n"
			for name, raw := range map[string]string{
				"length": head + "Content-Length: " + strconv.Itoa(size) + "\r\n\r\n" + strings.Repeat("x", size),
				"chunks": head + "Transfer-Encoding: chunked\r\n\r\n" + strings.Repeat("1\r\nx\r\n", size) + "0\r\nT: " + pad + "\r\n\r\n",
			} {
				c := New(&memory{in: []byte(raw + canary), piece: 3000}, &defaults, nil)
				var h message.Head
				if err := c.ReadRequest(&h); err != nil {
					t.Fatal(err)
				}
				body, trailer, err := content(c)
				if err != nil || body != strings.Repeat("x", size) {
					t.Fatalf("%s %d, %d: %d bytes of content, %v", name, padding, size, len(body), err)
				}
				if v, _ := h.Get("x-pad"); v != pad || h.Path != "/path" || h.Authority != "a" {
					t.Errorf("%s %d, %d: the head has changed", name, padding, size)
				}
				if name == "chunks" && (len(trailer) != 1 || trailer[0].Value != pad) {
					t.Errorf("%s %d, %d: the trailer is %.100v", name, padding, size, trailer)
				}
				if next, err := readRequest(c); err != nil || next.head.Path != "/canary" {
					t.Errorf("%s %d, %d: behind it came %+v, %v", name, padding, size, next, err)
				}
			}
		}
	}
}

// TestTheEndComesWithTheLastBytes lets a reader know at once that there is no more, where that is known.
func TestTheEndComesWithTheLastBytes(t *testing.T) {
	for name, raw := range map[string]string{
		"by length":                       after("Content-Length: 3\r\n\r\nabc"),
		"by length, large":                after("Content-Length: 100000\r\n\r\n" + strings.Repeat("x", 100000)),
		"in chunks":                       inChunks("3\r\nabc\r\n0\r\nX: y\r\n\r\n"),
		"in chunks, with another request": inChunks("3\r\nabc\r\n0\r\n\r\n" + canary),
	} {
		t.Run(name, func(t *testing.T) {
			c := New(&memory{in: []byte(raw)}, &defaults, nil)
			var h message.Head
			if err := c.ReadRequest(&h); err != nil {
				t.Fatal(err)
			}
			var p [64 << 10]byte
			for {
				n, err := c.Read(p[:])
				if n == 0 {
					t.Fatalf("the end comes by itself, %v", err)
				}
				if err != nil {
					if !errors.Is(err, io.EOF) {
						t.Error(err)
					}
					break
				}
			}
		})
	}
}

// TestTrailersLast keeps trailers while more is read behind them.
func TestTrailersLast(t *testing.T) {
	c := New(&memory{in: []byte(inChunks("1\r\na\r\n0\r\nX: y\r\n\r\n")), piece: 75}, &defaults, nil)
	if _, err := readRequest(c); err != nil {
		t.Fatal(err)
	}
	trailer := c.Trailer()
	c.in.err, c.net.(*memory).in = nil, bytes.Repeat([]byte("z"), 100)
	if err := c.Watch(); err != nil {
		t.Fatal(err)
	}
	if len(trailer) != 1 || trailer[0] != (field{Name: "X", Value: "y"}) {
		t.Errorf("the trailer is %q", trailer)
	}
}

// TestLargeHeadsAreTakenFromTheBudget refuses one where that has no more, and takes nothing for good.
func TestLargeHeadsAreTakenFromTheBudget(t *testing.T) {
	budget := limits.NewBudget(100 << 10)
	large := after("X: " + strings.Repeat("a", 50<<10) + "\r\nContent-Length: 3\r\n\r\nabc")
	var count counted
	read := func() (*Conn, error) {
		c := New(&memory{in: []byte(large + canary[:10])}, &defaults, &count)
		c.SetBudget(budget)
		_, err := readRequest(c)
		return c, err
	}
	first, err := read()
	if err != nil || budget.Held() == 0 {
		t.Fatalf("%v; %d bytes are held", err, budget.Held())
	}
	second, err := read()
	mustFail(t, err, 503)
	if count.of[limits.Memory] != 1 {
		t.Errorf("counted %v", count.of)
	}
	second.Free()
	first.Free()
	third, err := read()
	if err != nil {
		t.Error(err)
	}
	third.Free()
	if n := budget.Held(); n != 0 {
		t.Errorf("%d bytes are held in the end", n)
	}
}

// TestAReadAsksForMoreThanTheContent, so that the connection below knows whether there is more; what it gets behind the
// content is the next message's.
func TestAReadAsksForMoreThanTheContent(t *testing.T) {
	for _, size := range []int{1, 5000, 32<<10 - 1, 32 << 10, 32<<10 + 1, 64 << 10, 100000} {
		for _, behind := range []string{"", canary} {
			head := "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: " + strconv.Itoa(size) + "\r\n\r\n"
			m := &memory{in: []byte(head)}
			c := New(m, &defaults, nil)
			var h message.Head
			if err := c.ReadRequest(&h); err != nil {
				t.Fatal(err)
			}
			m.in, m.full = []byte(strings.Repeat("x", size)+behind), false
			var p [32 << 10]byte
			total := 0
			for {
				n, err := c.Read(p[:])
				total += n
				if err != nil {
					break
				}
			}
			if total != size || m.full && behind == "" || h.Path != "/" {
				t.Errorf("of %d bytes, %d came; the last read got all that it asked for: %v", size, total, m.full)
			}
			if behind == "" {
				continue
			}
			if got, err := readRequest(c); err != nil || got.head.Path != "/canary" {
				t.Errorf("behind %d bytes came %+v, %v", size, got, err)
			}
		}
	}
}
