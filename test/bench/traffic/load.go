// SPDX-License-Identifier: Apache-2.0

//go:build linux

package traffic

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"time"

	"github.com/heddle-mesh/heddle/test/bench/epoll"
	"github.com/heddle-mesh/heddle/test/bench/stats"
)

// generator is one run.
type generator struct {
	load     Load
	loop     *epoll.Loop
	requests [][]byte // one for each route, in turn
	turn     int

	begin, from, until time.Duration // from and until bound what counts, as the distance from epoch
	epoch              time.Time
	schedule           *stats.Schedule // nil sends on every answer
	due                []time.Duration // meant to be sent, and waiting for a slot
	free               ring
	slots              []*slot
	stopped            bool
	active             int // requests that are under way at once, at most
	primed             int // slots whose first answer has come
	redials            int
	result             Result
	latency            stats.Histogram
}

// slot carries one request at a time.
type slot struct {
	client  client
	busy    bool
	primed  bool
	meant   time.Duration // since epoch
	stream  uint32        // HTTP/2: 0 is none
	message int           // gRPC: of the stream
	got     int           // content that came
}

// client is a connection.
type client interface {
	epoll.Handler
	issue(*slot)
	attach(*epoll.Conn)
}

// maxRedials bounds how often a run connects anew before it gives up.
const maxRedials = 100

// grace is how long answers are waited for after the end of an open-loop run.
const grace = 2 * time.Second

// Run generates a load until it is done, or ctx ends.
func Run(ctx context.Context, load Load) (*Result, error) {
	runtime.LockOSThread()
	loop, err := epoll.New()
	if err != nil {
		return nil, err
	}
	defer func() { _ = loop.Close() }()
	g := &generator{load: load, loop: loop, requests: requestsOf(load), epoch: time.Now()}
	if load.Rate > 0 {
		g.schedule = stats.NewSchedule(load.Rate, load.Seed)
	}
	for range load.Connections {
		if err := g.connect(g.newSlots()); err != nil {
			return nil, err
		}
	}
	g.free = newRing(len(g.slots))
	if err := g.prime(ctx); err != nil {
		return nil, err
	}
	if err := g.run(ctx); err != nil {
		return nil, err
	}
	g.result.P50, g.result.P99, g.result.P999 = g.latency.Quantile(0.5), g.latency.Quantile(0.99), g.latency.Quantile(0.999)
	return &g.result, nil
}

func (g *generator) now() time.Duration { return time.Since(g.epoch) }

func (g *generator) newSlots() []*slot {
	slots := make([]*slot, g.load.Streams)
	for i := range slots {
		slots[i] = &slot{}
	}
	g.slots = append(g.slots, slots...)
	return slots
}

func (g *generator) connect(slots []*slot) error {
	var c client
	switch g.load.Protocol {
	case HTTP1, Post:
		c = &http1Client{g: g, slot: slots[0]}
	case HTTP2, Unary, Messages:
		c = newHTTP2Client(g, slots)
	case Download, Echo:
		c = &tcpClient{g: g, slot: slots[0]}
	default:
		return fmt.Errorf("protocol %q", g.load.Protocol)
	}
	for _, s := range slots {
		s.client = c
	}
	conn, err := g.loop.Dial(g.load.Target, c)
	if err != nil {
		return err
	}
	c.attach(conn)
	return nil
}

// primeLimit bounds how long the first answers may take: 8,000 handshakes take seconds.
const primeLimit = 60 * time.Second

// handshaking bounds how many slots wait for their first answer at once: a burst of 8,000 handshakes would run into the
// timeouts of every proxy, which is not what is to be measured.
const handshaking = 256

// prime brings one slot after the other to its first answer, so that all connections are there, also those behind the
// proxy, and then begins. Where all slots are to send at once, they go on sending meanwhile, or a proxy could do with
// fewer connections.
func (g *generator) prime(ctx context.Context) error {
	schedule := g.schedule
	g.schedule, g.from, g.until = nil, 1<<62, 1<<62
	if g.load.Active == 0 {
		g.active = len(g.slots)
	}
	for started := 0; g.load.Protocol != Download && g.primed < len(g.slots); {
		for ; started < len(g.slots) && started-g.primed < handshaking; started++ {
			g.send(g.slots[started], g.now())
		}
		if g.now() > primeLimit || g.stopped {
			return fmt.Errorf("%d of %d first requests have no answer: %s", len(g.slots)-g.primed, len(g.slots), g.result.Error)
		}
		if err := errors.Join(ctx.Err(), g.loop.Poll(time.Second)); err != nil {
			return err
		}
	}
	g.schedule, g.active = schedule, len(g.slots)
	if g.load.Active > 0 {
		g.active = g.load.Active
	}
	g.begin = g.now()
	g.from = g.begin + g.load.Warmup
	g.until = g.from + g.load.Duration
	if g.load.Protocol == Download {
		for _, s := range g.slots {
			g.send(s, g.begin)
		}
	} else if schedule == nil {
		g.fill(g.begin)
	}
	return nil
}

