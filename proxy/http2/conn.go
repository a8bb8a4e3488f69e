// SPDX-License-Identifier: Apache-2.0

package http2

import (
	"net"
	"sync"
	"time"

	"github.com/heddle-mesh/heddle/internal/limits"
	"github.com/heddle-mesh/heddle/proxy/message"
)

// Config is what connections of one side of a proxy have in common. It is read only.
type Config struct {
	// Limits bound what a peer can make us do or hold; nil means limits.Default.
	Limits *limits.Set
	// Count hears of limits that were exceeded; nil counts nothing.
	Count limits.Counter
	// Budget is where content that waits in streams is taken from; nil has no end. A stream whose content finds no place is
	// reset with ENHANCE_YOUR_CALM.
	Budget *limits.Budget
	// KeepAlive is the silence of the peer after which it is sent a PING, which it has to answer in half that time; 0 sends
	// none. Servers of gRPC end a connection that they get PINGs on more often than every five minutes, so towards
	// applications it should be 0: they are in the same pod or found out by TCP.
	KeepAlive time.Duration
	// ExtendedConnect offers extended CONNECT (RFC 8441) to clients: a Server takes :protocol.
	ExtendedConnect bool
	// Refused, if not nil, hears of requests that never got to accept: 400 of malformed ones, which are reset, and 414 and
	// 431 of those whose head is over a limit, which are answered. The connection's reader calls it.
	Refused func(status int, detail string)
}

// Conn is one connection of HTTP/2. All methods but Serve are safe from any goroutine.
type Conn struct {
	// Tag belongs to whoever made the connection: it may be set before Serve.
	Tag any

	net    net.Conn
	config *Config
	accept func(*Stream) Sink
	change func(*Conn)

	mu sync.Mutex
}

// Server makes the serving side of a connection whose preface has not been read. accept makes the sink of a new stream:
// the reader calls it and then Sink.Head, with no lock held. If it returns nil the stream is refused, REFUSED_STREAM.
func Server(c net.Conn, cfg *Config, accept func(*Stream) Sink) *Conn {
	return &Conn{net: c, config: cfg, accept: accept}
}

// Client makes the calling side of a connection.
//
// changed, which may be nil, is told when the first SETTINGS of the server have come, when there is room where there was
// none, when the last stream has ended, when the connection takes no new streams any more, and at last when it is over. No lock
// is held, and it is not called from within a call of Open or of a Stream's method, so it may call Open; two calls never
// overlap.
func Client(c net.Conn, cfg *Config, changed func(*Conn)) *Conn {
	return &Conn{net: c, config: cfg, change: changed}
}

// Serve reads the connection until it is over, and closes it. It must be called exactly once. When it returns, every sink has had
// its last event, but for Drained. A connection that ended well, after Drain, the peer's GOAWAY, or its end of file
// without open streams, returns nil.
func (c *Conn) Serve() error { return nil }

// Open sends the head of a request on a new stream; end says that it has no content. The strings of h are not kept. Its
// errors are ErrNoRoom and ErrGone: nothing was sent. Events of s may come before Open returns.
//
// A head that HTTP/2 cannot carry is the caller's mistake: nothing is checked here.
func (c *Conn) Open(h *message.Head, end bool, s Sink) (*Stream, error) { return nil, ErrGone }

// Room is how many streams Open would take now: 0 until the server's first SETTINGS have come and when Gone.
func (c *Conn) Room() int { return 0 }

// Streams is how many streams are open.
func (c *Conn) Streams() int { return 0 }

// Gone says whether the connection takes no new streams any more: it drains or is over.
func (c *Conn) Gone() bool { return true }

// ExtendedConnect says whether the server takes extended CONNECT (RFC 8441).
func (c *Conn) ExtendedConnect() bool { return false }

// Drain ends the connection when the streams that are open have ended; at once where there are none. A server first says
// that it will take no more and goes on taking those that were on their way, for a round trip.
func (c *Conn) Drain() {}

// Close cuts the connection. The sinks of open streams get Reset by the reader; Serve returns err, or ErrClosed.
func (c *Conn) Close(err error) {}
