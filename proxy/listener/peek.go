// SPDX-License-Identifier: Apache-2.0

package listener

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"time"

	"github.com/heddle-mesh/heddle/proxy/forward"
	"github.com/heddle-mesh/heddle/proxy/socket"
)

// firstPeek is how many bytes a connection's first look may hold: most requests' line, not a ClientHello.
const firstPeek = 512

// Peek makes the first bytes of a connection detectable. It takes TCP connections and TLS connections after their
// handshake: those whose reads can time out and go on later. For another that can't end one direction alone CloseWrite
// fails.
func Peek(c net.Conn) forward.Peeker { return &peeked{Conn: c} }

type peeked struct {
	net.Conn
	buf []byte // looked at and not yet read
}

// Detect implements forward.Peeker.
func (p *peeked) Detect(ctx context.Context) (forward.Protocol, error) {
	protocol, need := Classify(p.buf)
	if protocol != forward.Unknown {
		return protocol, nil
	}
	release := p.interruptible(ctx)
	defer release()
	for {
		var err error
		if len(p.buf) == 0 {
			err = socket.Wait(p.Conn) // who has not spoken costs no buffer
		}
		if err == nil {
			err = p.fill(need)
		}
		if protocol, need = Classify(p.buf); protocol != forward.Unknown {
			return protocol, nil
		}
		switch {
		case err == nil:
		case errors.Is(err, io.EOF):
			return forward.Opaque, nil
		case errors.Is(err, os.ErrDeadlineExceeded) && ctx.Err() != nil:
			return forward.Unknown, nil
		default:
			return forward.Unknown, fmt.Errorf("read the first bytes: %w", err)
		}
	}
}

// interruptible has reads time out when ctx ends. The function it returns takes that back.
func (p *peeked) interruptible(ctx context.Context) (release func()) {
	done := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		defer close(done)
		_ = p.SetReadDeadline(time.Unix(1, 0))
	})
	return func() {
		if !stop() {
			<-done
			_ = p.SetReadDeadline(time.Time{})
		}
	}
}

// fill reads once, into room for what is needed.
func (p *peeked) fill(need int) error {
	if have := len(p.buf); cap(p.buf)-have < max(need-have, 1) {
		grown := make([]byte, have, max(firstPeek, need, min(2*have, maxPeek)))
		copy(grown, p.buf)
		p.buf = grown
	}
	n, err := p.Conn.Read(p.buf[len(p.buf):cap(p.buf)])
	p.buf = p.buf[:len(p.buf)+n]
	return err
}

// ServerName implements forward.Peeker.
func (p *peeked) ServerName() string { return serverName(p.buf) }

// Buffered implements forward.Peeker.
func (p *peeked) Buffered() int { return len(p.buf) }

// Read implements net.Conn.
func (p *peeked) Read(b []byte) (int, error) {
	if len(p.buf) == 0 {
		return p.Conn.Read(b)
	}
	n := copy(b, p.buf)
	p.buf = p.buf[n:]
	if len(p.buf) == 0 {
		p.buf = nil // an idle connection holds no buffer
	}
	return n, nil
}

// NetConn implements socket.Around.
func (p *peeked) NetConn() net.Conn { return p.Conn }

// Under implements socket.Around, so that what is carried stays in the kernel, and what waits holds no buffer.
func (p *peeked) Under() net.Conn {
	if len(p.buf) > 0 {
		return nil
	}
	return p.Conn
}

// CloseWrite implements forward.Peeker.
func (p *peeked) CloseWrite() error {
	half, ok := p.Conn.(interface{ CloseWrite() error })
	if !ok {
		return fmt.Errorf("end one direction of a %T: %w", p.Conn, errors.ErrUnsupported)
	}
	return half.CloseWrite()
}
