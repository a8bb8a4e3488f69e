// SPDX-License-Identifier: Apache-2.0

package forward_test

import (
	"bytes"
	"crypto/rand"
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"golang.org/x/net/http2"

	"github.com/heddle-mesh/heddle/internal/identity"
	"github.com/heddle-mesh/heddle/proxy/observe"
	"github.com/heddle-mesh/heddle/proxy/refusal"
)

// endless is an application that answers /small at once and /big without end, and counts what it could send of that.
func endless(t *testing.T, sent *atomic.Int64) netip.AddrPort {
	t.Helper()
	return httpApp(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/big" {
			body, _ := io.ReadAll(r.Body)
			w.Write(body)
			return
		}
		piece := make([]byte, 16<<10)
		for {
			n, err := w.Write(piece)
			sent.Add(int64(n))
			if err != nil {
				return
			}
		}
	})
}

func TestASlowReaderLeavesItsNeighboursAlone(t *testing.T) {
	for name, v := range map[string]versions{"to HTTP/2": {declared: asHTTP2}, "to HTTP/1.1": {declared: asHTTP}} {
		t.Run(name, func(t *testing.T) {
			var sent atomic.Int64
			p := newPair(t, v.declared, endless(t, &sent), settings{})
			c := caller2(t, p.at)
			c.ask(1, true, "GET", "/big")
			if f := c.wantHead(); field(f, ":status") != "200" {
				t.Fatal(f)
			}
			c.framer.WriteWindowUpdate(0, 1<<30)
			// Its window is taken up, and no more is asked for.
			for got := 0; got < 65535; {
				f, _ := c.framer.ReadFrame()
				if data, ok := f.(*http2.DataFrame); ok {
					got += len(data.Data())
				}
			}
			word := strings.Repeat("neighbour ", 6000)
			for i := range uint32(20) {
				stream := 3 + 2*i
				c.ask(stream, false, "POST", "/small")
				c.framer.WriteData(stream, false, []byte(word[:10000]))
				c.framer.WriteData(stream, true, []byte(word[10000:20000]))
				c.wantHead()
				if got := c.wantRest(); got != word[:20000] {
					t.Fatalf("neighbour %d got something else", i)
				}
			}
			before := sent.Load()
			if before > 16<<20 {
				t.Errorf("the application could send %d bytes to somebody who reads none", before)
			}
			c.framer.WriteWindowUpdate(1, 1<<20)
			c.wantData(1 << 20)
			c.framer.WriteRSTStream(1, http2.ErrCodeCancel)
			p.client.events.wait(t, "of the slow reader", func(e observe.Event) bool { return e.Path == "/big" && e.Reason == refusal.CallerGone })
			p.server.events.wait(t, "of the slow reader", func(e observe.Event) bool { return e.Path == "/big" && e.Reason == refusal.CallerGone })
		})
	}
}

func TestALotGoesBothWaysAtOnce(t *testing.T) {
	bothVersions(t, func(t *testing.T, v versions) {
		t.Helper()
		const size, streams = 1 << 20, 4
		p := newPair(t, v.declared, httpApp(t, func(w http.ResponseWriter, r *http.Request) {
			http.NewResponseController(w).EnableFullDuplex()
			io.Copy(w, r.Body)
		}), settings{})
		client := clientOf(t, p.at, v.http2)
		var wg sync.WaitGroup
		for range streams {
			wg.Go(func() {
				body := make([]byte, size)
				rand.Read(body)
				r, _ := http.NewRequestWithContext(t.Context(), http.MethodPost, "http://cart/", io.MultiReader(bytes.NewReader(body)))
				response, err := client.Do(r)
				if err != nil {
					t.Error(err)
					return
				}
				defer response.Body.Close()
				got, err := io.ReadAll(response.Body)
				if err != nil || !bytes.Equal(got, body) {
					t.Errorf("%d bytes came back, %v", len(got), err)
				}
			})
		}
		wg.Wait()
	})
}

