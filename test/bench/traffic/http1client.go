// SPDX-License-Identifier: Apache-2.0

//go:build linux

package traffic

import (
	"bytes"
	"errors"
	"fmt"
	"strings"

	"github.com/heddle-mesh/heddle/test/bench/epoll"
)

// Routes is how many routes every proxy has: /r00/ to /r49/.
const Routes = 50

// Host is the name of the service that is called.
const Host = "web.shop.svc.cluster.local"

// requestsOf returns what is sent, one for each route.
func requestsOf(load Load) [][]byte {
	var out [][]byte
	for i := range Routes {
		path := fmt.Sprintf("/r%02d/items/%s", i, load.Size)
		if load.Query != "" {
			path += "?" + load.Query
		}
		switch load.Protocol {
		case HTTP1:
			out = append(out, http1Request("GET", path, load.Cookie, ""))
		case Post:
			out = append(out, http1Request("POST", path, load.Cookie, strings.Repeat("c", 1<<10)))
		case HTTP2:
			b := append([]byte(nil), 0x82, 0x86) // :method GET, :scheme http
			b = appendIndexedName(b, 4, path)
			b = appendIndexedName(b, 1, Host)
			b = appendField(b, "user-agent", "bench/1")
			b = appendField(b, "accept", "*/*")
			if load.Cookie != "" {
				b = appendField(b, "cookie", load.Cookie)
			}
			out = append(out, appendField(b, "x-request-id", "0123456789abcdef"))
		case Unary, Messages:
			b := append([]byte(nil), 0x83, 0x86) // :method POST, :scheme http
			b = appendIndexedName(b, 4, fmt.Sprintf("/r%02d/shop.Items/Get", i))
			b = appendIndexedName(b, 1, Host)
			b = appendField(b, "content-type", "application/grpc")
			b = appendField(b, "te", "trailers")
			b = appendField(b, "user-agent", "grpc-bench/1")
			out = append(out, appendField(b, "grpc-timeout", "20S"))
		default:
			out = append(out, bytes.Repeat([]byte("e"), 1<<10))
		}
	}
	return out
}

func http1Request(method, path, cookie, content string) []byte {
	b := fmt.Appendf(nil, "%s %s HTTP/1.1\r\nHost: %s\r\nUser-Agent: bench/1\r\nAccept: */*\r\nX-Request-Id: 0123456789abcdef\r\n", method, path, Host)
	if cookie != "" {
		b = fmt.Appendf(b, "Cookie: %s\r\n", cookie)
	}
	if content != "" {
		b = fmt.Appendf(b, "Content-Length: %d\r\n", len(content))
	}
	return append(append(b, "\r\n"...), content...)
}

// appendIndexedName appends a literal that isn't indexed, whose name is that of the static table's entry (RFC 7541,
// 6.2.2 and appendix A), of under 15.
func appendIndexedName(b []byte, index byte, value string) []byte {
	b = append(b, index, byte(len(value))) //nolint:gosec // short
	return append(b, value...)
}

// index finds the end of a head, -1 if it hasn't come.
func index(p []byte) int { return bytes.Index(p, endOfHead) }

// http1Client has one request at a time.
type http1Client struct {
	g    *generator
	slot *slot
	conn *epoll.Conn
	rest []byte // of a head that hasn't come whole
	left int    // content yet to come
}

func (c *http1Client) attach(conn *epoll.Conn) { c.conn = conn }

func (c *http1Client) issue(*slot) { c.conn.WriteStatic(c.g.next()) }

var errStatus = errors.New("the answer isn't 200 with a Content-Length")

func (c *http1Client) Data(conn *epoll.Conn, p []byte) {
	if c.left == 0 {
		if len(c.rest) > 0 {
			c.rest = append(c.rest, p...)
			p, c.rest = c.rest, nil
		}
		end := bytes.Index(p, endOfHead)
		if end < 0 {
			c.rest = append([]byte(nil), p...)
			return
		}
		length := contentLength(p[:end+2])
		if length <= 0 || len(p) < 12 || string(p[9:12]) != "200" {
			conn.Close()
			c.g.failed([]*slot{c.slot}, fmt.Errorf("%w: %q", errStatus, p[:end]))
			return
		}
		c.left = length
		p = p[end+4:]
	}
	if len(p) > c.left {
		conn.Close()
		c.g.failed([]*slot{c.slot}, errors.New("more content than declared"))
		return
	}
	c.left -= len(p)
	c.slot.got += len(p)
	if c.left == 0 {
		c.g.done(c.slot)
	}
}

func (c *http1Client) Closed(_ *epoll.Conn, err error) { c.g.failed([]*slot{c.slot}, err) }

// tcpClient sends a block and waits for its echo, or takes in all that comes.
type tcpClient struct {
	g    *generator
	slot *slot
	conn *epoll.Conn
}

func (c *tcpClient) attach(conn *epoll.Conn) { c.conn = conn }

func (c *tcpClient) issue(*slot) {
	if c.g.load.Protocol == Download {
		c.conn.Write([]byte("dddd")) // blocks under way
		return
	}
	c.conn.WriteStatic(c.g.next())
}

func (c *tcpClient) Data(_ *epoll.Conn, p []byte) {
	if c.g.load.Protocol == Download {
		if now := c.g.now(); now >= c.g.from && now < c.g.until {
			c.g.result.Bytes += int64(len(p))
		}
		for c.slot.got += len(p); c.slot.got >= blockSize; c.slot.got -= blockSize {
			c.conn.Write([]byte("d"))
		}
		return
	}
	if c.slot.got += len(p); c.slot.got >= 1<<10 {
		c.g.done(c.slot)
	}
}

func (c *tcpClient) Closed(_ *epoll.Conn, err error) { c.g.failed([]*slot{c.slot}, err) }
