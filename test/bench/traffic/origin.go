// SPDX-License-Identifier: Apache-2.0

//go:build linux

// Package traffic is both ends of what the bench sends: an origin and a generator, each of one thread.
package traffic

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/netip"
	"runtime"
	"strconv"
	"time"

	"github.com/heddle-mesh/heddle/test/bench/epoll"
)

// Sizes are the bodies that the origin has, by the last segment of the path. Any other path is answered as 1k.
var Sizes = map[string]int{"1k": 1 << 10, "16k": 16 << 10, "1m": 1 << 20}

// Stuck ends the paths of requests of HTTP/1.1 that are not answered, and behind which nothing more is read.
const Stuck = "/stuck"

// The addresses of the two versions of the application, which share the traffic nine to one, and of TCP.
var (
	Stable = netip.AddrFrom4([4]byte{127, 0, 0, 11})
	Canary = netip.AddrFrom4([4]byte{127, 0, 0, 12})
)

// Ports of an origin, on both addresses. Each of the first two speaks HTTP/1.1 and HTTP/2 with prior knowledge; there are
// two because a mesh wants to know what a port speaks. Answers say in X-Version which version gave them.
type Ports struct {
	HTTP1, HTTP2 int
	// TCP echoes what begins with 'e', keeps what begins with 'k' until the other side closes it, and sends a block for each
	// byte of anything else.
	TCP int
}

// ServeOrigin serves until ctx ends.
func ServeOrigin(ctx context.Context, ports Ports) error {
	runtime.LockOSThread()
	loop, err := epoll.New()
	if err != nil {
		return err
	}
	defer func() { _ = loop.Close() }()
	block, together := make([]byte, blockSize), gates{}
	for version, ip := range map[string]netip.Addr{"stable": Stable, "canary": Canary} {
		o := newOrigin(version)
		o.gates = together
		accept := func(*epoll.Conn) epoll.Handler { return &sniffer{origin: o} }
		err := errors.Join(
			loop.Listen(at(ip, ports.HTTP1), accept), loop.Listen(at(ip, ports.HTTP2), accept),
			loop.Listen(at(ip, ports.TCP), func(*epoll.Conn) epoll.Handler { return &stream{block: block} }),
		)
		if err != nil {
			return err
		}
	}
	for ctx.Err() == nil {
		if err := loop.Poll(time.Second); err != nil {
			return err
		}
	}
	return nil
}

func at(ip netip.Addr, port int) netip.AddrPort {
	return netip.AddrPortFrom(ip, uint16(port)) //nolint:gosec // a port
}

// origin is what the answers of one version are.
type origin struct {
	version string
	gates   gates             // of both versions together
	http1   map[string][]byte // whole answers, by size
	bodies  map[string][]byte
}

func newOrigin(version string) *origin {
	o := &origin{version: version, http1: map[string][]byte{}, bodies: map[string][]byte{}}
	for name, size := range Sizes {
		body := bytes.Repeat([]byte("0123456789abcdef"), size/16)
		o.bodies[name] = body
		o.http1[name] = fmt.Appendf(nil, "HTTP/1.1 200 OK\r\nDate: Sun, 22 Nov 2026 21:00:00 GMT\r\nContent-Type: text/plain\r\n"+
			"Content-Length: %d\r\nX-Version: %s\r\n\r\n%s", size, version, body)
	}
	return o
}

// sniffer waits for the first bytes, which say which protocol it is.
type sniffer struct {
	origin *origin
	actual epoll.Handler
	seen   []byte
}

func (s *sniffer) Data(c *epoll.Conn, p []byte) {
	if s.actual == nil {
		s.seen = append(s.seen, p...)
		n := min(len(s.seen), len(preface))
		isHTTP2 := string(s.seen[:n]) == preface[:n]
		if isHTTP2 && n < len(preface) {
			return
		}
		p, s.seen = s.seen, nil
		if isHTTP2 {
			s.actual = newHTTP2Server(c, s.origin)
			p = p[len(preface):]
		} else {
			s.actual = &http1Server{origin: s.origin}
		}
	}
	s.actual.Data(c, p)
}

func (s *sniffer) Closed(*epoll.Conn, error) {}

// http1Server answers GETs and what comes with a Content-Length.
type http1Server struct {
	origin *origin
	rest   []byte // of a head that hasn't come whole
	skip   int    // content yet to come
}

var endOfHead = []byte("\r\n\r\n")

func (s *http1Server) Data(c *epoll.Conn, p []byte) {
	if len(s.rest) > 0 {
		s.rest = append(s.rest, p...)
		p, s.rest = s.rest, nil
	}
	for {
		n := min(s.skip, len(p))
		p, s.skip = p[n:], s.skip-n
		if len(p) == 0 {
			return
		}
		end := bytes.Index(p, endOfHead)
		if end < 0 {
			s.rest = append([]byte(nil), p...)
			return
		}
		head := p[:end+2]
		p = p[end+4:]
		s.skip = contentLength(head)
		line := head[:bytes.IndexByte(head, '\r')]
		if bytes.HasSuffix(line, []byte("/seen HTTP/1.1")) {
			c.WriteStatic(fmt.Appendf(nil, "HTTP/1.1 200 OK\r\nContent-Length: %d\r\nX-Version: %s\r\n\r\n%s", len(head), s.origin.version, head))
			continue
		}
		if bytes.HasSuffix(line, []byte(Stuck+" HTTP/1.1")) {
			c.Deafen()
			return
		}
		if n, name := heldTogether(line); n > 0 {
			s.origin.gates.hold(c, s.origin.http1[sizeOf(line)], n, name)
			continue
		}
		c.WriteStatic(s.origin.http1[sizeOf(line)])
	}
}

func (s *http1Server) Closed(*epoll.Conn, error) {}

// heldTogether reads how many requests are to be here before any is answered, and which: /hold-100-a/ in the path. 0
// answers at once.
func heldTogether(line []byte) (n int, name string) {
	_, rest, ok := bytes.Cut(line, []byte("/hold-"))
	if !ok {
		return 0, ""
	}
	segment, _, _ := bytes.Cut(rest, []byte("/"))
	number, id, _ := bytes.Cut(segment, []byte("-"))
	n, err := strconv.Atoi(string(number))
	if err != nil {
		return 0, ""
	}
	return n, string(id)
}

// gates hold answers until so many are asked for. That makes a proxy open as many connections.
type gates map[string][]held

type held struct {
	conn   *epoll.Conn
	answer []byte
}

func (g gates) hold(c *epoll.Conn, answer []byte, n int, name string) {
	g[name] = append(g[name], held{c, answer})
	if len(g[name]) < n {
		return
	}
	for _, h := range g[name] {
		h.conn.WriteStatic(h.answer)
	}
	delete(g, name)
}

// stream is the origin of TCP.
type stream struct {
	block             []byte
	echo, keep, begun bool
}

// blockSize is what one credit of a download is worth. The client sends a byte for each block that has come, so that no
// more is under way than it allows: sockets along the way would take 32 MiB of each connection, and starve each other.
const blockSize = 256 << 10

func (s *stream) Data(c *epoll.Conn, p []byte) {
	if !s.begun {
		s.begun, s.echo = true, p[0] == 'e'
		if s.keep = p[0] == 'k'; s.keep {
			c.Linger()
		}
	}
	if s.keep {
		return
	}
	if s.echo {
		c.Write(p)
		return
	}
	for range p {
		c.WriteStatic(s.block)
	}
}

func (s *stream) Closed(*epoll.Conn, error) {}
