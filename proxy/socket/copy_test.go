// SPDX-License-Identifier: Apache-2.0

package socket

import (
	"bytes"
	"errors"
	"io"
	"net"
	"os"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/heddle-mesh/heddle/internal/limits"
	"github.com/heddle-mesh/heddle/proxy/internal/testconn"
)

const much = 3<<20 + 12345

// relay carries both ways, and each way's end, as forward does.
func relay(t *testing.T, a, b half, budget *limits.Budget) (wait func() (there, back int64)) {
	t.Helper()
	var wg sync.WaitGroup
	var there, back int64
	way := func(to, from half, n *int64) func() {
		return func() {
			var err error
			if *n, err = Copy(to, from, budget); err != nil {
				t.Errorf("from %T to %T: %v", from, to, err)
			}
			to.CloseWrite()
		}
	}
	wg.Go(way(b, a, &there))
	wg.Go(way(a, b, &back))
	return func() (int64, int64) {
		wg.Wait()
		return there, back
	}
}

// Every combination carries all bytes both ways at once, and the end of each direction by itself.
func TestCopy(t *testing.T) {
	budgets := map[string]func() *limits.Budget{
		"":                   func() *limits.Budget { return limits.NewBudget(64 << 20) },
		", memory exhausted": func() *limits.Budget { return limits.NewBudget(0) },
	}
	for short, newBudget := range budgets {
		budget := newBudget()
		for from, left := range links(t, budget) {
			for to, right := range links(t, budget) {
				t.Run(from+" to "+to+short, func(t *testing.T) {
					a, b := left(), right()
					wait := relay(t, a.ours, b.ours, budget)
					sent := noise(much)
					var wg sync.WaitGroup
					wg.Go(func() { a.theirs.Write(sent); a.theirs.CloseWrite() })
					// The answer begins after the request has ended: one side is closed meanwhile.
					got, err := io.ReadAll(b.theirs)
					if err != nil || !bytes.Equal(got, sent) {
						t.Errorf("%d bytes came, %v", len(got), err)
					}
					wg.Go(func() { b.theirs.Write(sent); b.theirs.CloseWrite() })
					if got, err = io.ReadAll(a.theirs); err != nil || !bytes.Equal(got, sent) {
						t.Errorf("%d bytes came back, %v", len(got), err)
					}
					if there, back := wait(); there != much || back != much {
						t.Errorf("counted %d and %d", there, back)
					}
					wg.Wait()
					for _, c := range []net.Conn{a.ours, a.theirs, b.ours, b.theirs} {
						c.Close()
					}
					if n := budget.Held(); n != 0 {
						t.Errorf("%d bytes are still held", n)
					}
				})
			}
		}
	}
}

// Between TCP connections bytes pass through a pipe of the kernel's and none of our buffers.
func TestPlaintextIsSpliced(t *testing.T) {
	a, aFar := testconn.TCP(t)
	b, bFar := testconn.TCP(t)
	s, err := newSplicer(b, a, nil)
	if err != nil {
		t.Fatal(err)
	}
	sent := noise(much)
	go func() { aFar.Write(sent); aFar.CloseWrite() }()
	carried := make(chan error)
	go func() {
		for {
			if _, err := s.carry(); err != nil {
				b.CloseWrite()
				carried <- err
				return
			}
		}
	}()
	if got, err := io.ReadAll(bFar); err != nil || !bytes.Equal(got, sent) {
		t.Errorf("%d bytes, %v", len(got), err)
	}
	if err := <-carried; !errors.Is(err, io.EOF) {
		t.Error(err)
	}
	if s.source != nil {
		t.Error("some were copied")
	}
}

func TestThereAreNoMorePipesThanAreNeeded(t *testing.T) {
	var held []pipe
	budget := limits.NewBudget(1 << 30)
	for range 2 * cap(spare) {
		p, ok := takePipe(budget)
		if !ok {
			t.Fatal("no pipe")
		}
		held = append(held, p)
	}
	for _, p := range held {
		p.give(true, budget)
	}
	if len(spare) != cap(spare) || budget.Held() != 0 {
		t.Fatalf("%d spare, %d bytes held", len(spare), budget.Held()) // taking the others would wait for ever
	}
	for range cap(spare) {
		p := <-spare
		p.give(false, nil) // what is not empty is closed
	}
	if len(spare) != 0 {
		t.Errorf("%d spare", len(spare))
	}
}

// While nothing comes nothing is held, whatever came before.
func TestWhatIsIdleHoldsNothing(t *testing.T) {
	budget := limits.NewBudget(64 << 20)
	for from, left := range links(t, budget) {
		for to, right := range links(t, budget) {
			t.Run(from+" to "+to, func(t *testing.T) {
				a, b := left(), right()
				wait := relay(t, a.ours, b.ours, budget)
				for range 3 {
					go a.theirs.Write(noise(100_000))
					want(t, b.theirs, noise(100_000))
					eventually(t, "all buffers are given back", func() bool { return budget.Held() == 0 })
				}
				a.theirs.CloseWrite()
				b.theirs.CloseWrite()
				wait()
			})
		}
	}
}

