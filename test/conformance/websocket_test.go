// SPDX-License-Identifier: Apache-2.0

//go:build conformance

package conformance

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha1"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/heddle-mesh/heddle/test/pair"
)

// Opcodes of RFC 6455, section 5.2.
const (
	continuation = 0x0
	text         = 0x1
	binaryFrame  = 0x2
	closeFrame   = 0x8
	ping         = 0x9
	pong         = 0xa
	final        = 0x80
)

// socket is one end of a WebSocket: frames as they are on the wire.
type socket struct {
	net.Conn
	r      *bufio.Reader
	client bool // masks what it sends
}

// frame is one frame; first is its first byte: FIN, reserved bits and opcode.
type frame struct {
	first   byte
	payload []byte
}

var mask = [4]byte{0x37, 0xfa, 0x21, 0x3d}

// send writes a frame.
func (s *socket) send(f frame) error {
	b := []byte{f.first}
	var masked byte
	if s.client {
		masked = 0x80
	}
	switch n := len(f.payload); {
	case n < 126:
		b = append(b, masked|byte(n))
	case n < 1<<16:
		b = binary.BigEndian.AppendUint16(append(b, masked|126), uint16(n))
	default:
		b = binary.BigEndian.AppendUint64(append(b, masked|127), uint64(n))
	}
	if s.client {
		b = append(b, mask[:]...)
		at := len(b)
		b = append(b, f.payload...)
		unmask(b[at:], mask)
	} else {
		b = append(b, f.payload...)
	}
	_, err := s.Write(b)
	return err
}

func unmask(b []byte, key [4]byte) {
	for i := range b {
		b[i] ^= key[i&3]
	}
}

// receive reads a frame into buf, if it has room.
func (s *socket) receive(buf []byte) (frame, error) {
	var head [14]byte
	if _, err := io.ReadFull(s.r, head[:2]); err != nil {
		return frame{}, err
	}
	length := uint64(head[1] & 0x7f)
	switch length {
	case 126:
		if _, err := io.ReadFull(s.r, head[2:4]); err != nil {
			return frame{}, err
		}
		length = uint64(binary.BigEndian.Uint16(head[2:]))
	case 127:
		if _, err := io.ReadFull(s.r, head[2:10]); err != nil {
			return frame{}, err
		}
		length = binary.BigEndian.Uint64(head[2:])
	}
	masked := head[1]&0x80 != 0
	if masked == s.client || length > 4<<20 {
		return frame{}, fmt.Errorf("a frame of %d bytes, masked: %v", length, masked)
	}
	var key [4]byte
	if masked {
		if _, err := io.ReadFull(s.r, key[:]); err != nil {
			return frame{}, err
		}
	}
	if uint64(cap(buf)) < length {
		buf = make([]byte, length)
	}
	payload := buf[:length]
	if _, err := io.ReadFull(s.r, payload); err != nil {
		return frame{}, err
	}
	if masked {
		unmask(payload, key)
	}
	return frame{head[0], payload}, nil
}

