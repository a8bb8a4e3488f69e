// SPDX-License-Identifier: Apache-2.0

package hostile

import (
	"bytes"
	"errors"
	"io"
	"net"
	"strings"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

// Field is one of a head of HTTP/2.
type Field = hpack.HeaderField

// Caller is a caller of HTTP/2 that writes any frame. It is for one goroutine; once it is Mute, one may read and another
// one write.
type Caller struct {
	net.Conn
	Framer *http2.Framer
	// Mute says that Await acknowledges nothing.
	Mute bool

	encoder *hpack.Encoder
	encoded bytes.Buffer
	decoder *hpack.Decoder
	stream  uint32 // the next one
}

// NewCaller sends the preface and SETTINGS. What fails to be sent is found out by who reads.
func NewCaller(c net.Conn, settings ...http2.Setting) *Caller {
	d := &Caller{Conn: c, Framer: http2.NewFramer(c, c), stream: 1}
	d.Framer.AllowIllegalWrites, d.Framer.AllowIllegalReads = true, true
	d.Framer.SetMaxReadFrameSize(1 << 24)
	d.encoder = hpack.NewEncoder(&d.encoded)
	d.decoder = hpack.NewDecoder(4096, nil)
	_, _ = io.WriteString(c, http2.ClientPreface)
	_ = d.Framer.WriteSettings(settings...)
	return d
}

// Next returns the number of a new stream.
func (d *Caller) Next() uint32 {
	d.stream += 2
	return d.stream - 2
}

// Block encodes names and values, never indexed: a head that is refused leaves the table alone.
func (d *Caller) Block(fields ...Field) []byte {
	d.encoded.Reset()
	for _, f := range fields {
		f.Sensitive = true
		_ = d.encoder.WriteField(f) // to memory
	}
	return bytes.Clone(d.encoded.Bytes())
}

// Indexed encodes names and values that the peer has to remember.
func (d *Caller) Indexed(fields ...Field) []byte {
	d.encoded.Reset()
	for _, f := range fields {
		_ = d.encoder.WriteField(f) // to memory
	}
	return bytes.Clone(d.encoded.Bytes())
}

// Head writes a head in as many frames as it takes.
func (d *Caller) Head(stream uint32, fields []Field, end bool) {
	const most = 16 << 10
	b := d.Block(fields...)
	first := b[:min(len(b), most)]
	b = b[len(first):]
	_ = d.Framer.WriteHeaders(http2.HeadersFrameParam{StreamID: stream, BlockFragment: first, EndStream: end, EndHeaders: len(b) == 0})
	for len(b) > 0 {
		next := b[:min(len(b), most)]
		b = b[len(next):]
		_ = d.Framer.WriteContinuation(stream, len(b) == 0, next)
	}
}

// End is how a stream ended, or the connection.
type End struct {
	Status string
	Body   string
	Reset  bool
	Code   http2.ErrCode // of Reset or GoAway
	GoAway bool
}

// Await reads until a stream or the connection has ended.
func (d *Caller) Await(stream uint32) (End, error) {
	var e End
	var block []byte
	for {
		f, err := d.Framer.ReadFrame()
		if err != nil {
			if e.GoAway && (errors.Is(err, io.EOF) || strings.Contains(err.Error(), "reset by peer")) {
				return e, nil
			}
			return e, err
		}
		ended := false
		switch f := f.(type) {
		case *http2.SettingsFrame:
			if !f.IsAck() && !d.Mute {
				_ = d.Framer.WriteSettingsAck()
			}
		case *http2.PingFrame:
			if !f.IsAck() && !d.Mute {
				_ = d.Framer.WritePing(true, f.Data)
			}
		case *http2.GoAwayFrame:
			if f.ErrCode != http2.ErrCodeNo {
				e.GoAway, e.Code = true, f.ErrCode
			}
		case *http2.RSTStreamFrame:
			if f.StreamID == stream {
				// NO_ERROR behind an answer that is whole asks to stop sending (RFC 9113, section 8.1).
				e.Reset, e.Code = e.Status == "" || f.ErrCode != http2.ErrCodeNo, f.ErrCode
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
				e.Body += string(f.Data())
			}
			ended = f.StreamID == stream && f.StreamEnded()
		}
		if ended {
			return e, nil
		}
	}
}

func (d *Caller) decode(block []byte, ours bool, e *End) {
	fields, err := d.decoder.DecodeFull(block)
	if err != nil || !ours {
		return
	}
	for _, f := range fields {
		if f.Name == ":status" {
			e.Status = f.Value
		}
	}
}
