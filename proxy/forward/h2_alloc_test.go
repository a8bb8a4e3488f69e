// SPDX-License-Identifier: Apache-2.0

//go:build !race

package forward_test

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"io"
	"net"
	"net/netip"
	"slices"
	"testing"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"github.com/heddle-mesh/heddle/internal/identity"
	"github.com/heddle-mesh/heddle/internal/meshconfig"
	"github.com/heddle-mesh/heddle/proxy/internal/testpki"
	"github.com/heddle-mesh/heddle/proxy/telemetry"
)

// frameHeader is that of RFC 9113, section 4.1.
const frameHeader = 9

// frame appends a frame.
func frame(b []byte, kind http2.FrameType, flags http2.Flags, stream uint32, payload []byte) []byte {
	b = append(b, byte(len(payload)>>16), byte(len(payload)>>8), byte(len(payload)), byte(kind), byte(flags))
	return append(binary.BigEndian.AppendUint32(b, stream), payload...)
}

// hello is what either side of a connection says first: no limit to streams, and windows that last.
func hello() []byte {
	const most = 1<<31 - 1
	settings := binary.BigEndian.AppendUint32([]byte{0, byte(http2.SettingInitialWindowSize)}, most)
	settings = binary.BigEndian.AppendUint32(append(settings, 0, byte(http2.SettingMaxConcurrentStreams)), 1000)
	b := frame(nil, http2.FrameSettings, 0, 0, settings)
	return frame(b, http2.FrameWindowUpdate, 0, 0, binary.BigEndian.AppendUint32(nil, most-1<<16))
}

// frames reads frames without allocating.
type frames struct {
	*bufio.Reader
	header [frameHeader]byte
}

// next returns a frame's kind, flags and stream, and passes over its payload.
func (f *frames) next() (kind http2.FrameType, flags http2.Flags, stream uint32, err error) {
	h := f.header[:]
	if _, err = io.ReadFull(f, h); err != nil {
		return 0, 0, 0, err
	}
	_, err = f.Discard(int(h[0])<<16 | int(h[1])<<8 | int(h[2]))
	return http2.FrameType(h[3]), http2.Flags(h[4]), binary.BigEndian.Uint32(h[5:]), err
}

// block encodes fields as a header block.
func block(e *hpack.Encoder, fields ...string) {
	for i := 0; i < len(fields); i += 2 {
		e.WriteField(hpack.HeaderField{Name: fields[i], Value: fields[i+1]})
	}
}

// frameServer answers every request with the same content, and allocates nothing for it.
func frameServer(tb testing.TB, size int) netip.AddrPort {
	tb.Helper()
	var head bytes.Buffer
	e := hpack.NewEncoder(&head)
	e.SetMaxDynamicTableSize(0)
	block(e, ":status", "200", "content-type", "text/plain", "date", "Sun, 22 Nov 2026 12:00:00 GMT")
	content := bytes.Repeat([]byte("x"), size)
	return accept(tb, func(c net.Conn) {
		io.CopyN(io.Discard, c, int64(len(http2.ClientPreface)))
		c.Write(hello())
		in := &frames{Reader: bufio.NewReaderSize(c, 64<<10)}
		var out []byte
		for {
			kind, flags, stream, err := in.next()
			switch {
			case err != nil:
				return
			case kind == http2.FrameSettings && !flags.Has(http2.FlagSettingsAck):
				out = frame(out, http2.FrameSettings, http2.FlagSettingsAck, 0, nil)
			case kind == http2.FramePing && !flags.Has(http2.FlagPingAck):
				tb.Error("PING")
			case (kind == http2.FrameHeaders || kind == http2.FrameData) && flags.Has(http2.FlagDataEndStream):
				out = frame(out, http2.FrameHeaders, http2.FlagHeadersEndHeaders, stream, head.Bytes())
				out = frame(out, http2.FrameData, http2.FlagDataEndStream, stream, content)
			}
			if in.Buffered() == 0 && len(out) > 0 {
				c.Write(out)
				out = out[:0]
			}
		}
	})
}

// frameCaller sends requests on one connection.
type frameCaller struct {
	conn    net.Conn
	in      *frames
	out     []byte
	head    bytes.Buffer
	encoder *hpack.Encoder
	fields  []string
	content []byte
	next    uint32
}

func newFrameCaller(tb testing.TB, at netip.AddrPort, content int, fields ...string) *frameCaller {
	tb.Helper()
	conn, err := net.Dial("tcp", at.String())
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { conn.Close() })
	c := &frameCaller{conn: conn, in: &frames{Reader: bufio.NewReaderSize(conn, 64<<10)}, next: 1, content: make([]byte, content)}
	c.fields = slices.Concat(someFields2, fields)
	c.encoder = hpack.NewEncoder(&c.head)
	conn.Write(append([]byte(http2.ClientPreface), hello()...))
	return c
}

