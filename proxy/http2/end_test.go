// SPDX-License-Identifier: Apache-2.0

package http2

import (
	"errors"
	"io"
	"net"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	xhttp2 "golang.org/x/net/http2"

	"github.com/heddle-mesh/heddle/internal/limits"
	"github.com/heddle-mesh/heddle/proxy/internal/testconn"
	"github.com/heddle-mesh/heddle/proxy/message"
)

var question = message.Head{Method: "GET", Scheme: "http", Authority: "a.test", Path: "/"}

func TestServerDrainsInTwoSteps(t *testing.T) {
	hall := newHall()
	p, c, done := rawServer(t, &Config{}, hall.accept)
	p.head(1, true, get...)
	first := hall.next(t)
	c.Drain()
	if !c.Gone() {
		t.Error("not gone")
	}
	if f := p.next(xhttp2.FrameGoAway).(*xhttp2.GoAwayFrame); f.LastStreamID != streamMost || f.ErrCode != 0 {
		t.Fatalf("%v", f)
	}
	p.head(3, true, get...) // was on its way
	second := hall.next(t)
	for {
		if f := p.next(xhttp2.FramePing).(*xhttp2.PingFrame); !f.IsAck() {
			_ = p.WritePing(true, f.Data)
			break
		}
	}
	if f := p.next(xhttp2.FrameGoAway).(*xhttp2.GoAwayFrame); f.LastStreamID != 3 {
		t.Fatalf("%v", f)
	}
	p.head(5, false, post...) // came too late: nobody acts on it
	_ = p.WriteData(5, false, []byte("x"))
	p.head(5, true, "x-a: b")
	_ = p.WritePing(false, [8]byte{})
	for !p.next(xhttp2.FramePing).(*xhttp2.PingFrame).IsAck() {
	}
	for _, e := range []*ear{first, second} {
		e.wait(t, is("head"))
		e.s.SendHead(&message.Head{Status: 200}, true)
	}
	for range 2 {
		if got := p.outcome(); got != "END" {
			t.Fatal(got)
		}
	}
	if got := p.outcome(); got != "closed" {
		t.Fatal(got)
	}
	p.net.Close()
	if err := <-done; err != nil {
		t.Error(err)
	}
	if len(hall.come) > 0 {
		t.Error("a stream that came too late was taken")
	}
}

func TestClientDrains(t *testing.T) {
	p, c, done := rawClient(t, &Config{})
	e := newEar(nil)
	if _, err := c.Open(&question, true, e); err != nil {
		t.Fatal(err)
	}
	p.next(xhttp2.FrameHeaders)
	c.Drain()
	p.next(xhttp2.FrameGoAway)
	if _, err := c.Open(&question, true, e); !errors.Is(err, ErrGone) {
		t.Errorf("Open: %v", err)
	}
	p.head(1, true, ":status: 200")
	e.wait(t, ended)
	if got := p.outcome(); got != "closed" {
		t.Error(got)
	}
	p.net.Close()
	if err := <-done; err != nil {
		t.Error(err)
	}
}

func TestGoAwayLetsEarlierStreamsLive(t *testing.T) {
	p, c, done := rawClient(t, &Config{})
	early, late := newEar(nil), newEar(nil)
	for _, e := range []*ear{early, late} {
		if _, err := c.Open(&question, true, e); err != nil {
			t.Fatal(err)
		}
		p.next(xhttp2.FrameHeaders)
	}
	_ = p.WriteGoAway(streamMost, xhttp2.ErrCodeNo, nil)
	_ = p.WriteGoAway(1, xhttp2.ErrCodeNo, nil)
	if why := late.wait(t, is("reset")).why; !why.Unprocessed || !why.FromPeer {
		t.Errorf("%+v", why)
	}
	if c.Room() != 0 || !c.Gone() || c.Streams() != 1 {
		t.Errorf("room %d, gone %v, %d streams", c.Room(), c.Gone(), c.Streams())
	}
	p.head(1, true, ":status: 200")
	early.wait(t, ended)
	if got := p.outcome(); got != "closed" {
		t.Error(got)
	}
	p.net.Close()
	if err := <-done; err != nil {
		t.Error(err)
	}
}

// deaf is a connection on which writing fails from some time on.
type deaf struct {
	net.Conn
	now *atomic.Bool
}

func (d deaf) Write(p []byte) (int, error) {
	if d.now.Load() {
		return 0, syscall.EPIPE
	}
	return d.Conn.Write(p)
}