func TestResets(t *testing.T) {
	code := make(chan http2.ErrCode, 1)
	app := app2(t, func(p *peer2, f http2.Frame) {
		switch f := f.(type) {
		case *http2.MetaHeadersFrame:
			switch field(f, ":path") {
			case "/before":
				p.framer.WriteRSTStream(f.StreamID, http2.ErrCodeEnhanceYourCalm)
			case "/within":
				p.head(f.StreamID, false, ":status", "200")
				p.framer.WriteData(f.StreamID, false, []byte("half"))
				p.framer.WriteRSTStream(f.StreamID, http2.ErrCodeHTTP11Required)
			case "/after":
				p.head(f.StreamID, false, ":status", "413")
				p.framer.WriteData(f.StreamID, true, []byte("all"))
				p.framer.WriteRSTStream(f.StreamID, http2.ErrCodeNo)
			case "/listens":
				p.head(f.StreamID, false, ":status", "200")
			}
		case *http2.RSTStreamFrame:
			code <- f.ErrCode
		}
	})
	p := newPair(t, asHTTP2, app, settings{})
	c := caller2(t, p.at)

	c.ask(1, false, "POST", "/before")
	if got := c.wantReset(); got != http2.ErrCodeEnhanceYourCalm {
		t.Errorf("before the answer: %v", got)
	}
	c.ask(3, false, "POST", "/within")
	c.wantHead()
	if got := c.wantReset(); got != http2.ErrCodeHTTP11Required {
		t.Errorf("within the answer: %v", got)
	}
	for _, at := range []*proxy{p.client, p.server} {
		for _, path := range []string{"/before", "/within"} {
			at.events.wait(t, path, func(e observe.Event) bool { return e.Path == path && e.Reason == refusal.UpstreamFailed })
		}
	}
	c.ask(5, false, "POST", "/after")
	if f := c.wantHead(); field(f, ":status") != "413" {
		t.Errorf("an answer before the request's end: %v", f)
	}
	if got := c.wantData(3); got != "all" {
		t.Errorf("an answer before the request's end: %q", got)
	}
	if got := c.wantReset(); got != http2.ErrCodeNo {
		t.Errorf("after the answer: %v", got)
	}
	p.client.events.wait(t, "/after", func(e observe.Event) bool { return e.Path == "/after" && e.Reason == refusal.None && e.Status == 413 })

	c.ask(7, false, "POST", "/listens")
	c.wantHead()
	c.framer.WriteData(7, false, []byte("half"))
	c.framer.WriteRSTStream(7, http2.ErrCodeInternal)
	if got := <-code; got != http2.ErrCodeInternal {
		t.Errorf("the application got %v", got)
	}
	c.ask(9, false, "POST", "/listens")
	c.wantHead()
	c.conn.Close()
	if got := <-code; got != http2.ErrCodeCancel {
		t.Errorf("when the caller's connection ended the application got %v", got)
	}
	for _, at := range []*proxy{p.client, p.server} {
		at.events.wait(t, "of the caller", func(e observe.Event) bool {
			return e.Path == "/listens" && e.Reason == refusal.CallerGone && e.Status == 200
		})
	}
}

// refusing is an application that refuses every stream.
func refusing(t *testing.T, refused *atomic.Int64) netip.AddrPort {
	t.Helper()
	return app2(t, func(p *peer2, f http2.Frame) {
		if f, ok := f.(*http2.MetaHeadersFrame); ok {
			refused.Add(1)
			p.framer.WriteRSTStream(f.StreamID, http2.ErrCodeRefusedStream)
		}
	})
}

func TestARefusedStreamIsTriedOnAnotherEndpoint(t *testing.T) {
	var refused, served atomic.Int64
	app := httpApp(t, func(w http.ResponseWriter, r *http.Request) {
		served.Add(1)
		io.Copy(w, r.Body)
	})
	p := newPair(t, asHTTP2, app, settings{})
	bad := refusing(t, &refused)
	const n = 30
	for name, c := range map[string]struct {
		id        identity.ID
		good, bad netip.AddrPort
	}{
		"by a server":            {identity.ID{}, app, bad},
		"by a proxy's server":    {shop, p.inside, p.server.listen(bad)},
		"by one that is too old": {identity.ID{}, app, goingAway(t)},
	} {
		t.Run(name, func(t *testing.T) {
			served.Store(0)
			p.client.endpoints(cart, c.id, c.good, c.bad)
			client := clientOf(t, p.at, true)
			for range n {
				if got := (call{method: "POST", body: "body"}).status(t, client, 200); got != "body" {
					t.Errorf("got %q", got)
				}
			}
			if served.Load() != n {
				t.Errorf("served %d times, want %d", served.Load(), n)
			}
			p.client.events.wait(t, "of a second try", func(e observe.Event) bool {
				return e.Attempts == 2 && e.Status == 200 && e.Endpoint == c.good
			})
		})
	}
	p.client.endpoints(cart, identity.ID{}, bad)
	alone := caller2(t, p.at)
	alone.ask(1, true, "POST", "/alone")
	if got := alone.wantReset(); got != http2.ErrCodeRefusedStream {
		t.Errorf("alone: %v", got)
	}
	p.client.events.wait(t, "of both tries", func(e observe.Event) bool { return e.Path == "/alone" && e.Attempts == 2 && e.Status == 502 })
}

// goingAway is a server that says GOAWAY to every stream, and ends.
func goingAway(t *testing.T) netip.AddrPort {
	t.Helper()
	return app2(t, func(p *peer2, f http2.Frame) {
		if _, ok := f.(*http2.MetaHeadersFrame); ok {
			p.framer.WriteGoAway(0, http2.ErrCodeNo, nil)
			p.conn.Close()
		}
	})
}

