// SPDX-License-Identifier: Apache-2.0

package http1

import (
	"testing"
	"time"

	"github.com/heddle-mesh/heddle/proxy/message"
)

const (
	browserRequest = "GET /api/v1/items/42?fields=name,price HTTP/1.1\r\nHost: shop.example.com\r\nUser-Agent: Mozilla/5.0 (X11; Linux x86_64; rv:128.0)\r\n" +
		"Accept: text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8\r\nAccept-Language: en-US,en;q=0.5\r\nAccept-Encoding: gzip, deflate, br\r\n" +
		"Cookie: session=8d1f7c2e9b; theme=dark\r\ntraceparent: 00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01\r\nConnection: keep-alive\r\n\r\n"
	serverAnswer = "HTTP/1.1 200 OK\r\nDate: Sun, 22 Nov 2026 21:00:00 GMT\r\nContent-Type: application/json\r\nContent-Length: 1024\r\nServer: shop\r\n" +
		"Cache-Control: private, max-age=0\r\nVary: Accept-Encoding\r\n\r\n"
)

var oneKiB = make([]byte, 1<<10)

// proxied carries one request and its answer, as a proxy does.
type proxied struct {
	caller, server  memory
	in, out         *Conn
	request, answer message.Head
}

func newProxied() *proxied {
	p := &proxied{}
	p.caller.discard, p.server.discard = true, true
	p.in, p.out = New(&p.caller, &defaults, nil), New(&p.server, &defaults, nil)
	return p
}

func relay(to, from *Conn) error {
	for {
		b, err := from.Peek()
		if len(b) > 0 {
			if _, err := to.Write(b); err != nil {
				return err
			}
			from.Discard(len(b))
			continue
		}
		if err != nil {
			return to.End(from.Trailer())
		}
		var p [4 << 10]byte
		n, err := from.Read(p[:])
		if _, err := to.Write(p[:n]); err != nil {
			return err
		}
		if err != nil {
			return to.End(from.Trailer())
		}
	}
}

func (p *proxied) carry(t testing.TB, request, answer []byte) {
	t.Helper()
	p.caller.in, p.server.in = request, answer
	steps := [...]error{
		p.in.Wait(time.Time{}), p.in.ReadRequest(&p.request), p.forward(),
		p.out.ReadResponse(&p.answer, &p.request), p.back(),
	}
	for i, err := range steps {
		if err != nil {
			t.Fatalf("step %d: %v", i, err)
		}
	}
	if !p.in.Reusable() || !p.out.Reusable() {
		t.Fatal("a connection is not reusable")
	}
	p.out.Release()
}

func (p *proxied) forward() error {
	message.DropHopByHop(&p.request)
	if err := p.out.WriteRequest(&p.request); err != nil {
		return err
	}
	if err := relay(p.out, p.in); err != nil {
		return err
	}
	return p.out.Flush()
}

func (p *proxied) back() error {
	message.DropHopByHop(&p.answer)
	if err := p.in.WriteResponse(&p.answer); err != nil {
		return err
	}
	if err := relay(p.in, p.out); err != nil {
		return err
	}
	return p.in.Flush()
}

// counting counts the buffers that pools make, until the test ends: under the race detector pools forget what they have.
func counting(t *testing.T) (made *int) {
	t.Helper()
	made = new(int)
	for _, p := range pools {
		fresh := p.pool.New
		t.Cleanup(func() { p.pool.New = fresh })
		p.pool.New = func() any { *made++; return fresh() }
	}
	return made
}

// TestWarmRequestsDoNotAllocate carries requests between two connections that are warm.
func TestWarmRequestsDoNotAllocate(t *testing.T) {
	chunks := []byte("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: X-Sum\r\n\r\n400\r\n" + string(oneKiB) + "\r\n0\r\nX-Sum: 1\r\n\r\n")
	post := []byte("POST /a HTTP/1.1\r\nHost: a\r\nContent-Length: 1024\r\n\r\n" + string(oneKiB))
	for name, c := range map[string]struct{ request, answer []byte }{
		"a GET and its answer of 1 KiB":    {[]byte(browserRequest), append([]byte(serverAnswer), oneKiB...)},
		"a POST and an answer in chunks":   {post, chunks},
		"a GET that is not changed at all": {[]byte("GET / HTTP/1.1\r\nHost: a\r\n\r\n"), []byte("HTTP/1.1 204 No Content\r\n\r\n")},
	} {
		t.Run(name, func(t *testing.T) {
			p := newProxied()
			const runs = 200
			made := counting(t)
			n := testing.AllocsPerRun(1, func() {
				*made = 0
				for range runs {
					p.carry(t, c.request, c.answer)
				}
			})
			if n -= float64(2 * *made); n >= runs/2 { // pools themselves grow now and then
				t.Errorf("%v allocations in %d requests, want none", n, runs)
			}
			if p.caller.reads > p.caller.writes || p.server.reads > p.server.writes {
				t.Errorf("%d reads for %d writes towards the caller, %d for %d towards the server: want one each for a message",
					p.caller.reads, p.caller.writes, p.server.reads, p.server.writes)
			}
		})
	}
}

func BenchmarkProxied(b *testing.B) {
	request, answer := []byte(browserRequest), append([]byte(serverAnswer), oneKiB...)
	p := newProxied()
	b.ReportAllocs()
	for b.Loop() {
		p.carry(b, request, answer)
	}
}

func BenchmarkReadRequest(b *testing.B) {
	request := []byte(browserRequest)
	p := newProxied()
	b.ReportAllocs()
	for b.Loop() {
		p.caller.in = request
		if err := p.in.ReadRequest(&p.request); err != nil {
			b.Fatal(err)
		}
	}
}