func acceptKey(key string) string {
	sum := sha1.Sum([]byte(key + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"))
	return base64.StdEncoding.EncodeToString(sum[:])
}

// echo serves one WebSocket: every frame comes back as it came, in data frames of the same size and FIN; a ping as a pong;
// a close frame with its code and reason, and then the end.
func echo(c net.Conn) {
	s := &socket{Conn: c, r: bufio.NewReaderSize(c, 64<<10)}
	r, err := http.ReadRequest(s.r)
	if err != nil {
		return
	}
	if r.Header.Get("Upgrade") != "websocket" || r.Header.Get("Sec-WebSocket-Version") != "13" {
		io.WriteString(c, "HTTP/1.1 426 Upgrade Required\r\nUpgrade: websocket\r\nConnection: upgrade\r\nContent-Length: 0\r\n\r\n")
		return
	}
	fmt.Fprintf(c, "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: %s\r\n"+
		"Sec-WebSocket-Protocol: %s\r\n\r\n", acceptKey(r.Header.Get("Sec-WebSocket-Key")), r.Header.Get("Sec-WebSocket-Protocol"))
	var buf []byte
	for {
		f, err := s.receive(buf)
		if err != nil {
			return
		}
		buf = f.payload[:cap(f.payload)]
		if f.first&0xf == ping {
			f.first = final | pong
		}
		if s.send(f) != nil || f.first&0xf == closeFrame {
			return
		}
	}
}

// open opens a WebSocket through a pair.
func open(t *testing.T, to netip.AddrPort) (*socket, error) {
	t.Helper()
	c, err := net.Dial("tcp", to.String())
	check(t, err)
	t.Cleanup(func() { c.Close() })
	c.SetDeadline(time.Now().Add(20 * time.Second))
	s := &socket{Conn: c, r: bufio.NewReaderSize(c, 64<<10), client: true}
	key := base64.StdEncoding.EncodeToString([]byte("0123456789abcdef"))
	io.WriteString(c, "GET /chat HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"+
		"Sec-WebSocket-Protocol: chat\r\nSec-WebSocket-Key: "+key+"\r\n\r\n")
	answer, err := http.ReadResponse(s.r, nil)
	if err != nil {
		return nil, err
	}
	if h := answer.Header; answer.StatusCode != http.StatusSwitchingProtocols || h.Get("Sec-WebSocket-Accept") != acceptKey(key) ||
		h.Get("Sec-WebSocket-Protocol") != "chat" || !strings.EqualFold(h.Get("Upgrade"), "websocket") {
		return nil, fmt.Errorf("the answer is %d %v", answer.StatusCode, h)
	}
	return s, nil
}

// closing is the payload of a close frame.
func closing(code uint16, reason string) []byte {
	return append(binary.BigEndian.AppendUint16(nil, code), reason...)
}

// exchanges are frames that are sent, and what must come back.
var exchanges = []struct {
	name string
	send []frame
	want []frame // nil: the same
	ends bool    // the server ends the connection then
}{
	{name: "an empty text", send: []frame{{final | text, nil}}},
	{name: "a text", send: []frame{{final | text, []byte("hello, wörld")}}},
	{name: "125 bytes", send: []frame{{final | binaryFrame, make([]byte, 125)}}},
	{name: "126 bytes", send: []frame{{final | binaryFrame, make([]byte, 126)}}},
	{name: "65,535 bytes", send: []frame{{final | binaryFrame, make([]byte, 65535)}}},
	{name: "65,536 bytes", send: []frame{{final | binaryFrame, make([]byte, 65536)}}},
	{name: "1 MiB in a frame", send: []frame{{final | binaryFrame, bytes.Repeat([]byte("0123456789abcdef"), 1<<16)}}},
	{name: "a ping", send: []frame{{final | ping, []byte("are you there?")}}, want: []frame{{final | pong, []byte("are you there?")}}},
	{name: "a pong that nobody asked for", send: []frame{{final | pong, []byte("x")}}},
	{
		name: "a text in three fragments",
		send: []frame{{text, []byte("one ")}, {continuation, []byte("two ")}, {final | continuation, []byte("three")}},
	},
	{
		name: "empty fragments",
		send: []frame{{text, nil}, {continuation, nil}, {final | continuation, nil}},
	},
	{
		name: "a ping between fragments",
		send: []frame{{binaryFrame, []byte("a")}, {final | ping, []byte("p")}, {final | continuation, []byte("b")}},
		want: []frame{{binaryFrame, []byte("a")}, {final | pong, []byte("p")}, {final | continuation, []byte("b")}},
	},
	{name: "reserved bits, of an extension", send: []frame{{final | 0x40 | text, []byte("compressed")}}},
	{name: "bytes that are no HTTP, but look like it", send: []frame{{final | text, []byte("GET / HTTP/1.1\r\nHost: a\r\n\r\n")}}},
	{name: "close with 1000", send: []frame{{final | closeFrame, closing(1000, "")}}, ends: true},
	{name: "close with 1001 and a reason", send: []frame{{final | closeFrame, closing(1001, "going away")}}, ends: true},
	{name: "close with 1009", send: []frame{{final | closeFrame, closing(1009, "too big")}}, ends: true},
	{name: "close with 1011", send: []frame{{final | closeFrame, closing(1011, "")}}, ends: true},
	{name: "close with 3000", send: []frame{{final | closeFrame, closing(3000, "a library's")}}, ends: true},
	{name: "close with 4999", send: []frame{{final | closeFrame, closing(4999, "an application's")}}, ends: true},
	{name: "close without a code", send: []frame{{final | closeFrame, nil}}, ends: true},
	{name: "close after data", send: []frame{{final | text, []byte("last")}, {final | closeFrame, closing(1000, "")}}, ends: true},
}

func TestWebSocket(t *testing.T) {
	app := pair.Listen(t, func(_ context.Context, c net.Conn) { echo(c) })
	for _, protocol := range []string{"http1", ""} {
		to := behind(t, app, service{protocol: protocol})
		begun, passed := time.Now(), 0
		var failures strings.Builder
		for _, e := range exchanges {
			if err := exchange(t, to.client, e.send, e.want, e.ends); err != nil {
				fmt.Fprintf(&failures, "%s: %v\n", e.name, err)
				continue
			}
			passed++
		}
		name := "WebSocket frames, " + map[string]string{"http1": "declared", "": "detected"}[protocol]
		score(t, name, begun, passed, len(exchanges), failures.String())
	}
}

func exchange(t *testing.T, to netip.AddrPort, send, want []frame, ends bool) error {
	t.Helper()
	s, err := open(t, to)
	if err != nil {
		return err
	}
	defer s.Close()
	for _, f := range send {
		if err := s.send(f); err != nil {
			return err
		}
	}
	if want == nil {
		want = send
	}
	for i, w := range want {
		got, err := s.receive(nil)
		if err != nil {
			return fmt.Errorf("frame %d: %w", i, err)
		}
		if got.first != w.first || !bytes.Equal(got.payload, w.payload) {
			return fmt.Errorf("frame %d is %#x with %d bytes, want %#x with %d", i, got.first, len(got.payload), w.first, len(w.payload))
		}
	}
	if !ends {
		return nil
	}
	if _, err := s.r.ReadByte(); !errors.Is(err, io.EOF) {
		return fmt.Errorf("the connection did not end: %w", err)
	}
	return nil
}

// A WebSocket that carries 1 GiB each way makes the proxies hold no more than one that carries a little.
func TestWebSocketOfAGibibyte(t *testing.T) {
	const size, total = 64 << 10, 1 << 30
	app := pair.Listen(t, func(_ context.Context, c net.Conn) { echo(c) })
	to := behind(t, app, service{protocol: "http1"})
	begun := time.Now()
	s, err := open(t, to.client)
	check(t, err)
	s.SetDeadline(time.Now().Add(5 * time.Minute))
	var memory *pair.Memory
	payload := bytes.Repeat([]byte("heddle__"), size/8)
	failed := make(chan error, 1)
	go func() {
		for range total / size {
			if err := s.send(frame{final | binaryFrame, payload}); err != nil {
				failed <- err
				return
			}
		}
		failed <- nil
	}()
	passed, buf := 0, make([]byte, size)
	for range total / size {
		f, err := s.receive(buf)
		if err != nil || !bytes.Equal(f.payload, payload) {
			t.Errorf("after %d frames: %v", passed, err)
			break
		}
		passed++
		if passed == total/size/16 {
			memory = pair.WatchMemory(to.processes...)
		}
	}
	if passed < total/size {
		s.Close()
	}
	if err := <-failed; err != nil {
		t.Error(err)
	}
	score(t, "WebSocket, 1 GiB each way in frames of 64 KiB", begun, passed, total/size, "")
	checkMemory(t, "WebSocket, 1 GiB each way", memory)
}
