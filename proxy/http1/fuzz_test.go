// SPDX-License-Identifier: Apache-2.0

package http1

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"net/http"
	"net/http/httputil"
	"net/url"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/heddle-mesh/heddle/proxy/message"
)

// FuzzReadRequest reads bytes as requests: in any pieces they mean the same, net/http agrees with what is allowed, and what
// is written of it is one request that means the same.
func FuzzReadRequest(f *testing.F) {
	for _, r := range refusedRequests {
		f.Add([]byte(r.request+canary), uint8(1))
	}
	for _, seed := range []string{
		browserRequest, after("Content-Length: 3\r\n\r\nabc"), inChunks("3;a=\"b\"\r\nabc\r\n0\r\nX: y\r\n\r\n"),
		"GET http://a:80/x?y HTTP/1.1\r\nHost: a:80\r\n\r\n", "CONNECT a:80 HTTP/1.1\r\nHost: a\r\n\r\n", "OPTIONS * HTTP/1.1\r\nHost: [::1]:1\r\n\r\n",
		"GET / HTTP/1.0\r\nConnection: keep-alive, x\r\nX: y\r\nTE: trailers;q=1, y\r\nTrailer: z\r\n\r\n",
		"GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade, host, content-length\r\nUpgrade: websocket\r\n\r\n",
	} {
		f.Add([]byte(seed+canary), uint8(0))
	}
	f.Fuzz(func(t *testing.T, raw []byte, piece uint8) {
		c := New(&memory{in: slices.Clone(raw)}, &defaults, nil)
		got, err := readRequest(c)
		behind := rest(c)
		inPieces := New(&memory{in: slices.Clone(raw), piece: int(piece)}, &defaults, nil)
		again, errAgain := readRequest(inPieces)
		if !sameOutcome(err, errAgain) || err == nil && (!reflect.DeepEqual(got, again) || behind != rest(inPieces)) {
			t.Fatalf("in pieces of %d it is %+v, %v\nwhole it is %+v, %v", piece, again, errAgain, got, err)
		}
		if err != nil {
			return
		}
		compareRequest(t, raw, got, behind)
		message.DropHopByHop(&got.head)
		got.head.Close = false
		if got.head.Authority == "" { // HTTP/1.0: the one who forwards it knows where it goes
			got.head.Authority = "nobody"
		}
		m := &memory{}
		writeAll(t, New(m, &defaults, nil), (*Conn).WriteRequest, &got)
		sent := append(slices.Clone(m.out), canary...)
		out := New(&memory{in: sent}, &defaults, nil)
		forwarded, err := readRequest(out)
		if err != nil {
			t.Fatalf("%q was written, which is refused: %v", m.out, err)
		}
		sameRequest(t, &got, &forwarded)
		if left := rest(out); left != canary {
			t.Fatalf("%q was written, and leaves %q", m.out, left)
		}
		compareRequest(t, sent, forwarded, canary)
	})
}

// sameOutcome compares what bytes came to at once and in pieces. What is wrong with pieces may be seen later.
func sameOutcome(whole, pieces error) bool {
	return statusOf(whole) == statusOf(pieces) && (whole == nil) == (pieces == nil) || whole != nil && errors.Is(pieces, io.ErrUnexpectedEOF)
}

// rest returns what was not taken of a message.
func rest(c *Conn) string {
	b, conn := c.Raw()
	more, _ := io.ReadAll(conn)
	return string(b) + string(more)
}

func writeAll(t *testing.T, c *Conn, write func(*Conn, *message.Head) error, m *told) {
	t.Helper()
	if err := write(c, &m.head); err != nil {
		t.Fatalf("%+v cannot be written: %v", m.head, err)
	}
	_, err := c.Write([]byte(m.content))
	if err = errors.Join(err, c.End(m.trailer), c.Flush()); err != nil {
		t.Fatalf("%+v cannot be written: %v", m, err)
	}
}

// sameRequest compares a request with what was forwarded of it. What the writer decides may differ: it adds Host, and says
// length and connection in its own way.
func sameRequest(t *testing.T, want, got *told) {
	t.Helper()
	w, g := want.head, got.head
	if w.Method != g.Method || w.Scheme != g.Scheme || w.Path != g.Path || w.Authority != g.Authority || w.Length != g.Length || w.Upgrade != g.Upgrade ||
		want.content != got.content || !slices.Equal(want.trailer, got.trailer) {
		t.Fatalf("%+v was forwarded as %+v", want, got)
	}
	if a, b := carried(w.Fields), carried(g.Fields); !slices.Equal(a, b) {
		t.Fatalf("fields %q were forwarded as %q", a, b)
	}
}

// carried returns the fields that a writer has to leave as they are.
func carried(fields []field) []field {
	return slices.DeleteFunc(slices.Clone(fields), func(f field) bool {
		return message.IsHopByHop(f.Name) || message.EqualFold(f.Name, "host") || message.EqualFold(f.Name, "content-length")
	})
}

