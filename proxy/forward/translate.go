// SPDX-License-Identifier: Apache-2.0

package forward

import (
	"errors"
	"io"
	"os"
	"sync"
	"time"

	"github.com/heddle-mesh/heddle/internal/limits"
	"github.com/heddle-mesh/heddle/proxy/http2"
	"github.com/heddle-mesh/heddle/proxy/message"
	"github.com/heddle-mesh/heddle/proxy/refusal"
	"github.com/heddle-mesh/heddle/proxy/upstream"
)

// translatedWindow is how much of an answer may be on its way from a server of HTTP/1.1 to a caller of HTTP/2.
const translatedWindow = 64 << 10

// translated makes a connection of HTTP/1.1 look like the stream that carries a try of an HTTP/2 request. Two goroutines,
// one that writes the request and one that reads the answer, turn the connection's blocking calls into events. What waits
// in it is bounded by the caller's window on one side and by its own on the other.
type translated struct {
	t        *h2try
	endpoint *upstream.Endpoint
	request  message.Head
	timeout  time.Duration // of making a connection; 0: the default
	key      string        // of the WebSocket handshake, or empty
	given    chan struct{} // closed when the try is given up before there is a connection
	conn     *upstream.Conn1

	mu      sync.Mutex
	changed sync.Cond
	queue   []byte // content of the request that is to be written
	spare   []byte // the queue before
	ended   bool   // no more will come
	trailer []message.Field
	written bool // all of the request was written
	stopped bool // the server takes no more of the request
	window  int  // bytes of the answer that the relay would take
	over    bool // nothing is to be done any more
}

// translate carries the try on a connection of HTTP/1.1. The head may be used until the try is opened or has failed.
func (t *h2try) translate(endpoint *upstream.Endpoint, out *message.Head, end bool, timeout time.Duration) {
	x := &translated{t: t, endpoint: endpoint, timeout: timeout, given: make(chan struct{}), window: translatedWindow, ended: end}
	x.changed.L = &x.mu
	x.request = *out
	x.request.Fields = append(make([]message.Field, 0, len(out.Fields)+4), out.Fields...)
	x.key = toHTTP1(&x.request, end)
	r := t.r
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.try == t {
		t.wait = x
		go x.run()
	}
}

// Cancel implements waiting, for a connection.
func (x *translated) Cancel() bool {
	close(x.given)
	return true // what is written to one that comes all the same is not flushed
}

// run carries the try.
func (x *translated) run() {
	conn, failure := x.connect()
	if failure != nil {
		x.t.failed(failure, nil)
		return
	}
	x.conn = conn
	conn.SetDeadline(time.Time{}) // whoever had it before may have set one
	defer x.leave()
	if err := conn.WriteRequest(&x.request); err != nil {
		x.t.r.giveUp(func() *refusal.Error {
			return &refusal.Error{Reason: refusal.BadRequest, Detail: "HTTP/1.1 cannot carry the request", Cause: err}
		})
		return
	}
	x.t.opened(x)
	x.begin()
	if err := x.read(); err != nil {
		failure, stale := conn.Failed(err)
		var reset *http2.StreamError
		if stale {
			reset = &http2.StreamError{Unprocessed: true}
		}
		x.t.failed(failure, reset)
	}
}

// connect borrows a connection. After some that were not good any more it is one that has not been idle.
func (x *translated) connect() (*upstream.Conn1, *upstream.Failure) {
	r := x.t.r
	r.mu.Lock()
	stale := r.stale
	r.mu.Unlock()
	if stale < maxStale {
		if conn := x.endpoint.Reuse(r.on.side.Clock()); conn != nil {
			return conn, nil
		}
	}
	if failure := x.t.queue(); failure != nil {
		return nil, failure
	}
	return x.endpoint.Connect(time.Time{}, x.given, x.timeout)
}

// begin sends the head, with the content if all of that is here. Otherwise the content follows as it comes.
func (x *translated) begin() {
	x.mu.Lock()
	whole := x.ended && len(x.queue) <= mostUnsent
	x.mu.Unlock()
	switch {
	case x.mayTunnel():
		x.conn.Flush()
	case whole:
		x.write()
	default:
		go x.write()
	}
}

// mayTunnel says whether what follows the head may be bytes: an upgrade or CONNECT.
func (x *translated) mayTunnel() bool {
	return x.request.Upgrade != "" || x.request.Method == methodConnect
}

// write writes the content of the request.
func (x *translated) write() {
	if x.isEmpty() {
		if err := x.conn.Flush(); err != nil {
			x.stop(err)
			return
		}
	}
	for {
		p, end, ok := x.next()
		if !ok {
			return
		}
		_, err := x.conn.Write(p)
		if err == nil && end {
			err = x.conn.End(x.trailer)
		}
		if err == nil {
			err = x.conn.Flush()
		}
		if !x.wrote(len(p), end, err) {
			return
		}
	}
}

// isEmpty says whether nothing waits to be written.
func (x *translated) isEmpty() bool {
	x.mu.Lock()
	defer x.mu.Unlock()
	return len(x.queue) == 0 && !x.ended
}

