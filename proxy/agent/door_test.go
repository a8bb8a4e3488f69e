// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"io"
	"net"
	"sync"
	"testing"
)

// door is a Service in front of the replicas: it forwards each new connection to where it leads at the time.
type door struct {
	listener net.Listener
	wg       sync.WaitGroup

	mu    sync.Mutex
	to    string
	deaf  bool // takes everything and forwards nothing
	conns map[net.Conn]struct{}
	count int
}

func newDoor(tb testing.TB, to string) *door {
	tb.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	check(tb, err)
	d := &door{listener: l, to: to, conns: make(map[net.Conn]struct{})}
	d.wg.Go(d.serve)
	tb.Cleanup(func() {
		_ = l.Close()
		d.lead("")
		d.wg.Wait()
	})
	return d
}

func (d *door) address() string { return d.listener.Addr().String() }

// lead cuts all connections and sends new ones elsewhere.
func (d *door) lead(to string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.to = to
	for c := range d.conns {
		_ = c.Close()
	}
	clear(d.conns)
}

// deafen makes the connections that are open go on without a word.
func (d *door) deafen() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.deaf = true
}

func (d *door) hear() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.deaf = false
}

func (d *door) connections() int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.count
}

func (d *door) serve() {
	for {
		near, err := d.listener.Accept()
		if err != nil {
			return
		}
		d.mu.Lock()
		to := d.to
		d.mu.Unlock()
		far, err := net.Dial("tcp", to)
		if err != nil {
			_ = near.Close()
			continue
		}
		d.mu.Lock()
		d.conns[near], d.conns[far] = struct{}{}, struct{}{}
		d.count++
		d.mu.Unlock()
		d.wg.Go(func() { d.copy(near, far) })
		d.wg.Go(func() { d.copy(far, near) })
	}
}

func (d *door) copy(to, from net.Conn) {
	defer to.Close()
	defer from.Close()
	buffer := make([]byte, 32<<10)
	for {
		n, err := from.Read(buffer)
		if err != nil {
			return
		}
		d.mu.Lock()
		deaf := d.deaf
		d.mu.Unlock()
		if deaf {
			_, _ = io.Copy(io.Discard, from)
			return
		}
		if _, err := to.Write(buffer[:n]); err != nil {
			return
		}
	}
}