// compareRequest compares with net/http, if that takes the bytes for a request, too.
func compareRequest(t *testing.T, raw []byte, got told, behind string) {
	t.Helper()
	r := bufio.NewReader(bytes.NewReader(raw))
	want, err := http.ReadRequest(r)
	if err != nil {
		return
	}
	b, err := io.ReadAll(want.Body)
	if err != nil {
		return
	}
	target := got.head.Path
	switch {
	case got.head.Method == http.MethodConnect:
		target = got.head.Authority
	case got.head.Scheme != "":
		target = "" // in pieces below
		if u := want.URL; !strings.EqualFold(u.Scheme, got.head.Scheme) || u.Host != got.head.Authority {
			unescaped, err := url.PathUnescape(got.head.Authority)
			if err != nil || u.Host != unescaped {
				t.Fatalf("authority: %q here, %q there", got.head.Authority, u.Host)
			}
		}
	}
	if want.Method != got.head.Method || target != "" && want.RequestURI != target || got.head.HTTP10 != !want.ProtoAtLeast(1, 1) {
		t.Fatalf("request line: %+v here, %q %q there", got.head, want.Method, want.RequestURI)
	}
	if got.head.Scheme == "" && got.head.Method != http.MethodConnect && want.Host != got.head.Authority {
		t.Fatalf("Host: %q here, %q there", got.head.Authority, want.Host)
	}
	if want.ContentLength != got.head.Length && got.head.Method != http.MethodConnect || string(b) != got.content {
		t.Fatalf("content: %d %q here, %d %q there", got.head.Length, got.content, want.ContentLength, b)
	}
	if got.head.HTTP10 {
		want.Header.Del("Expect") // to be ignored, which net/http leaves to its Server
	}
	compareFields(t, got, want.Header, want.Trailer)
	if more, _ := io.ReadAll(r); string(more) != behind {
		t.Fatalf("behind it: %q here, %q there", behind, more)
	}
}

// compareFields compares fields with those of net/http, which takes Host, Transfer-Encoding and Trailer away.
func compareFields(t *testing.T, got told, header, trailer http.Header) {
	t.Helper()
	theirs := func(fields []field) http.Header {
		h := http.Header{}
		for _, f := range fields {
			h.Add(f.Name, f.Value)
		}
		return h
	}
	here := theirs(got.head.Fields)
	for _, name := range []string{"Host", "Transfer-Encoding", "Trailer"} {
		here.Del(name)
		header.Del(name)
	}
	// It adds this for HTTP/1.0's sake.
	if len(here["Pragma"]) > 0 {
		here.Del("Cache-Control")
		header.Del("Cache-Control")
	}
	if len(here) != len(header) || len(here) > 0 && !reflect.DeepEqual(here, header) {
		t.Fatalf("fields: %q here, %q there", here, header)
	}
	for name, values := range trailer {
		if len(values) == 0 { // announced and not sent
			delete(trailer, name)
		}
	}
	if ours := theirs(got.trailer); len(ours) != len(trailer) || len(ours) > 0 && !reflect.DeepEqual(ours, trailer) {
		t.Fatalf("trailer: %q here, %q there", ours, trailer)
	}
}

// FuzzReadResponse is FuzzReadRequest for answers.
func FuzzReadResponse(f *testing.F) {
	for _, seed := range []string{
		serverAnswer + string(oneKiB), "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\nX: y\r\n\r\n", "HTTP/1.0 200 OK\r\n\r\nabc",
		"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n", "HTTP/1.1 204 No Content\r\n\r\n",
		"HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\n\r\n", "HTTP/1.1 103 Early Hints\r\nLink: <a>\r\n\r\n", "HTTP/1.1 200\r\nContent-Length: 0\r\n\r\n",
		"HTTP/1.1 426 Upgrade Required\r\nConnection: Upgrade\r\nUpgrade: foo/2\r\nContent-Length: 0\r\n\r\n", "HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nContent-Length: 2\r\n\r\nab",
	} {
		for i := range uint8(4) {
			f.Add([]byte(seed), i, i)
		}
	}
	f.Fuzz(func(t *testing.T, raw []byte, piece, which uint8) {
		request := [...]*message.Head{get, head, connect, upgrade}[which%4]
		c := New(&memory{in: slices.Clone(raw)}, &defaults, nil)
		got, err := readResponse(c, request)
		behind := rest(c)
		inPieces := New(&memory{in: slices.Clone(raw), piece: int(piece)}, &defaults, nil)
		again, errAgain := readResponse(inPieces, request)
		if !sameOutcome(err, errAgain) || err == nil && (!reflect.DeepEqual(got, again) || behind != rest(inPieces)) {
			t.Fatalf("in pieces of %d it is %+v, %v\nwhole it is %+v, %v", piece, again, errAgain, got, err)
		}
		if err != nil {
			return
		}
		compareResponse(t, raw, request, got, behind)
		forwardResponse(t, request, &got)
	})
}