// fill sends until as much is under way as is to be.
func (g *generator) fill(now time.Duration) {
	for g.free.n > 0 && len(g.slots)-g.free.n < g.active {
		g.send(g.free.pop(), now)
	}
}

// run is the loop. What is counted begins at from and ends at until; the processor time is taken at the same moments.
func (g *generator) run(ctx context.Context) error {
	measure, measured := newMeter(g.load), false
	next := g.from
	for {
		now := g.now()
		if !measured && now >= g.from {
			measured, next = true, now
			g.from = now
			if err := measure.start(); err != nil {
				return err
			}
		}
		if measured && now >= next {
			measure.sample()
			next = now + 100*time.Millisecond
		}
		if now >= g.until && !g.stopped {
			g.stopped = true
			g.result.Elapsed = now - g.from
			if err := measure.stop(&g.result); err != nil {
				return err
			}
		}
		if g.stopped && (g.schedule == nil || g.idle() || now >= g.until+grace) {
			g.count()
			return nil
		}
		if err := errors.Join(ctx.Err(), g.loop.Poll(g.sendDue(min(g.until, next)))); err != nil {
			return err
		}
	}
}

// sendDue sends what is due, and returns how long there is nothing to do, but for events, until a time at most.
func (g *generator) sendDue(until time.Duration) time.Duration {
	now := g.now()
	if g.stopped {
		return 10 * time.Millisecond
	}
	if g.schedule == nil {
		return until - now
	}
	next := g.begin + g.schedule.Next()
	for ; next <= now && next < g.until; next = g.begin + g.schedule.Next() {
		g.due = append(g.due, next)
		g.schedule.Advance()
	}
	for len(g.due) > 0 && g.free.n > 0 {
		g.sendNext()
	}
	return min(next, until) - g.now()
}

// sendNext sends the one that was meant first.
func (g *generator) sendNext() {
	s := g.free.pop()
	meant := g.due[0]
	g.due = g.due[1:]
	g.send(s, meant)
}

func (g *generator) send(s *slot, meant time.Duration) {
	s.meant, s.busy, s.got = meant, true, 0
	s.client.issue(s)
}

// idle tells whether every answer has come.
func (g *generator) idle() bool { return len(g.due) == 0 && g.free.n == len(g.slots) }

// done takes an answer.
func (g *generator) done(s *slot) {
	now := g.now()
	s.busy = false
	if !s.primed {
		s.primed = true
		g.primed++
	}
	if g.schedule == nil {
		if g.stopped {
			return
		}
		if now >= g.from && now < g.until {
			g.result.Requests++
			g.result.Bytes += int64(s.got)
			g.latency.Record(now - s.meant)
		}
		g.free.push(s)
		g.fill(now)
		return
	}
	g.answered(s.meant, now, int64(s.got))
	if g.free.push(s); len(g.due) > 0 {
		g.sendNext()
	}
}

// answered counts by when a request was meant to be sent, not by when its answer came: one that was meant in time counts
// however late that is.
func (g *generator) answered(meant, now time.Duration, n int64) {
	if meant < g.from || meant >= g.until {
		return
	}
	g.result.Requests++
	g.result.Bytes += n
	g.latency.Record(now - meant)
}

// count takes what had no answer into account.
func (g *generator) count() {
	if g.schedule == nil {
		return
	}
	now := g.now()
	missing := func(meant time.Duration) {
		if meant >= g.from && meant < g.until {
			g.result.Unfinished++
			g.latency.Record(now - meant)
		}
	}
	for _, s := range g.slots {
		if s.busy {
			missing(s.meant)
		}
	}
	for _, meant := range g.due {
		missing(meant)
	}
}

// failed counts an error, of a slot or of a connection with all its slots, and connects anew where it must.
func (g *generator) failed(slots []*slot, err error) {
	if g.stopped && g.schedule == nil {
		return
	}
	if g.result.Error == "" && err != nil {
		g.result.Error = err.Error()
	}
	var again []*slot
	for _, s := range slots {
		if s.busy {
			again = append(again, s)
			g.result.Errors++
			if g.schedule != nil {
				g.answered(s.meant, g.until+grace, 0) // no answer is no fast answer
			}
		}
		s.busy, s.stream, s.message = false, 0, 0
	}
	if g.redials++; g.redials > maxRedials {
		g.stopped = true
		g.result.Error = "gave up: " + g.result.Error
		return
	}
	if err := g.connect(slots); err != nil {
		g.result.Error = err.Error()
		return
	}
	for _, s := range again {
		if g.schedule == nil {
			g.send(s, g.now())
		} else {
			g.free.push(s)
		}
	}
}

// next returns the request that is sent next: the routes take turns.
func (g *generator) next() []byte {
	g.turn++
	return g.requests[g.turn%len(g.requests)]
}
