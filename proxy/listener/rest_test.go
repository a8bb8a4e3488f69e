// SPDX-License-Identifier: Apache-2.0

package listener

import (
	"bytes"
	"io"
	"net"
	"runtime"
	"runtime/metrics"
	"testing"
	"time"

	"github.com/heddle-mesh/heddle/proxy/forward"
	"github.com/heddle-mesh/heddle/proxy/socket"
)

// goroutine names the one that calls.
func goroutine() string {
	b := make([]byte, 64)
	name, _, _ := bytes.Cut(b[:runtime.Stack(b, false)], []byte(" ["))
	return string(name)
}

func TestWhatRestsGoesOnInAnotherGoroutine(t *testing.T) {
	for name, last := range map[string]forward.Rest{
		"until it ends":   func() forward.Rest { return nil },
		"until it panics": func() forward.Rest { panic("a fault") },
	} {
		t.Run(name, func(t *testing.T) {
			counted := &events{}
			ran := make(chan string, 3)
			address := start(t, Options{
				OriginalDestination: goingTo("10.0.0.5:1"), Events: counted,
				Server: &server{rest: func(c *forward.Conn) forward.Rest {
					ran <- goroutine()
					return func() forward.Rest {
						ran <- goroutine()
						_, _ = io.WriteString(c, "carried")
						return func() forward.Rest {
							ran <- goroutine()
							return last()
						}
					}
				}},
			})
			if got, err := ask(t, address); got != "carried" || err != nil {
				t.Errorf("got %q, %v", got, err)
			}
			if a, b, c := <-ran, <-ran, <-ran; a == b || b == c || a == c {
				t.Errorf("it ran in %s, %s and %s", a, b, c)
			}
			deadline := time.Now().Add(5 * time.Second)
			for counted.ended() == 0 && time.Now().Before(deadline) {
				runtime.Gosched()
			}
			counted.mu.Lock()
			defer counted.mu.Unlock()
			if panics := name == "until it panics"; counted.opened != 1 || counted.closed != 1 || (counted.panicked == 1) != panics {
				t.Errorf("%d opened, %d closed, %d panicked", counted.opened, counted.closed, counted.panicked)
			}
		})
	}
}

func (e *events) ended() int { e.mu.Lock(); defer e.mu.Unlock(); return e.closed }

// A new goroutine has a stack of 2 KiB, of which the runtime keeps 928 bytes for itself, and the connection's own function
// takes some too. Whoever needs more holds twice as much for as long as the connection lives.
func TestWhatRestsNeedsLittleOfTheStack(t *testing.T) {
	const many, least, most = 200, 200, 1000
	before := scanned()
	address := start(t, Options{
		OriginalDestination: goingTo("10.0.0.5:1"), Events: &events{},
		Server: &server{rest: func(c *forward.Conn) forward.Rest {
			return func() forward.Rest {
				socket.Rest(c.Peeker)
				return nil
			}
		}},
	})
	for range many {
		c, err := net.Dial("tcp", address)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
	}
	each, last := 0, -1
	for deadline := time.Now().Add(10 * time.Second); (each < least || each != last) && time.Now().Before(deadline); {
		last, each = each, (scanned()-before)/many // until all wait
	}
	if each < least || each > most {
		t.Errorf("%d bytes of the stack each, want %d to %d", each, least, most)
	}
}

// scanned returns the bytes of stacks that are in use.
func scanned() int {
	runtime.GC()
	sample := []metrics.Sample{{Name: "/gc/scan/stack:bytes"}}
	metrics.Read(sample)
	return int(sample[0].Value.Uint64()) //nolint:gosec // it is small
}