// A server that says GOAWAY and hangs up is heard, though nothing can be written to it any more.
func TestGoAwayIsHeardThoughWritingFails(t *testing.T) {
	near, far := testconn.TCP(t)
	now := new(atomic.Bool)
	c := Client(deaf{far, now}, &Config{}, nil)
	done := serve(t, c)
	p := newRaw(t, near)
	_, _ = io.ReadFull(near, make([]byte, len(preface)))
	_ = p.WriteSettings()
	await(t, func() bool { return c.Room() > 0 })
	e := newEar(nil)
	s, err := c.Open(&question, false, e)
	if err != nil {
		t.Fatal(err)
	}
	p.next(xhttp2.FrameHeaders)
	now.Store(true)
	s.SendData([]byte("x"), false)
	await(t, c.Gone)
	_ = p.WriteGoAway(0, xhttp2.ErrCodeInadequateSecurity, nil)
	if why := e.wait(t, is("reset")).why; !why.Unprocessed {
		t.Errorf("%+v", why)
	}
	p.net.Close()
	var told *ConnError
	if err := <-done; !errors.As(err, &told) || !told.FromPeer || told.Code != InadequateSecurity {
		t.Errorf("%v", err)
	}
}

func TestTheEndOfAConnectionIsTheEndOfItsStreams(t *testing.T) {
	for name, test := range map[string]struct {
		end  func(p *raw, c *Conn)
		want error
	}{
		"the peer hangs up":       {func(p *raw, c *Conn) { p.net.Close() }, io.ErrUnexpectedEOF},
		"Close without a reason":  {func(p *raw, c *Conn) { c.Close(nil) }, ErrClosed},
		"Close with a reason":     {func(p *raw, c *Conn) { c.Close(io.ErrNoProgress) }, io.ErrNoProgress},
		"a mistake of the server": {func(p *raw, c *Conn) { _ = p.WriteData(0, false, nil); p.net.Close() }, &ConnError{}},
	} {
		t.Run(name, func(t *testing.T) {
			p, c, done := rawClient(t, &Config{})
			e := newEar(nil)
			if _, err := c.Open(&question, true, e); err != nil {
				t.Fatal(err)
			}
			p.next(xhttp2.FrameHeaders)
			test.end(p, c)
			if why := e.wait(t, is("reset")).why; !why.Gone || why.Unprocessed {
				t.Errorf("%+v", why)
			}
			err := <-done
			var told *ConnError
			if !errors.Is(err, test.want) && !errors.As(err, &told) {
				t.Errorf("Serve returns %v", err)
			}
			if _, err = c.Open(&question, true, e); !errors.Is(err, ErrGone) {
				t.Errorf("Open: %v", err)
			}
		})
	}
}

func TestWhatWasNeverWrittenIsUnprocessed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		near, far := net.Pipe()
		c := Client(far, &Config{}, nil)
		stop := runAll(c)
		p := newRaw(t, near)
		_, _ = io.ReadFull(near, make([]byte, len(preface)))
		p.next(xhttp2.FrameSettings)
		p.next(xhttp2.FrameWindowUpdate)
		_ = p.WriteSettings()
		p.next(xhttp2.FrameSettings)
		synctest.Wait()
		var all []*ear
		for i := range 3 { // the first is in a Write that does not end, the others behind it
			e := newEar(nil)
			all = append(all, e)
			if _, err := c.Open(&question, true, e); err != nil {
				t.Fatal(err)
			}
			synctest.Wait()
			if i == 0 {
				_, _ = near.Read(make([]byte, 1))
			}
		}
		stop()
		for i, e := range all {
			if why := e.wait(t, is("reset")).why; why.Unprocessed != (i > 0) {
				t.Errorf("stream %d: %+v", i, why)
			}
		}
	})
}