// A receiver that does not read stops the sender and costs a bounded amount. What is cut gives it back.
func TestASlowReaderIsWaitedFor(t *testing.T) {
	budget := limits.NewBudget(64 << 20)
	for from, left := range links(t, budget) {
		for to, right := range links(t, budget) {
			t.Run(from+" to "+to, func(t *testing.T) {
				a, b := left(), right()
				done := make(chan error, 1)
				go func() {
					_, err := Copy(b.ours, a.ours, budget)
					done <- err
				}()
				sent := sending(a.theirs)
				sent.halts(t, func() bool { return budget.Held() > 0 })
				if held := budget.Held(); held > 3*large {
					t.Errorf("%d bytes are held", held)
				}
				Reset(a.ours)
				Reset(b.ours)
				if err := <-done; !errors.Is(err, net.ErrClosed) {
					t.Error(err)
				}
				if n := budget.Held(); n != 0 {
					t.Errorf("%d bytes are still held", n)
				}
				<-sent.broken
			})
		}
	}
}

// What breaks on one side is an error, never a good end.
func TestCopyOfWhatBreaks(t *testing.T) {
	for name, c := range map[string]struct {
		side string
		cut  func(half)
		want error
	}{
		"a reset":                 {"plain", func(c half) { Reset(c) }, syscall.ECONNRESET},
		"a reset of TLS":          {"TLS, accepted", func(c half) { Reset(c) }, syscall.ECONNRESET},
		"TLS that is cut short":   {"TLS, dialled", func(c half) { c.(*TLS).NetConn().(*records).Conn.Close() }, io.ErrUnexpectedEOF},
		"a record cut short":      {"TLS, accepted", func(c half) { c.(*TLS).NetConn().Write([]byte{23, 3}); c.(*TLS).NetConn().Close() }, io.ErrUnexpectedEOF},
		"TLS that ends in order":  {"TLS, accepted", func(c half) { c.Close() }, nil},
		"a plain end":             {"plain", func(c half) { c.Close() }, nil},
		"nothing until too late":  {"plain", func(half) {}, os.ErrDeadlineExceeded},
		"nothing of TLS either":   {"TLS, dialled", func(half) {}, os.ErrDeadlineExceeded},
		"what was closed by us":   {"plain", nil, net.ErrClosed},
		"TLS that was closed too": {"TLS, dialled", nil, net.ErrClosed},
	} {
		t.Run(name, func(t *testing.T) {
			to, _ := testconn.TCP(t)
			from := links(t, nil)[c.side]()
			switch {
			case c.cut == nil:
				from.ours.Close()
			case errors.Is(c.want, os.ErrDeadlineExceeded):
				from.ours.SetReadDeadline(time.Now().Add(10 * time.Millisecond))
			default:
				c.cut(from.theirs)
			}
			n, err := Copy(to, from.ours, nil)
			if n != 0 || !errors.Is(err, c.want) {
				t.Errorf("%d bytes, %v, want %v", n, err, c.want)
			}
		})
	}
}

func TestCopyToWhatIsGone(t *testing.T) {
	for name, left := range links(t, nil) {
		for gone, right := range links(t, nil) {
			t.Run(name+" to "+gone, func(t *testing.T) {
				a, b := left(), right()
				Reset(b.theirs)
				go func() {
					for {
						if _, err := a.theirs.Write(noise(100_000)); err != nil {
							return
						}
					}
				}()
				if _, err := Copy(b.ours, a.ours, nil); !errors.Is(err, syscall.EPIPE) && !errors.Is(err, syscall.ECONNRESET) {
					t.Error(err)
				}
				Reset(a.ours)
			})
		}
	}
}

// begun is a connection of which somebody has begun to read.
type begun struct {
	*net.TCPConn
	ahead []byte
}

func (a *begun) Read(b []byte) (int, error) {
	if len(a.ahead) == 0 {
		return a.TCPConn.Read(b)
	}
	n := copy(b, a.ahead)
	a.ahead = a.ahead[n:]
	return n, nil
}

func (a *begun) NetConn() net.Conn { return a.TCPConn }

func (a *begun) Under() net.Conn {
	if len(a.ahead) > 0 {
		return nil
	}
	return a.TCPConn
}

func TestWhatWasLookedAtComesFirst(t *testing.T) {
	a, aFar := testconn.TCP(t)
	b, bFar := testconn.TCP(t)
	from := &begun{a, []byte("first ")}
	if err := Wait(from); err != nil {
		t.Error(err)
	}
	io.WriteString(aFar, "then")
	aFar.CloseWrite()
	if n, err := Copy(&begun{TCPConn: b}, from, nil); n != 10 || err != nil {
		t.Error(n, err)
	}
	b.CloseWrite()
	if got, err := io.ReadAll(bFar); string(got) != "first then" || err != nil {
		t.Errorf("got %q, %v", got, err)
	}
}

// Mesh TLS begins with a ClientHello that somebody has looked at; what comes later is read of the socket all the same.
func TestTLSOfWhatWasLookedAt(t *testing.T) {
	near, far := testconn.TCP(t)
	budget := limits.NewBudget(1 << 20)
	client := Client(far, config(t), nil)
	done := make(chan error, 1)
	go func() { done <- client.Handshake() }()
	hello := make([]byte, 100)
	if _, err := io.ReadFull(near, hello); err != nil {
		t.Fatal(err)
	}
	server := Server(&begun{near, hello}, config(t), budget)
	if err := server.Handshake(); err != nil {
		t.Fatal(err)
	}
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	if !server.Quiet() || server.records.source.raw == nil || budget.Held() != 0 {
		t.Error("it does not know its socket")
	}
}
