// SPDX-License-Identifier: Apache-2.0

package http2

import (
	"net"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/heddle-mesh/heddle/proxy/message"
)

var kibibyte = make([]byte, 1024)

// ready answers with one KiB.
type ready struct {
	s      *Stream
	answer *message.Head
}

func (r *ready) Head(_ *message.Head, end bool) {
	if end {
		r.s.SendHead(r.answer, false)
		r.s.SendData(kibibyte, true)
	}
}

func (r *ready) Data(p []byte, end bool) {
	r.s.Consumed(len(p))
	r.Head(nil, end)
}
func (r *ready) Trailer([]message.Field) {}
func (r *ready) Reset(*StreamError)      {}
func (r *ready) Drained(int)             {}

// asker asks again as soon as it has an answer, as long as there is something left to ask.
type asker struct {
	c      *Conn
	load   *load
	source *Conn // whose events it asks from
}

// load is what all askers share.
type load struct {
	left     atomic.Int64
	question message.Head
	done     sync.WaitGroup
}

func (a *asker) ask() {
	if a.load.left.Add(-1) < 0 {
		a.load.done.Done()
		return
	}
	if _, err := a.c.Open(&a.load.question, true, a); err != nil {
		panic(err)
	}
}

func (a *asker) Source() *Conn            { return a.source }
func (a *asker) Head(*message.Head, bool) {}
func (a *asker) Data(_ []byte, end bool) {
	if end {
		a.ask()
	}
}
func (a *asker) Trailer([]message.Field) {}
func (a *asker) Reset(why *StreamError)  { panic(why) }
func (a *asker) Drained(int)             {}

// relayed sends n requests through a relay, on so many connections with so many streams each.
func relayed(t testing.TB, conns, streams int) (run func(n int)) {
	t.Helper()
	answer := &message.Head{Status: 200}
	answer.Add("content-type", "text/plain")
	answer.Add("content-length", "1024")
	answer.Add("server", "endpoint")
	endpoint := listenFor(t, func(s *Stream) Sink { return &ready{s, answer} })
	address := proxy(t, endpoint, &Config{}, &Config{})
	l := &load{question: message.Head{Method: "GET", Scheme: "http", Authority: "a.test", Path: "/a/b?c=d"}}
	for _, f := range [][2]string{{"user-agent", "test"}, {"accept", "*/*"}, {"x-a", "something"}, {"x-b", "something else"}} {
		l.question.Add(f[0], f[1])
	}
	var askers []*asker
	for range conns {
		c := client(t, address, &Config{})
		for range streams {
			askers = append(askers, &asker{c, l, c})
		}
	}
	return func(n int) {
		l.left.Store(int64(n))
		l.done.Add(len(askers))
		for _, a := range askers {
			a.ask()
		}
		l.done.Wait()
	}
}

func listenFor(t testing.TB, accept func(*Stream) Sink) string {
	t.Helper()
	return listen(t, func(c net.Conn) { serve(t, Server(c, &Config{}, accept)) })
}

// On one processor, what many callers' readers send on one connection leaves together, though each of them wakes its writer.
func TestOneWriteForManyCallers(t *testing.T) {
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1))
	c := client(t, listenFor(t, func(s *Stream) Sink { return &ready{s, &message.Head{Status: 200}} }), &Config{})
	writes := func() uint32 {
		c.mu.Lock()
		defer c.mu.Unlock()
		return c.writes
	}
	const callers = 32
	l := &load{question: message.Head{Method: "GET", Scheme: "http", Authority: "a.test", Path: "/"}}
	l.left.Store(callers)
	l.done.Add(callers)
	before := writes()
	for range callers {
		go (&asker{c, l, nil}).ask()
	}
	l.done.Wait()
	if n := writes() - before; n > callers/4 {
		t.Errorf("%d writes for %d callers", n, callers)
	}
}

// BenchmarkRelay is the trial of docs: 8 connections of 16 streams, one KiB. It counts what caller and endpoint cost, too.
func BenchmarkRelay(b *testing.B) {
	run := relayed(b, 8, 16)
	run(5000)
	b.ReportAllocs()
	b.ResetTimer()
	run(b.N)
}

// BenchmarkBulk relays 1 MiB back and forth on each of four streams at a time.
func BenchmarkBulk(b *testing.B) {
	address := proxy(b, listenFor(b, mirroring), &Config{}, &Config{})
	c := client(b, address, &Config{})
	const size = 1 << 20
	b.SetBytes(2 * size)
	b.ReportAllocs()
	b.ResetTimer()
	var left atomic.Int64
	left.Store(int64(b.N))
	var all sync.WaitGroup
	for range 4 {
		all.Go(func() {
			for left.Add(-1) >= 0 {
				p := &pusher{left: size, ended: make(chan struct{})}
				p.mu.Lock()
				p.s = opened(b, c, p)
				p.mu.Unlock()
				p.push()
				<-p.ended
			}
		})
	}
	all.Wait()
}