// Servers of gRPC with a maximal age of connections do this all the time.
func TestAServerThatEndsItsConnectionsCostsNoRequest(t *testing.T) {
	const each = 7
	var served atomic.Int64
	app := app2(t, func(p *peer2, f http2.Frame) {
		head, ok := f.(*http2.MetaHeadersFrame)
		if !ok || head.StreamID > 2*each {
			return
		}
		served.Add(1)
		p.head(head.StreamID, true, ":status", "204")
		if head.StreamID == 2*each-1 {
			p.framer.WriteGoAway(head.StreamID, http2.ErrCodeNo, nil)
		}
	})
	p := newPair(t, asHTTP2, app, settings{})
	client := clientOf(t, p.at, true)
	var wg sync.WaitGroup
	const n = 100
	for range 4 {
		wg.Go(func() {
			for range n {
				call{method: "POST"}.status(t, client, 204)
			}
		})
	}
	wg.Wait()
	if served.Load() != 4*n {
		t.Errorf("served %d, want %d", served.Load(), 4*n)
	}
	for _, e := range p.server.events.All() {
		if e.Attempts != 1 {
			t.Errorf("event %+v", e)
		}
	}
}

func TestStreamsWaitForTheFirstConnection(t *testing.T) {
	remotes := make(chan string, 100)
	p := newPair(t, asHTTP2, httpApp(t, func(_ http.ResponseWriter, r *http.Request) { remotes <- r.RemoteAddr }), settings{})
	client := clientOf(t, p.at, true)
	var wg sync.WaitGroup
	for range cap(remotes) {
		wg.Go(func() { call{method: "POST", body: "body"}.status(t, client, 200) })
	}
	wg.Wait()
	close(remotes)
	seen := map[string]bool{}
	for r := range remotes {
		seen[r] = true
	}
	if len(seen) != 1 {
		t.Errorf("the application saw %d connections", len(seen))
	}
}

func TestCallersOfHTTP2AreAskedToLeave(t *testing.T) {
	started, release := make(chan struct{}), make(chan struct{})
	p := newPair(t, asHTTP2, httpApp(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/slow" {
			started <- struct{}{}
			<-release
		}
		io.WriteString(w, "ok")
	}), settings{})
	c := caller2(t, p.at)
	c.ask(1, true, "GET", "/slow")
	<-started
	p.client.server.Drain()
	if f, ok := c.next().(*http2.GoAwayFrame); !ok || f.ErrCode != http2.ErrCodeNo || f.LastStreamID != 1<<31-1 {
		t.Fatalf("got %v, want GOAWAY", f)
	}
	c.ask(3, true, "GET", "/quick") // it was on its way when GOAWAY came
	seen := map[uint32]bool{}
	for range 4 { // GOAWAY again, and the answer to the second
		switch f := c.next().(type) {
		case *http2.MetaHeadersFrame:
			seen[f.StreamID] = field(f, ":status") == "200"
		case *http2.DataFrame, *http2.GoAwayFrame:
		default:
			t.Fatalf("got %v", f)
		}
		if seen[3] {
			break
		}
	}
	close(release)
	for c.next() != nil { // to the connection's end
	}
	later := caller2(t, p.at)
	later.ask(1, true, "GET", "/")
	answered, asked := false, false
	for f := later.next(); f != nil; f = later.next() {
		switch f := f.(type) {
		case *http2.MetaHeadersFrame:
			answered = field(f, ":status") == "200"
		case *http2.GoAwayFrame:
			asked = true
		}
	}
	if !answered || !asked {
		t.Errorf("a later caller was answered %v, and asked to leave %v", answered, asked)
	}
	p.client.events.wait(t, "of what ran", func(e observe.Event) bool { return e.Path == "/slow" && e.Reason == refusal.None && e.Status == 200 })
}

func TestAChangedPolicyRefusesWhatHasNoAnswerYet(t *testing.T) {
	bothVersions(t, func(t *testing.T, v versions) {
		t.Helper()
		started := make(chan struct{}, 1)
		p := newPair(t, v.declared, httpApp(t, func(_ http.ResponseWriter, r *http.Request) {
			started <- struct{}{}
			<-r.Context().Done()
		}), settings{})
		for contentType, want := range map[string]string{"text/plain": "403 policy_changed ", "application/grpc": "200 policy_changed 7"} {
			if !v.http2 && contentType != "text/plain" {
				continue
			}
			p.server.policy(strict, allow)
			go func() {
				<-started
				p.server.policy(strict, deny)
			}()
			response, _ := call{method: "GET", path: "/", header: http.Header{"Content-Type": {contentType}}}.do(t, clientOf(t, p.at, v.http2))
			got := fmt.Sprint(response.StatusCode, " ", response.Header.Get("heddle-reason"), " ", response.Header.Get("grpc-status"))
			if got != want {
				t.Errorf("got %s, want %s", got, want)
			}
		}
	})
}