// forwardResponse writes an answer to the one who asked and reads it again.
func forwardResponse(t *testing.T, request *message.Head, got *told) {
	t.Helper()
	message.DropHopByHop(&got.head)
	got.head.Close = false
	path := "/"
	if request.Method == http.MethodConnect {
		path = "a:1"
	}
	m := &memory{in: []byte(request.Method + " " + path + " HTTP/1.1\r\nHost: a\r\n\r\n")}
	c := New(m, &defaults, nil)
	if _, err := readRequest(c); err != nil {
		t.Fatal(err)
	}
	if got.head.Status < 200 && got.head.Status != 101 {
		if err := errors.Join(c.WriteInterim(&got.head), c.Flush()); err != nil {
			t.Fatal(err)
		}
	} else {
		writeAll(t, c, (*Conn).WriteResponse, got)
	}
	out := New(&memory{in: append(slices.Clone(m.out), canary...)}, &defaults, nil)
	forwarded, err := readResponse(out, request)
	if err != nil {
		t.Fatalf("%q was written, which is refused: %v", m.out, err)
	}
	w, g := got.head, forwarded.head
	if w.Status != g.Status || w.Length != g.Length || w.Upgrade != g.Upgrade || got.content != forwarded.content ||
		!slices.Equal(got.trailer, forwarded.trailer) || !slices.Equal(carried(w.Fields), carried(g.Fields)) {
		t.Fatalf("%+v was forwarded as %+v", got, forwarded)
	}
	if left := rest(out); left != canary {
		t.Fatalf("%q was written, and leaves %q", m.out, left)
	}
}

// compareResponse compares with net/http, if that takes the bytes for an answer, too.
func compareResponse(t *testing.T, raw []byte, request *message.Head, got told, behind string) {
	t.Helper()
	r := bufio.NewReader(bytes.NewReader(raw))
	want, err := http.ReadResponse(r, &http.Request{Method: request.Method})
	if err != nil {
		return
	}
	if want.StatusCode != got.head.Status || got.head.HTTP10 != !want.ProtoAtLeast(1, 1) {
		t.Fatalf("status line: %+v here, %q %q there", got.head, want.Proto, want.Status)
	}
	if request.Method == http.MethodConnect || got.head.Status == http.StatusSwitchingProtocols { // a tunnel, which it takes for content
		compareFields(t, got, want.Header, nil)
		return
	}
	b, err := io.ReadAll(want.Body)
	if err != nil {
		return
	}
	if string(b) != got.content {
		t.Fatalf("content: %d %q here, %d %q there", got.head.Length, got.content, want.ContentLength, b)
	}
	compareFields(t, got, want.Header, want.Trailer)
	if more, _ := io.ReadAll(r); string(more) != behind {
		t.Fatalf("behind it: %q here, %q there", behind, more)
	}
}

// FuzzChunked reads bytes as content in chunks.
func FuzzChunked(f *testing.F) {
	for _, r := range refusedRequests {
		if _, chunks, ok := strings.Cut(r.request, "Transfer-Encoding: chunked\r\n\r\n"); ok {
			f.Add([]byte(chunks), uint8(1))
		}
	}
	f.Add([]byte("5\r\nabcde\r\n0000000000000010;a;b=c;d=\"\\\"\"\r\n0123456789abcdef\r\n0;e\r\nX: y\r\n\r\n"), uint8(3))
	f.Fuzz(func(t *testing.T, raw []byte, piece uint8) {
		c := New(&memory{in: []byte(inChunks(string(raw)))}, &defaults, nil)
		got, err := readRequest(c)
		inPieces := New(&memory{in: []byte(inChunks(string(raw))), piece: int(piece)}, &defaults, nil)
		again, errAgain := readRequest(inPieces)
		if !sameOutcome(err, errAgain) || again.content != got.content && err == nil {
			t.Fatalf("in pieces of %d it is %q, %v\nwhole it is %q, %v", piece, again.content, errAgain, got.content, err)
		}
		if err != nil {
			return
		}
		want, err := io.ReadAll(httputil.NewChunkedReader(bytes.NewReader(raw)))
		if err == nil && string(want) != got.content {
			t.Fatalf("content: %q here, %q there", got.content, want)
		}
		m := &memory{}
		w := New(m, &defaults, nil)
		err = w.WriteResponse(&message.Head{Status: 200, Length: message.Unknown})
		for p := range slices.Chunk([]byte(got.content), max(1, int(piece))) {
			_, werr := w.Write(p)
			err = errors.Join(err, werr)
		}
		if err = errors.Join(err, w.End(got.trailer), w.Flush()); err != nil {
			t.Fatal(err)
		}
		written, err := readResponse(New(m.again(), &defaults, nil), get)
		if err != nil || written.content != got.content || !slices.Equal(written.trailer, got.trailer) {
			t.Fatalf("%q was written, which is %q, %v", m.out, written.content, err)
		}
	})
}
