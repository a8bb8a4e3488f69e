// SPDX-License-Identifier: Apache-2.0

package smuggling

import (
	"bytes"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"github.com/heddle-mesh/heddle/internal/meshconfig"
	"github.com/heddle-mesh/heddle/test/pair"
)

// caller2 is a caller that writes any frame.
type caller2 struct {
	net.Conn
	framer  *http2.Framer
	encoder *hpack.Encoder
	encoded bytes.Buffer
	decoder *hpack.Decoder
	stream  uint32 // the next one
}

func newCaller2(c net.Conn) *caller2 {
	d := &caller2{Conn: c, framer: http2.NewFramer(c, c), stream: 1}
	d.framer.AllowIllegalWrites, d.framer.AllowIllegalReads = true, true
	d.framer.SetMaxReadFrameSize(1 << 24)
	d.encoder = hpack.NewEncoder(&d.encoded)
	d.decoder = hpack.NewDecoder(4096, nil)
	io.WriteString(c, http2.ClientPreface)
	d.framer.WriteSettings()
	return d
}

// block encodes names and values, never indexed: a head that is refused leaves the table alone.
func (d *caller2) block(fields ...field) []byte {
	d.encoded.Reset()
	for _, f := range fields {
		f.Sensitive = true
		d.encoder.WriteField(f)
	}
	return bytes.Clone(d.encoded.Bytes())
}

// head writes a head in as many frames as it takes.
func (d *caller2) head(stream uint32, fields []field, end bool) {
	const most = 16 << 10
	b := d.block(fields...)
	first := b[:min(len(b), most)]
	b = b[len(first):]
	d.framer.WriteHeaders(http2.HeadersFrameParam{StreamID: stream, BlockFragment: first, EndStream: end, EndHeaders: len(b) == 0})
	for len(b) > 0 {
		next := b[:min(len(b), most)]
		b = b[len(next):]
		d.framer.WriteContinuation(stream, len(b) == 0, next)
	}
}

// open sends a request on a new stream.
func (d *caller2) open(a *downgrade) (stream uint32) {
	stream = d.stream
	d.stream += 2
	if a.frames != nil {
		a.frames(d.framer, stream, func(s ...string) []byte { return d.block(fieldsOf(s)...) })
		return stream
	}
	d.head(stream, a.fields, a.content == nil && a.trailer == nil)
	for i, data := range a.content {
		d.framer.WriteData(stream, i == len(a.content)-1 && a.trailer == nil, []byte(data))
	}
	if a.trailer != nil {
		d.head(stream, a.trailer, true)
	}
	return stream
}

// end2 is how a stream ended.
type end2 struct {
	status string
	body   string
	reset  bool
	code   http2.ErrCode
	goaway bool
}

// await reads until a stream or the connection has ended.
func (d *caller2) await(stream uint32) (end2, error) {
	var e end2
	var block []byte
	for {
		f, err := d.framer.ReadFrame()
		if err != nil {
			if e.goaway && (errors.Is(err, io.EOF) || strings.Contains(err.Error(), "reset by peer")) {
				return e, nil
			}
			return e, err
		}
		ended := false
		switch f := f.(type) {
		case *http2.SettingsFrame:
			if !f.IsAck() {
				d.framer.WriteSettingsAck()
			}
		case *http2.PingFrame:
			if !f.IsAck() {
				d.framer.WritePing(true, f.Data)
			}
		case *http2.GoAwayFrame:
			if f.ErrCode != http2.ErrCodeNo {
				e.goaway, e.code = true, f.ErrCode
			}
		case *http2.RSTStreamFrame:
			if f.StreamID == stream {
				// NO_ERROR behind an answer that is whole asks to stop sending (RFC 9113, section 8.1).
				e.reset, e.code = e.status == "" || f.ErrCode != http2.ErrCodeNo, f.ErrCode
				return e, nil
			}
		case *http2.HeadersFrame:
			block = append(block[:0], f.HeaderBlockFragment()...)
			if f.HeadersEnded() {
				d.decode(block, f.StreamID == stream, &e)
			}
			ended = f.StreamID == stream && f.StreamEnded()
		case *http2.DataFrame:
			if f.StreamID == stream {
				e.body += string(f.Data())
			}
			ended = f.StreamID == stream && f.StreamEnded()
		}
		if ended {
			return e, nil
		}
	}
}

func (d *caller2) decode(block []byte, ours bool, e *end2) {
	fields, err := d.decoder.DecodeFull(block)
	if err != nil || !ours {
		return
	}
	for _, f := range fields {
		if f.Name == ":status" {
			e.status = f.Value
		}
	}
}

func TestDowngrades(t *testing.T) {
	for _, face := range faces {
		t.Run(face, func(t *testing.T) {
			b := &bench{origin: newOrigin(t)}
			p := pair.New(t, b.origin.address, pair.Options{Protocol: meshconfig.Protocol_PROTOCOL_HTTP1})
			config := p.CallerTLS("heddle/h2")
			dial := func(t *testing.T) *caller2 {
				t.Helper()
				address := p.Client
				if face == "server side" {
					address = p.Server
				}
				c, err := net.Dial("tcp", address.String())
				if err != nil {
					t.Fatal(err)
				}
				t.Cleanup(func() { c.Close() })
				c.SetDeadline(time.Now().Add(patience))
				if face == "server side" {
					c = tls.Client(c, config)
				}
				return newCaller2(c)
			}
			for i := range downgrades {
				t.Run(downgrades[i].name, func(t *testing.T) { b.downgrade(t, &downgrades[i], dial) })
			}
		})
	}
}

// downgrade sends a request of HTTP/2, canaries behind it and on another connection, and checks what arrives.
func (b *bench) downgrade(t *testing.T, a *downgrade, dial func(*testing.T) *caller2) {
	t.Helper()
	b.origin.take()
	d := dial(t)
	stream := d.open(a)
	e, err := d.await(stream)
	if err != nil {
		t.Fatalf("it came to no end: %v (%+v)", err, e)
	}
	var arrivals []want
	w := &a.want
	switch {
	case w.ends:
		if !e.goaway {
			t.Errorf("it ended with %+v, want GOAWAY", e)
		}
	case w.reset:
		if !e.reset || e.code != http2.ErrCodeProtocol {
			t.Errorf("it ended with %+v, want RST_STREAM of PROTOCOL_ERROR", e)
		}
	case w.status != 0:
		if e.status != fmt.Sprint(w.status) {
			t.Errorf("it ended with %+v, want status %d", e, w.status)
		}
	default:
		line := strings.Fields(w.carried.head[0])
		if want := answerTo(line[0], line[1]); e.status != "200" || e.body != want {
			t.Errorf("it ended with %+v, want %q", e, want)
		}
		arrivals = append(arrivals, w.carried)
	}
	if !w.ends && !e.goaway {
		arrivals = append(arrivals, b.canary2(t, d, "the canary behind it"))
	}
	d.Close()
	arrivals = append(arrivals, b.canary2(t, dial(t), "the canary on another connection"))
	b.check(t, arrivals)
}

// canary2 sends a canary on a stream of its own.
func (b *bench) canary2(t *testing.T, d *caller2, what string) want {
	t.Helper()
	b.n++
	target := fmt.Sprintf("/canary/%d", b.n)
	e, err := d.await(d.open(&downgrade{fields: with2(":path", target)}))
	if err != nil || e.status != "200" || e.body != answerTo("GET", target) {
		t.Fatalf("%s was answered %+v, %v", what, e, err)
	}
	return as("GET "+target+" HTTP/1.1", "Host: cart")
}