func TestRoom(t *testing.T) {
	var changes atomic.Int32
	near, far := testconn.TCP(t)
	c := Client(far, &Config{}, func(*Conn) { changes.Add(1) })
	serve(t, c)
	if _, err := c.Open(&question, true, newEar(nil)); !errors.Is(err, ErrNoRoom) || c.Room() != 0 {
		t.Errorf("before the settings: %v, room %d", err, c.Room())
	}
	p := newRaw(t, near)
	_, _ = io.ReadFull(near, make([]byte, len(preface)))
	_ = p.WriteSettings(xhttp2.Setting{ID: xhttp2.SettingMaxConcurrentStreams, Val: 2}, xhttp2.Setting{ID: 8, Val: 1})
	await(t, func() bool { return c.Room() == 2 && c.ExtendedConnect() && changes.Load() > 0 })
	var ears []*ear
	for range 2 {
		ears = append(ears, newEar(nil))
		if _, err := c.Open(&question, true, ears[len(ears)-1]); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := c.Open(&question, true, newEar(nil)); !errors.Is(err, ErrNoRoom) {
		t.Errorf("Open: %v", err)
	}
	before := changes.Load()
	p.next(xhttp2.FrameHeaders)
	p.head(1, true, ":status: 200")
	ears[0].wait(t, ended)
	await(t, func() bool { return c.Room() == 1 && changes.Load() > before })
	before = changes.Load()
	_ = p.WriteSettings(xhttp2.Setting{ID: xhttp2.SettingMaxConcurrentStreams, Val: 0})
	await(t, func() bool { return c.Room() == 0 })
	_ = p.WriteSettings(xhttp2.Setting{ID: xhttp2.SettingMaxConcurrentStreams, Val: 5})
	await(t, func() bool { return c.Room() == 4 && changes.Load() > before })
}

// await waits until something is so.
func await(t testing.TB, so func() bool) {
	t.Helper()
	tick, late := time.NewTicker(time.Millisecond), time.NewTimer(patience)
	defer tick.Stop()
	defer late.Stop()
	for !so() {
		select {
		case <-tick.C:
		case <-late.C:
			t.Fatal("it does not come about")
		}
	}
}

// timed runs a test in a bubble between an engine and a raw peer that has said hello and reads all that comes.
func timed(t *testing.T, client bool, cfg *Config, settle bool, test func(p *raw, c *Conn, done <-chan error, frames *log)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		near, far := net.Pipe()
		var c *Conn
		if client {
			c = Client(far, cfg, nil)
		} else {
			c = Server(far, cfg, answering)
		}
		done := make(chan error, 1)
		go func() { done <- c.Serve() }()
		p := newRaw(t, near)
		_ = near.SetDeadline(time.Time{})
		frames := &log{}
		go func() {
			if client {
				_, _ = io.ReadFull(near, make([]byte, len(preface)))
			}
			for {
				f, err := p.ReadFrame()
				if err != nil {
					return
				}
				frames.add(f)
			}
		}()
		if settle {
			if !client {
				_, _ = io.WriteString(near, preface)
			}
			_ = p.WriteSettings()
			_ = p.WriteSettingsAck()
		}
		synctest.Wait()
		test(p, c, done, frames)
		c.Close(nil)
		near.Close()
		synctest.Wait()
	})
}

// log counts frames by type.
type log struct{ kinds [256]atomic.Int32 }

func (l *log) add(f xhttp2.Frame) {
	switch f := f.(type) {
	case *xhttp2.PingFrame:
		if f.IsAck() {
			return
		}
	case *xhttp2.SettingsFrame:
		return
	}
	l.kinds[f.Header().Type].Add(1)
}

func (l *log) of(kind xhttp2.FrameType) int { return int(l.kinds[kind].Load()) }