var someFields2 = []string{
	":method", "POST", ":scheme", "http", ":path", "/items/1?q=2", ":authority", "cart.shop", "user-agent", "test/1.0", "accept", "*/*",
	"x-request-id", "0123456789abcdef", "traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
	"x-forwarded-for", "192.0.2.1",
}

// grpcFields are what a caller of gRPC says besides.
var grpcFields = []string{"content-type", "application/grpc", "te", "trailers", "grpc-timeout", "20S"}

// exchange sends n requests at once and reads the answers.
func (c *frameCaller) exchange(tb testing.TB, n int) {
	tb.Helper()
	out := c.out[:0]
	for range n {
		c.head.Reset()
		block(c.encoder, c.fields...)
		if len(c.content) == 0 {
			out = frame(out, http2.FrameHeaders, http2.FlagHeadersEndHeaders|http2.FlagHeadersEndStream, c.next, c.head.Bytes())
		} else {
			out = frame(out, http2.FrameHeaders, http2.FlagHeadersEndHeaders, c.next, c.head.Bytes())
			out = frame(out, http2.FrameData, http2.FlagDataEndStream, c.next, c.content)
		}
		c.next += 2
	}
	c.out = out
	if _, err := c.conn.Write(out); err != nil {
		tb.Fatal(err)
	}
	for n > 0 {
		kind, flags, _, err := c.in.next()
		switch {
		case err != nil:
			tb.Fatal(err)
		case kind == http2.FrameRSTStream || kind == http2.FrameGoAway:
			tb.Fatal(kind)
		case kind == http2.FrameSettings && !flags.Has(http2.FlagSettingsAck):
			c.conn.Write(frame(nil, http2.FrameSettings, http2.FlagSettingsAck, 0, nil))
		case (kind == http2.FrameHeaders || kind == http2.FrameData) && flags.Has(http2.FlagDataEndStream):
			n--
		}
	}
}

// plainProxy2 is plainProxy for a server of HTTP/2.
func plainProxy2(tb testing.TB, inbound bool, app netip.AddrPort) netip.AddrPort {
	tb.Helper()
	p := start(tb, testpki.NewAuthority(tb), shop, inbound, settings{observer: telemetry.New(telemetry.Options{})})
	if inbound {
		p.policyOf(&meshconfig.PortPolicy{
			Mtls: permissive, DefaultAction: allow, Protocol: asHTTP2,
			Rules: []*meshconfig.AuthorizationRule{rule("shop/cart/secret", deny, web, nil, []string{"/secret/*"})},
		})
		return p.listen(app)
	}
	p.service(asHTTP2, func(port *meshconfig.ServicePort) {
		port.Routes = []*meshconfig.Route{{Name: "items", Matches: []*meshconfig.Match{
			{Path: &meshconfig.PathMatch{Type: meshconfig.PathMatch_TYPE_PREFIX, Value: "/items"}},
		}}}
	}, 1)
	p.endpoints(cart, identity.ID{}, app)
	return p.listen(netip.AddrPortFrom(cartIP, 80))
}

func TestAWarmStreamAllocatesLittle(t *testing.T) {
	for name, request := range map[string]struct {
		content int
		fields  []string
	}{
		"without content":         {},
		"with content of 1 KiB":   {content: 1024},
		"of gRPC, with a timeout": {1024, grpcFields},
	} {
		for _, inbound := range []bool{false, true} {
			t.Run(map[bool]string{false: "outbound, ", true: "inbound, "}[inbound]+name, func(t *testing.T) {
				c := newFrameCaller(t, plainProxy2(t, inbound, frameServer(t, 1024)), request.content, request.fields...)
				const n = 10
				for range 100 {
					c.exchange(t, n)
				}
				if got := testing.AllocsPerRun(200, func() { c.exchange(t, n) }) / n; got > 4 {
					t.Errorf("%v allocations per stream, want 4 at most", got)
				} else {
					t.Logf("%v allocations per stream", got)
				}
			})
		}
	}
}

func BenchmarkHTTP2(b *testing.B) { benchmark2(b, 0) }

func BenchmarkGRPC(b *testing.B) { benchmark2(b, 64, grpcFields...) }

func benchmark2(b *testing.B, content int, fields ...string) {
	b.Helper()
	for _, inbound := range []bool{false, true} {
		b.Run(map[bool]string{false: "outbound", true: "inbound"}[inbound], func(b *testing.B) {
			c := newFrameCaller(b, plainProxy2(b, inbound, frameServer(b, 1024)), content, fields...)
			b.ReportAllocs()
			const n = 16
			for i := 0; i < b.N; i += n {
				c.exchange(b, n)
			}
		})
	}
}
