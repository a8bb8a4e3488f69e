// SPDX-License-Identifier: Apache-2.0

//go:build linux

package traffic

import (
	"bytes"
	"fmt"
	"io"
	"net"
	"net/netip"
	"testing"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

func TestFramesAreCutWhereverTheyWereSplit(t *testing.T) {
	var b bytes.Buffer
	framer := http2.NewFramer(&b, nil)
	_ = framer.WriteSettings(http2.Setting{ID: http2.SettingInitialWindowSize, Val: 70000})
	_ = framer.WriteDataPadded(3, true, []byte("content"), make([]byte, 5))
	_ = framer.WriteWindowUpdate(0, 12345)
	for size := 1; size <= b.Len(); size++ {
		var in frames
		var got []string
		for rest := b.Bytes(); len(rest) > 0; {
			n := min(size, len(rest))
			in.feed(rest[:n], func(f frame) bool {
				text := fmt.Sprintf("%d %d %d", f.kind, f.stream, len(f.payload))
				switch f.kind {
				case frameData:
					text += " " + string(f.content())
				case frameWindowUpdate:
					text += fmt.Sprint(" ", f.number())
				case frameSettings:
					f.settings(func(id uint16, v uint32) { text += fmt.Sprint(" ", id, "=", v) })
				}
				got = append(got, text)
				return true
			})
			rest = rest[n:]
		}
		if want := "[4 0 6 4=70000 0 3 13 content 8 0 4 12345]"; fmt.Sprint(got) != want {
			t.Fatalf("in pieces of %d: %v", size, got)
		}
	}
}

func TestWhatIsWrittenIsHTTP2(t *testing.T) {
	b := appendSettings(nil, settingStreams, 100, settingWindow, grantedStream)
	b = appendWindowUpdate(b, grantedConnection)
	block := requestsOf(Load{Protocol: Unary})[7]
	b = append(appendFrame(b, frameHeaders, flagEndHeaders, 5, len(block)), block...)
	framer := http2.NewFramer(io.Discard, bytes.NewReader(b))
	framer.ReadMetaHeaders = hpack.NewDecoder(4096, nil)
	for range 2 {
		if _, err := framer.ReadFrame(); err != nil {
			t.Fatal(err)
		}
	}
	f, err := framer.ReadFrame()
	if err != nil {
		t.Fatal(err)
	}
	head, ok := f.(*http2.MetaHeadersFrame)
	if !ok || head.PseudoValue("path") != "/r07/shop.Items/Get" || head.PseudoValue("method") != "POST" || head.PseudoValue("authority") != Host {
		t.Errorf("%v", f)
	}
}

func TestRequestsTakeEveryRoute(t *testing.T) {
	for _, protocol := range []string{HTTP1, HTTP2, Unary, Messages} {
		requests := requestsOf(Load{Protocol: protocol, Size: "16k"})
		if len(requests) != Routes {
			t.Fatalf("%s: %d", protocol, len(requests))
		}
		for i, r := range requests {
			if !bytes.Contains(r, fmt.Appendf(nil, "/r%02d/", i)) {
				t.Errorf("%s: request %d takes another route", protocol, i)
			}
		}
	}
}

func TestHeads(t *testing.T) {
	for head, want := range map[string]int{
		"HTTP/1.1 200 OK\r\nContent-Length: 1024\r\nX: y\r\n": 1024,
		"HTTP/1.1 200 OK\r\ncontent-length:7\r\n":             7,
		"HTTP/1.1 200 OK\r\nX-Content-Length: 9\r\n":          0,
		"HTTP/1.1 200 OK\r\nContent-Length: x\r\n":            -1,
		"GET / HTTP/1.1\r\n":                                  0,
	} {
		if got := contentLength([]byte(head)); got != want {
			t.Errorf("%q: %d, want %d", head, got, want)
		}
	}
	for line, want := range map[string]string{
		"GET /r00/items/16k HTTP/1.1": "16k", "/r01/1m": "1m", "GET / HTTP/1.1": "1k", "GET /hold-3-a/1m HTTP/1.1": "1m",
	} {
		if got := sizeOf([]byte(line)); got != want {
			t.Errorf("%q: %s, want %s", line, got, want)
		}
	}
	if n, name := heldTogether([]byte("GET /r00/hold-30-a-b/1k HTTP/1.1")); n != 30 || name != "a-b" {
		t.Error(n, name)
	}
	if n, _ := heldTogether([]byte("GET /r00/1k HTTP/1.1")); n != 0 {
		t.Error(n)
	}
}

// The origin and the generator are both ends of every measurement: they must understand each other, without a proxy.
func TestOriginAndGenerator(t *testing.T) {
	ports := freePorts(t, 3)
	go func() { _ = ServeOrigin(t.Context(), Ports{HTTP1: ports[0], HTTP2: ports[1], TCP: ports[2]}) }()
	for protocol, port := range map[string]int{HTTP1: ports[0], Post: ports[0], HTTP2: ports[1], Unary: ports[1], Messages: ports[1], Download: ports[2], Echo: ports[2]} {
		for _, rate := range []float64{0, 500} {
			l := Load{Target: at(Stable, port), Protocol: protocol, Size: "1k", Query: "a=b", Cookie: "c=d", Connections: 3, Streams: 1, Rate: rate, Duration: 100 * time.Millisecond}
			if protocol == HTTP2 || protocol == Unary || protocol == Messages {
				l.Streams = 7
			}
			if protocol == Download && rate > 0 {
				continue // it has no requests
			}
			awaitListener(t, l.Target)
			r, err := Run(t.Context(), l)
			if err != nil {
				t.Fatalf("%s at %v: %v", protocol, rate, err)
			}
			if r.Errors > 0 || r.Error != "" || r.Bytes == 0 || (protocol != Download && r.Requests == 0) {
				t.Errorf("%s at %v: %+v", protocol, rate, r)
			}
		}
	}
}

func awaitListener(t *testing.T, addr netip.AddrPort) {
	t.Helper()
	for {
		c, err := dialer.DialContext(t.Context(), "tcp", addr.String())
		if err == nil {
			_ = c.Close()
			return
		}
		if t.Context().Err() != nil {
			t.Fatal(err)
		}
	}
}

var dialer net.Dialer

func freePorts(t *testing.T, n int) []int {
	t.Helper()
	var ports []int
	for range n {
		l, err := net.Listen("tcp", netip.AddrPortFrom(Stable, 0).String())
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		ports = append(ports, l.Addr().(*net.TCPAddr).Port)
	}
	return ports
}