func TestTimes(t *testing.T) {
	set := limits.Default()
	keep := &Config{Limits: &set, KeepAlive: 30 * time.Second}
	t.Run("a client that says nothing is cut off", func(t *testing.T) {
		timed(t, false, keep, false, func(p *raw, c *Conn, done <-chan error, frames *log) {
			start := time.Now()
			if err := <-done; !errors.Is(err, ErrPreface) || time.Since(start) > set.FirstByte+lingerTime {
				t.Error(err, time.Since(start))
			}
		})
	})
	t.Run("a server that says nothing is cut off", func(t *testing.T) {
		timed(t, true, keep, false, func(p *raw, c *Conn, done <-chan error, frames *log) {
			if err := <-done; !errors.Is(err, ErrPreface) {
				t.Error(err)
			}
		})
	})
	t.Run("a head that does not end is cut off", func(t *testing.T) {
		timed(t, false, keep, true, func(p *raw, c *Conn, done <-chan error, frames *log) {
			_ = p.WriteHeaders(xhttp2.HeadersFrameParam{StreamID: 1, BlockFragment: p.block(get...)})
			start := time.Now()
			var told *ConnError
			if err := <-done; !errors.As(err, &told) || told.Code != EnhanceYourCalm || time.Since(start) > set.HeaderTime+watchTime+lingerTime {
				t.Error(err, time.Since(start))
			}
		})
	})
	t.Run("a frame that does not end is cut off", func(t *testing.T) {
		timed(t, false, keep, true, func(p *raw, c *Conn, done <-chan error, frames *log) {
			_, _ = p.net.Write([]byte{0, 0, 8, framePing})
			var told *ConnError
			if err := <-done; !errors.As(err, &told) || told.Code != EnhanceYourCalm {
				t.Error(err)
			}
		})
	})
	t.Run("a silent peer is asked, and cut off if it does not answer", func(t *testing.T) {
		timed(t, false, keep, true, func(p *raw, c *Conn, done <-chan error, frames *log) {
			time.Sleep(29 * time.Second)
			synctest.Wait()
			if n := frames.of(xhttp2.FramePing); n != 0 {
				t.Fatalf("%d PINGs after 29 s", n)
			}
			time.Sleep(7 * time.Second)
			synctest.Wait()
			if n := frames.of(xhttp2.FramePing); n != 1 {
				t.Fatalf("%d PINGs after 36 s", n)
			}
			start := time.Now()
			if err := <-done; !errors.Is(err, ErrSilent) || time.Since(start) > 20*time.Second {
				t.Error(err, time.Since(start))
			}
		})
	})
	t.Run("a peer that answers stays", func(t *testing.T) {
		timed(t, true, keep, true, func(p *raw, c *Conn, done <-chan error, frames *log) {
			for i := range 10 {
				for frames.of(xhttp2.FramePing) == i {
					time.Sleep(time.Second)
					synctest.Wait()
				}
				_ = p.WritePing(true, [8]byte{0x68, 0x65, 0x64, 0x64, 0x6c, 0x65, 0, 2})
				synctest.Wait()
			}
			if len(done) > 0 {
				t.Error(<-done)
			}
		})
	})
	t.Run("no PING without KeepAlive", func(t *testing.T) {
		timed(t, true, &Config{}, true, func(p *raw, c *Conn, done <-chan error, frames *log) {
			time.Sleep(5 * time.Minute)
			synctest.Wait()
			if len(done) > 0 || frames.of(xhttp2.FramePing) > 0 {
				t.Error(frames.of(xhttp2.FramePing), len(done))
			}
		})
	})
	t.Run("a connection without streams ends in time", func(t *testing.T) {
		timed(t, false, &Config{}, true, func(p *raw, c *Conn, done <-chan error, frames *log) {
			p.head(1, true, get...)
			time.Sleep(set.Idle - time.Second)
			synctest.Wait()
			if frames.of(xhttp2.FrameGoAway) > 0 {
				t.Fatal("too early")
			}
			if err := <-done; err != nil || frames.of(xhttp2.FrameGoAway) != 2 {
				t.Error(err, frames.of(xhttp2.FrameGoAway))
			}
		})
	})
	t.Run("an idle connection holds no buffer, and goes on", func(t *testing.T) {
		timed(t, false, &Config{}, true, func(p *raw, c *Conn, done <-chan error, frames *log) {
			p.head(1, true, get...)
			time.Sleep(11 * time.Second)
			synctest.Wait()
			if c.in != nil || c.out != nil || c.dec.scratch != nil || c.head.Fields != nil {
				t.Error("buffers are held")
			}
			p.head(3, true, get...)
			synctest.Wait()
			if frames.of(xhttp2.FrameHeaders) != 2 {
				t.Error("no answer")
			}
		})
	})
}

func TestAPeerThatTakesNothingIsCutOff(t *testing.T) {
	t.Run("on a stream", func(t *testing.T) {
		count := &counted{}
		timed(t, false, &Config{Count: count}, true, func(p *raw, c *Conn, done <-chan error, frames *log) {
			_ = p.WriteSettings(initialWindow(1))
			c.accept = func(s *Stream) Sink { return much{s} }
			p.head(1, true, with(get, "x-much: 1")...)
			for range 12 * 6 { // the connection is not silent
				time.Sleep(5 * time.Second)
				_ = p.WritePing(false, [8]byte{})
				synctest.Wait()
			}
			if frames.of(xhttp2.FrameRSTStream) != 1 || count.of(limits.SendIdle) != 1 || len(done) > 0 {
				t.Error(frames.of(xhttp2.FrameRSTStream), count.of(limits.SendIdle), len(done))
			}
		})
	})
	t.Run("on a connection", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			near, far := net.Pipe()
			c := Server(far, &Config{}, answering)
			_, _ = near, t
			go func() {
				_, _ = io.WriteString(near, preface)
				p := newRaw(t, near)
				_ = near.SetDeadline(time.Time{})
				_ = p.WriteSettings()
			}()
			start := time.Now()
			if err := c.Serve(); !errors.Is(err, ErrStalled) || time.Since(start) > 6*time.Minute {
				t.Error(err, time.Since(start))
			}
		})
	})
}
