// SPDX-License-Identifier: Apache-2.0

package forward_test

import (
	"bytes"
	"io"
	"net"
	"net/netip"
	"testing"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

// peer2 speaks HTTP/2 frame by frame, as a caller or as an application.
type peer2 struct {
	testing.TB
	conn    net.Conn
	framer  *http2.Framer
	block   bytes.Buffer
	encoder *hpack.Encoder
}

// newPeer2 begins a connection: a caller's has sent the preface.
func newPeer2(tb testing.TB, conn net.Conn, settings ...http2.Setting) *peer2 {
	tb.Helper()
	p := &peer2{TB: tb, conn: conn, framer: http2.NewFramer(conn, conn)}
	p.framer.ReadMetaHeaders = hpack.NewDecoder(4096, nil)
	p.encoder = hpack.NewEncoder(&p.block)
	p.framer.WriteSettings(settings...)
	return p
}

// caller2 calls a proxy.
func caller2(tb testing.TB, at netip.AddrPort) *peer2 {
	tb.Helper()
	conn, err := net.Dial("tcp", at.String())
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { conn.Close() })
	io.WriteString(conn, http2.ClientPreface)
	return newPeer2(tb, conn)
}

// app2 runs an application that gets each frame but SETTINGS and PING.
func app2(tb testing.TB, act func(p *peer2, f http2.Frame), settings ...http2.Setting) netip.AddrPort {
	tb.Helper()
	return accept(tb, func(conn net.Conn) {
		io.CopyN(io.Discard, conn, int64(len(http2.ClientPreface)))
		p := newPeer2(tb, conn, settings...)
		for {
			f := p.next()
			if f == nil {
				return
			}
			act(p, f)
		}
	})
}

// next returns the next frame that concerns a stream, GOAWAY or WINDOW_UPDATE; nil at the connection's end.
func (p *peer2) next() http2.Frame {
	for {
		f, err := p.framer.ReadFrame()
		if err != nil {
			return nil
		}
		switch f := f.(type) {
		case *http2.SettingsFrame:
			if !f.IsAck() {
				p.framer.WriteSettingsAck()
			}
		case *http2.PingFrame:
			if !f.IsAck() {
				p.framer.WritePing(true, f.Data)
			}
		case *http2.DataFrame:
			if n := len(f.Data()); n > 0 {
				p.framer.WriteWindowUpdate(0, uint32(n))
				if !f.StreamEnded() {
					p.framer.WriteWindowUpdate(f.StreamID, uint32(n))
				}
			}
			return f
		case *http2.WindowUpdateFrame:
		default:
			return f
		}
	}
}

// head sends a head.
func (p *peer2) head(stream uint32, end bool, fields ...string) {
	p.block.Reset()
	for i := 0; i < len(fields); i += 2 {
		p.encoder.WriteField(hpack.HeaderField{Name: fields[i], Value: fields[i+1]})
	}
	p.framer.WriteHeaders(http2.HeadersFrameParam{
		StreamID: stream, BlockFragment: p.block.Bytes(), EndHeaders: true, EndStream: end,
	})
}

// ask sends the head of a request.
func (p *peer2) ask(stream uint32, end bool, method, path string, fields ...string) {
	p.head(stream, end, append([]string{":method", method, ":scheme", "http", ":path", path, ":authority", "cart"}, fields...)...)
}

// wantHead returns the head that comes next.
func (p *peer2) wantHead() *http2.MetaHeadersFrame {
	p.Helper()
	f, ok := p.next().(*http2.MetaHeadersFrame)
	if !ok {
		p.Fatalf("got %v, want a head", f)
	}
	return f
}

// wantReset returns the code with which the stream is reset, after content that is passed over.
func (p *peer2) wantReset() http2.ErrCode {
	p.Helper()
	for {
		switch f := p.next().(type) {
		case *http2.RSTStreamFrame:
			return f.ErrCode
		case *http2.DataFrame:
			if f.StreamEnded() {
				p.Fatal("the stream came to a good end")
			}
		default:
			p.Fatalf("got %v, want RST_STREAM", f)
		}
	}
}

// wantData returns content that comes next, as much as is wanted.
func (p *peer2) wantData(n int) string {
	p.Helper()
	var all []byte
	for len(all) < n {
		f, ok := p.next().(*http2.DataFrame)
		if !ok {
			p.Fatalf("got %v after %q, want content", f, all)
		}
		all = append(all, f.Data()...)
	}
	return string(all)
}

// wantRest returns content to its end.
func (p *peer2) wantRest() string {
	p.Helper()
	var all []byte
	for {
		f, ok := p.next().(*http2.DataFrame)
		if !ok {
			p.Fatalf("got %v after %d bytes, want content", f, len(all))
		}
		if all = append(all, f.Data()...); f.StreamEnded() {
			return string(all)
		}
	}
}

// field returns the value of a field, or "".
func field(f *http2.MetaHeadersFrame, name string) string {
	for _, h := range f.Fields {
		if h.Name == name {
			return h.Value
		}
	}
	return ""
}