// next waits for content, or the end of it. It is not ok when there is nothing to be done any more.
func (x *translated) next() (p []byte, end, ok bool) {
	x.mu.Lock()
	defer x.mu.Unlock()
	for len(x.queue) == 0 && !x.ended && !x.over {
		x.changed.Wait()
	}
	if x.over {
		return nil, true, false
	}
	p = x.queue
	x.queue, x.spare = x.spare[:0], p
	return p, x.ended, true
}

// wrote reports what became of content, and says whether there is more to come.
func (x *translated) wrote(n int, end bool, err error) bool {
	x.budget().Give(n)
	if err != nil {
		x.stop(err)
		return false
	}
	if end {
		x.mu.Lock()
		x.written = true
		x.changed.Broadcast()
		x.mu.Unlock()
	}
	if n > 0 {
		x.t.Drained(n)
	}
	return !end
}

// budget is where what waits here is counted.
func (x *translated) budget() *limits.Budget { return x.t.r.on.side.Budget }

// breakOff ends a tunnel both ways: bytes were lost. Nobody would find out otherwise, for the server may have ended its
// side, or stay silent for ever.
func (x *translated) breakOff(err error) {
	x.t.failed(&upstream.Failure{Reason: refusal.UpstreamFailed, Err: err}, nil)
	x.Reset(http2.Cancel)
}

// stop notes that the server takes no more of the request. It may answer all the same, unless it has taken nothing for too
// long.
func (x *translated) stop(err error) {
	if errors.Is(err, os.ErrDeadlineExceeded) {
		x.conn.Interrupt()
	}
	x.mu.Lock()
	defer x.mu.Unlock()
	x.stopped = true
	x.changed.Broadcast()
}

// read reads the answer and gives it to the relay.
func (x *translated) read() error {
	var h message.Head
	for {
		if err := x.conn.ReadResponse(&h, &x.request); err != nil {
			return err
		}
		if h.Status == 101 || x.request.Method == methodConnect && h.Status >= 200 && h.Status < 300 {
			return x.tunnel(&h)
		}
		if h.Status >= 200 {
			break
		}
		x.t.Head(&h, false)
	}
	end := x.conn.Remaining() == 0
	x.t.Head(&h, end)
	if !end {
		if err := x.readContent(); err != nil {
			return err
		}
	}
	x.settle()
	return nil
}

// readContent reads the content as fast as the relay takes it.
func (x *translated) readContent() error {
	buf := takeBuffer()
	defer buf.give()
	for {
		room := x.room()
		if room == 0 {
			return nil
		}
		n, err := x.conn.Read(buf[:min(room, len(buf))])
		x.took(n)
		end := x.conn.Remaining() == 0 && len(x.conn.Trailer()) == 0
		switch {
		case n > 0:
			x.t.Data(buf[:n], end)
		case errors.Is(err, io.EOF) && len(x.conn.Trailer()) > 0:
			x.t.Trailer(x.conn.Trailer())
			return nil
		case errors.Is(err, io.EOF):
			x.t.Data(nil, true)
			return nil
		case err != nil:
			return err
		}
		if end {
			return nil
		}
	}
}

// room waits until the relay takes more, and says how much; 0: it takes nothing any more.
func (x *translated) room() int {
	x.mu.Lock()
	defer x.mu.Unlock()
	for x.window == 0 && !x.over {
		x.changed.Wait()
	}
	if x.over {
		return 0
	}
	return x.window
}

func (x *translated) took(n int) {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.window -= n
}

// settle waits, after the answer, until the rest of the request was written. One of which not all is here is not waited
// for: the server has said all that it has to say.
func (x *translated) settle() {
	x.mu.Lock()
	for x.ended && !x.written && !x.stopped && !x.over {
		x.changed.Wait()
	}
	written := x.written
	x.mu.Unlock()
	if !written {
		x.t.Reset(&http2.StreamError{Code: http2.NoError, FromPeer: true})
	}
}

// leave gives the connection back, or closes it.
func (x *translated) leave() {
	x.mu.Lock()
	again := x.written && !x.over
	x.finish()
	x.mu.Unlock()
	if again {
		x.conn.Put(x.t.r.on.side.Clock())
	} else {
		x.conn.Close()
	}
}

// finish ends it. The lock is held.
func (x *translated) finish() {
	x.over = true
	x.budget().Give(len(x.queue))
	x.queue = nil
	x.changed.Broadcast()
}

// SendData implements sender.
func (x *translated) SendData(p []byte, end bool) (passed int) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.over {
		return 0
	}
	x.budget().Must(len(p))
	x.queue = append(x.queue, p...)
	x.ended = x.ended || end
	x.changed.Broadcast()
	return 0
}

// SendTrailer implements sender.
func (x *translated) SendTrailer(fields []message.Field) {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.trailer, x.ended = append([]message.Field(nil), fields...), true
	x.changed.Broadcast()
}

// Consumed implements sender.
func (x *translated) Consumed(n int) {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.window += n
	x.changed.Broadcast()
}

// Reset implements sender.
func (x *translated) Reset(http2.Code) {
	x.mu.Lock()
	over := x.over
	x.finish()
	x.mu.Unlock()
	if !over {
		x.conn.Close()
	}
}
