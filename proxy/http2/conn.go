// SPDX-License-Identifier: Apache-2.0

package http2

import (
	"net"
	"sync"
	"sync/atomic"
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
	// none. Both are looked at every five seconds. Servers of gRPC end a connection that they get PINGs on more often than
	// every five minutes, so towards applications it should be 0: they are in the same pod or found out by TCP.
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
	set    *limits.Set
	count  limits.Counter
	client bool
	accept func(*Stream) Sink
	change func(*Conn)

	reader
	batch  batch
	heard  atomic.Uint32 // reads that brought something
	notify atomic.Bool   // change is to be called
	wrote  chan struct{} // closed when the writer has ended

	mu   sync.Mutex // of all that follows
	wake sync.Cond  // of the writer
	// awake says that the writer is at work, or that somebody will wake it.
	awake bool
	// later says that it is a batch that will wake it, at its end.
	later bool
	out   *output // nil while there is nothing to write
	// at is the number of bytes that were ever appended to out, written that of bytes that went to Write.
	at, written uint64
	writes      uint32 // calls of Write
	writing     bool   // Write is under way
	enc         encoder
	ready       queue
	drained     []drained
	streams     map[uint32]*Stream
	closed      *[closedSlots]uint32
	sendWindow  int
	spent       int  // of the window, and not given back
	recvInitial int  // window of streams that begin, as the peer has it
	acked       bool // the peer has taken our settings
	peer        settings
	settled     bool   // the peer's first settings have come
	last        uint32 // greatest stream number: the peer's of a server, our own of a client
	taken       uint32 // of a server: the greatest that was acted upon; later ones came after its GOAWAY
	stage       stage
	peerLast    uint32 // last stream that the peer's GOAWAY lets live; streamMost without one
	peerCode    Code   // of the peer's GOAWAY
	deadline    time.Time
	poked       bool
	errands     []*Stream
	fatal       error // what the reader has to end the connection with
	broken      error // why nothing can be written any more
	ending      bool  // the writer has to write what there is and to end
	killed      bool  // the writer has to end at once
	resets      counter
	controls    counter
	watch       watch
}

// settings are the peer's.
type settings struct {
	window   int // of streams that begin
	streams  int // that may be open
	extended bool
}

// stage is how far a connection is on its way to its end.
type stage uint8

const (
	open     stage = iota
	leaving        // a server has said that it will leave; streams that were on their way are taken
	draining       // no new streams
	over           // no streams
)

// streamsUnknown is how many streams a client has open before it knows how many it may.
const streamsUnknown = 100

// Server makes the serving side of a connection whose preface has not been read; TLS has done its handshake. accept makes the sink of a new stream:
// the reader calls it and then Sink.Head, with no lock held. If it returns nil the stream is refused, REFUSED_STREAM.
func Server(c net.Conn, cfg *Config, accept func(*Stream) Sink) *Conn {
	conn := newConn(c, cfg)
	conn.accept, conn.prefaceLeft = accept, preface
	conn.introduce()
	return conn
}

// Client makes the calling side of a connection; TLS has done its handshake.
//
// changed, which may be nil, is told when the first SETTINGS of the server have come, when there is room where there was
// none, when the last stream has ended, when the connection takes no new streams any more, and at last when it is over. No
// lock is held, and it is called by the connection's two goroutines alone, never from within a call of Open or of a
// Stream's method: so it may call Open.
func Client(c net.Conn, cfg *Config, changed func(*Conn)) *Conn {
	conn := newConn(c, cfg)
	conn.client, conn.change = true, changed
	conn.introduce()
	return conn
}

func newConn(nc net.Conn, cfg *Config) *Conn {
	c := &Conn{
		net: nc, config: cfg, set: cfg.Limits, count: cfg.Count, enc: newEncoder(), streams: make(map[uint32]*Stream),
		wrote: make(chan struct{}), sendWindow: windowDefault, recvInitial: windowDefault, peerLast: streamMost,
		peer: settings{window: windowDefault, streams: streamsUnknown},
	}
	if c.set == nil {
		set := limits.Default()
		c.set = &set
	}
	if c.count == nil {
		c.count = limits.Nop{}
	}
	c.wake.L = &c.mu
	c.init(c.set)
	return c
}

