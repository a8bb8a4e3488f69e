// SPDX-License-Identifier: Apache-2.0

package smuggling

import (
	"fmt"
	"strings"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

// downgrade is a request of HTTP/2 to a server of HTTP/1.1.
type downgrade struct {
	name    string
	fields  []hpack.HeaderField
	content []string            // DATA frames; nil: the head ends the stream
	trailer []hpack.HeaderField // nil: the last frame ends the stream
	frames  func(f *http2.Framer, stream uint32, block func(...string) []byte)
	want    outcome2
}

// outcome2 is what becomes of a request of HTTP/2.
type outcome2 struct {
	reset   bool // the stream is reset with PROTOCOL_ERROR, and the connection goes on
	ends    bool // the connection ends with GOAWAY
	status  int  // of a refusal that is an answer
	carried want // otherwise
}

func reset() outcome2           { return outcome2{reset: true} }
func ends() outcome2            { return outcome2{ends: true} }
func answered(s int) outcome2   { return outcome2{status: s} }
func carried(w want) outcome2   { return outcome2{carried: w} }
func pairs(s ...string) []field { return fieldsOf(s) }

type field = hpack.HeaderField

func fieldsOf(s []string) []field {
	var out []field
	for i := 0; i+1 < len(s); i += 2 {
		out = append(out, field{Name: s[i], Value: s[i+1]})
	}
	return out
}

// get2 and post2 are the fields of requests as they should be, and more.
func get2(more ...string) []field {
	return fieldsOf(append([]string{":method", "GET", ":scheme", "http", ":authority", "cart", ":path", "/a"}, more...))
}

func post2(more ...string) []field {
	return fieldsOf(append([]string{":method", "POST", ":scheme", "http", ":authority", "cart", ":path", "/a"}, more...))
}

// with2 replaces the value of a pseudo-field.
func with2(name, value string, more ...string) []field {
	out := get2(more...)
	for i := range out {
		if out[i].Name == name {
			out[i].Value = value
			return out
		}
	}
	return out
}

// without2 leaves a pseudo-field out.
func without2(name string, more ...string) []field {
	var out []field
	for _, f := range get2(more...) {
		if f.Name != name {
			out = append(out, f)
		}
	}
	return out
}

var downgrades = []downgrade{
	{name: "a request as it should be", fields: get2("x-a", "1", "x-b", "2"), want: carried(asGet("x-a: 1", "x-b: 2"))},
	{name: "content with a length", fields: post2("content-length", "3"), content: []string{"abc"}, want: carried(asPost("content-length: 3").with("abc"))},
	{name: "content without a length", fields: post2(), content: []string{"ab", "c"}, want: carried(asPost().with("abc"))},
	{name: "no content, ended by an empty frame", fields: post2(), content: []string{""}, want: carried(asPost())},
	{name: "content with a trailer", fields: post2(), content: []string{"abc"}, trailer: pairs("x-sum", "1"), want: carried(asPost().with("abc", "x-sum: 1"))},
	{name: "content that is a request", fields: post2(), content: []string{inner}, want: carried(asPost().with(inner))},
	{name: "content that looks like the last chunk", fields: post2(), content: []string{"0\r\n\r\n" + inner}, want: carried(asPost().with("0\r\n\r\n" + inner))},
	{name: "content of GET that is a request", fields: get2("content-length", "38"), content: []string{inner}, want: carried(asGet("content-length: 38").with(inner))},
	{name: "cookies in crumbs", fields: get2("cookie", "a=1", "x-y", "z", "cookie", "b=2"), want: carried(asGet("cookie: a=1; b=2", "x-y: z"))},
	{name: "TE: trailers", fields: get2("te", "trailers"), want: carried(asGet("te: trailers").listing("te"))},
	{name: "a method that nobody knows", fields: with2(":method", "PURGE"), want: carried(as("PURGE /a HTTP/1.1", "Host: cart"))},
	{name: "OPTIONS of all", fields: fieldsOf([]string{":method", "OPTIONS", ":scheme", "http", ":authority", "cart", ":path", "*"}), want: carried(as("OPTIONS * HTTP/1.1", "Host: cart"))},
	{name: "Host in place of :authority", fields: without2(":authority", "host", "cart"), want: carried(asGet())},
	{name: "Host that agrees with :authority", fields: get2("host", "cart"), want: carried(asGet())},
	{name: "who calls is not the caller's to say", fields: get2("x-forwarded-client-cert", "URI=spiffe://a/ns/b/sa/c"), want: carried(asGet())},
	{name: "an expectation that nobody knows", fields: post2("expect", "x", "content-length", "3"), content: []string{"abc"}, want: answered(417)},

	{name: "CRLF in a value", fields: get2("x", "y\r\nTransfer-Encoding: chunked"), want: reset()},
	{name: "LF in a value", fields: get2("x", "y\nz: a"), want: reset()},
	{name: "CR in a value", fields: get2("x", "y\rz: a"), want: reset()},
	{name: "NUL in a value", fields: get2("x", "y\x00z"), want: reset()},
	{name: "a request in a value", fields: get2("x", "y\r\n\r\n"+inner), want: reset()},
	{name: "a value with a space before it", fields: get2("x", " y"), want: reset()},
	{name: "a value with a tab behind it", fields: get2("x", "y\t"), want: reset()},
	{name: "CRLF in a name", fields: get2("x: y\r\nz", "a"), want: reset()},
	{name: "a colon in a name", fields: get2("x:y", "a"), want: reset()},
	{name: "a space in a name", fields: get2("x y", "a"), want: reset()},
	{name: "a space behind a name", fields: get2("transfer-encoding ", "chunked"), want: reset()},
	{name: "a NUL in a name", fields: get2("x\x00", "a"), want: reset()},
	{name: "a name beyond ASCII", fields: get2("x\xe4", "a"), want: reset()},
	{name: "a name in capitals", fields: get2("X-Y", "a"), want: reset()},
	{name: "an empty name", fields: get2("", "a"), want: reset()},
	{name: "CRLF in :path", fields: with2(":path", "/a HTTP/1.1\r\nHost: other\r\n\r\n"), want: reset()},
	{name: "a space in :path", fields: with2(":path", "/a b"), want: reset()},
	{name: "a NUL in :path", fields: with2(":path", "/a\x00"), want: reset()},
	{name: "a fragment in :path", fields: with2(":path", "/a#b"), want: reset()},
	{name: "an empty :path", fields: with2(":path", ""), want: reset()},
	{name: "a :path that is a word", fields: with2(":path", "a"), want: reset()},
	{name: "a :path in absolute form", fields: with2(":path", "http://other/a"), want: reset()},
	{name: "an asterisk with GET", fields: with2(":path", "*"), want: reset()},
	{name: "dot segments above the root in :path", fields: with2(":path", "/../a"), want: answered(400)},
	{name: "CRLF in :method", fields: with2(":method", "GET / HTTP/1.1\r\nX: y\r\n\r\nGET"), want: reset()},
	{name: "a space in :method", fields: with2(":method", "GET /b HTTP/1.1"), want: reset()},
	{name: "an empty :method", fields: with2(":method", ""), want: reset()},
	{name: "CRLF in :authority", fields: with2(":authority", "cart\r\nX: y"), want: reset()},
	{name: "a space in :authority", fields: with2(":authority", "cart other"), want: reset()},
	{name: "a path in :authority", fields: with2(":authority", "cart/other"), want: reset()},
	{name: "a user in :authority", fields: with2(":authority", "other@cart"), want: reset()},
	{name: "a list in :authority", fields: with2(":authority", "cart,other"), want: reset()},
	{name: "CRLF in :scheme", fields: with2(":scheme", "http\r\nX: y"), want: reset()},
	{name: "a path in :scheme", fields: with2(":scheme", "http://other/a?"), want: reset()},
	{name: "Host that differs from :authority", fields: get2("host", "other"), want: reset()},
	{name: "two Hosts", fields: without2(":authority", "host", "cart", "host", "cart"), want: reset()},
	{name: "neither Host nor :authority", fields: without2(":authority"), want: reset()},
	{name: "no :method", fields: without2(":method"), want: reset()},
	{name: "no :path", fields: without2(":path"), want: reset()},
	{name: "no :scheme", fields: without2(":scheme"), want: reset()},
	{name: "two :paths", fields: append(pairs(":path", "/b"), get2()...), want: reset()},
	{name: "two :methods", fields: append(pairs(":method", "POST"), get2()...), want: reset()},
	{name: "two :authorities", fields: append(pairs(":authority", "other"), get2()...), want: reset()},
	{name: "two :schemes", fields: append(pairs(":scheme", "https"), get2()...), want: reset()},
	{name: "a pseudo-field behind a field", fields: append(pairs("x", "y"), get2()...), want: reset()},
	{name: "a pseudo-field that nobody knows", fields: append(pairs(":x", "y"), get2()...), want: reset()},
	{name: "a pseudo-field of answers", fields: append(pairs(":status", "200"), get2()...), want: reset()},
	{name: ":protocol without CONNECT", fields: append(pairs(":protocol", "websocket"), get2()...), want: reset()},
	{name: "CONNECT with :path", fields: with2(":method", "CONNECT"), want: reset()},

	{name: "Transfer-Encoding", fields: post2("transfer-encoding", "chunked"), content: []string{"0\r\n\r\n" + inner}, want: reset()},
	{name: "Transfer-Encoding: identity", fields: post2("transfer-encoding", "identity"), content: []string{"abc"}, want: reset()},
	{name: "Connection", fields: get2("connection", "close"), want: reset()},
	{name: "Keep-Alive", fields: get2("keep-alive", "timeout=5"), want: reset()},
	{name: "Proxy-Connection", fields: get2("proxy-connection", "keep-alive"), want: reset()},
	{name: "Upgrade", fields: get2("upgrade", "h2c"), want: reset()},
	{name: "TE of another kind", fields: get2("te", "gzip"), want: reset()},
	{name: "H2.CL: a length below the content", fields: post2("content-length", "0"), content: []string{inner}, want: reset()},
	{name: "H2.CL: a length within the content", fields: post2("content-length", "3"), content: []string{"abc" + inner}, want: reset()},
	{name: "a length above the content", fields: post2("content-length", "40"), content: []string{"abc"}, want: reset()},
	{name: "a length above the content, which has a trailer", fields: post2("content-length", "40"), content: []string{"abc"}, trailer: pairs("x", "y"), want: reset()},
	{name: "a length without content", fields: post2("content-length", "3"), want: reset()},
	{name: "two lengths", fields: post2("content-length", "3", "content-length", "3"), content: []string{"abc"}, want: reset()},
	{name: "a list of lengths", fields: post2("content-length", "3, 3"), content: []string{"abc"}, want: reset()},
	{name: "a length with a sign", fields: post2("content-length", "+3"), content: []string{"abc"}, want: reset()},
	{name: "a hexadecimal length", fields: post2("content-length", "0x3"), content: []string{"abc"}, want: reset()},
	{name: "an empty length", fields: post2("content-length", ""), content: []string{"abc"}, want: reset()},
	{name: "a length beyond 64 bits", fields: post2("content-length", "18446744073709551619"), content: []string{"abc"}, want: reset()},

	{name: "CRLF in a trailer's value", fields: post2(), content: []string{"abc"}, trailer: pairs("x", "y\r\n\r\n"+inner), want: reset()},
	{name: "CRLF in a trailer's name", fields: post2(), content: []string{"abc"}, trailer: pairs("x\r\ny", "z"), want: reset()},
	{name: "a pseudo-field in a trailer", fields: post2(), content: []string{"abc"}, trailer: pairs(":path", "/b"), want: reset()},
	{name: "Transfer-Encoding in a trailer", fields: post2(), content: []string{"abc"}, trailer: pairs("transfer-encoding", "chunked"), want: reset()},
	{name: "Content-Length in a trailer", fields: post2(), content: []string{"abc"}, trailer: pairs("content-length", "3"), want: reset()},
	{name: "a trailer that tells who calls", fields: post2(), content: []string{"abc"}, trailer: pairs("x-forwarded-client-cert", "a"), want: carried(asPost().with("abc"))},
	{
		name: "a second head that does not end the stream", want: reset(),
		frames: func(f *http2.Framer, stream uint32, block func(...string) []byte) {
			f.WriteHeaders(http2.HeadersFrameParam{StreamID: stream, BlockFragment: block(":method", "POST", ":scheme", "http", ":authority", "cart", ":path", "/a"), EndHeaders: true})
			f.WriteHeaders(http2.HeadersFrameParam{StreamID: stream, BlockFragment: block("x", "y"), EndHeaders: true})
		},
	},
	{
		name: "a head in the midst of another", want: ends(),
		frames: func(f *http2.Framer, stream uint32, block func(...string) []byte) {
			f.WriteHeaders(http2.HeadersFrameParam{StreamID: stream, BlockFragment: block(":method", "GET", ":scheme", "http", ":authority", "cart", ":path", "/a"), EndStream: true})
			f.WriteHeaders(http2.HeadersFrameParam{StreamID: stream + 2, BlockFragment: block(":method", "GET", ":scheme", "http", ":authority", "cart", ":path", "/b"), EndStream: true, EndHeaders: true})
		},
	},
	{
		name: "a head that cannot be decoded", want: ends(),
		frames: func(f *http2.Framer, stream uint32, _ func(...string) []byte) {
			f.WriteHeaders(http2.HeadersFrameParam{StreamID: stream, BlockFragment: []byte{0xff, 0xff, 0xff, 0xff, 0xff, 0xff}, EndStream: true, EndHeaders: true})
		},
	},
	{
		name: "a head in CONTINUATION frames", want: carried(asGet("x: y")),
		frames: func(f *http2.Framer, stream uint32, block func(...string) []byte) {
			b := block(":method", "GET", ":scheme", "http", ":authority", "cart", ":path", "/a", "x", "y")
			f.WriteHeaders(http2.HeadersFrameParam{StreamID: stream, BlockFragment: b[:2], EndStream: true})
			f.WriteContinuation(stream, false, b[2:5])
			f.WriteContinuation(stream, true, b[5:])
		},
	},
	{
		name: "a stream below the last", want: ends(),
		frames: func(f *http2.Framer, stream uint32, block func(...string) []byte) {
			f.WriteHeaders(http2.HeadersFrameParam{StreamID: stream + 2, BlockFragment: block(":method", "GET", ":scheme", "http", ":authority", "cart"), EndStream: true, EndHeaders: true})
			f.WriteHeaders(http2.HeadersFrameParam{StreamID: stream, BlockFragment: block(":method", "GET", ":scheme", "http", ":authority", "cart", ":path", "/a"), EndStream: true, EndHeaders: true})
		},
	},
	{name: "a header of 200,000 bytes", fields: get2("x", strings.Repeat("y", 200_000)), want: answered(431)},
	{name: "a thousand fields", fields: get2(strings.Split(strings.TrimSuffix(strings.Repeat("x|y|", 1000), "|"), "|")...), want: answered(431)},
	{name: fmt.Sprintf("a path of %d bytes", 100_000), fields: with2(":path", "/"+strings.Repeat("a", 100_000)), want: answered(414)},
}