// introduce appends what comes first on the connection: preface, settings and the connection's window.
func (c *Conn) introduce() {
	b := c.output()
	if c.client {
		b = append(b, preface...)
	}
	at := len(b)
	b = appendFrame(b, 0, frameSettings, 0, 0)
	if c.client {
		b = appendSetting(b, settingPush, 0)
	} else {
		b = appendSetting(b, settingStreams, c.set.Streams)
		if c.config.ExtendedConnect {
			b = appendSetting(b, settingExtendedConnect, 1)
		}
	}
	b = appendSetting(b, settingWindow, c.set.StreamWindow)
	b = appendSetting(b, settingHeadSize, c.set.HeaderBytes)
	putLength(b[at:], len(b)-at-frameHead)
	if more := c.set.ConnectionWindow - windowDefault; more > 0 {
		b = appendWindow(b, 0, more)
	}
	c.appended(b)
}

// Room is how many streams Open would take now: 0 until the server's first SETTINGS have come and when Gone.
func (c *Conn) Room() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.room()
}

func (c *Conn) room() int {
	if !c.client || !c.settled || c.stage != open {
		return 0
	}
	return max(0, min(c.peer.streams-len(c.streams), int(streamMost-c.last)/2))
}

// Streams is how many streams are open.
func (c *Conn) Streams() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.streams)
}

// Gone says whether the connection takes no new streams any more: it drains or is over.
func (c *Conn) Gone() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.stage != open
}

// ExtendedConnect says whether the server takes extended CONNECT (RFC 8441).
func (c *Conn) ExtendedConnect() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.peer.extended
}

// Open sends the head of a request on a new stream; end says that it has no content. The strings of h are not kept. Its
// errors are ErrNoRoom and ErrGone: nothing was sent. Events of s may come before Open returns.
//
// If s has a method Source() *Conn that returns one, the stream is paired with it: see Stream.Pair.
//
// A head that HTTP/2 cannot carry is the caller's mistake: nothing is checked here.
func (c *Conn) Open(h *message.Head, end bool, s Sink) (*Stream, error) {
	var pair *Conn
	if from, ok := s.(interface{ Source() *Conn }); ok {
		pair = from.Source()
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.client || c.stage != open {
		return nil, ErrGone
	}
	if c.room() == 0 {
		return nil, ErrNoRoom
	}
	if c.last == 0 {
		c.last = 1
	} else {
		c.last += 2
	}
	st := &Stream{
		conn: c, id: c.last, sink: s, pair: pair, sendWindow: c.peer.window, recvWindow: c.recvInitial, headAt: c.at,
		expect: message.Unknown, noContent: h.Method == headMethod, connect: h.Method == connectMethod,
	}
	c.streams[st.id] = st
	c.writeHead(st, h, end)
	if end {
		st.sealed, st.localEnd = true, true
	}
	if c.room() == 0 && c.last >= streamMost-2 {
		c.leave(draining)
	}
	c.kick(pair)
	return st, nil
}

// Drain ends the connection when the streams that are open have ended; at once where there are none. A server first says
// that it will take no more and goes on taking those that were on their way, for a round trip.
func (c *Conn) Drain() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.stage == open {
		c.drain()
	}
}

// drain is Drain. c.mu is held.
func (c *Conn) drain() {
	if c.client {
		c.appended(appendGoAway(c.output(), 0, NoError, ""))
		c.leave(draining)
		return
	}
	b := appendGoAway(c.output(), streamMost, NoError, "")
	c.appended(appendPing(b, 0, pingDrain))
	c.leave(leaving)
}

// leave goes to a later stage, and ends the connection where nothing is left to do. c.mu is held.
func (c *Conn) leave(to stage) {
	if c.stage >= to {
		return
	}
	c.stage = to
	c.notify.Store(true)
	c.leaveIfDone()
	c.kick(nil)
}

// leaveIfDone lets the reader end a draining connection that has no streams. c.mu is held.
func (c *Conn) leaveIfDone() {
	if c.stage == draining && len(c.streams) == 0 {
		c.stage = over
		c.poke()
	}
}

// Close cuts the connection. The sinks of open streams get Reset by the reader; Serve returns err, or ErrClosed.
func (c *Conn) Close(err error) {
	if err == nil {
		err = ErrClosed
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.fatal == nil {
		c.fatal = err
	}
	c.kill()
}

// kill ends the writer, and the reader's wait. c.mu is held.
func (c *Conn) kill() {
	if c.killed {
		return
	}
	c.killed = true
	c.stage = over
	c.notify.Store(true)
	_ = c.net.SetDeadline(past)
	c.wake.Signal()
}

// past is a deadline that ends what is under way.
var past = time.Unix(1, 0)
