// SPDX-License-Identifier: Apache-2.0

package socket

import (
	"crypto/tls"
	"errors"
	"net"
	"net/netip"
	"os"
	"testing"
	"time"

	"github.com/heddle-mesh/heddle/proxy/internal/testconn"
	"github.com/heddle-mesh/heddle/proxy/internal/testnet"
)

// A peer that vanishes while something is on its way to it is found out; one that is idle, or there and taking nothing, is
// left alone.
func TestAPeerThatVanishes(t *testing.T) {
	if !testnet.Apart(t) {
		return
	}
	const after = time.Second
	w := &Watch{After: after}
	waits := func(c net.Conn) <-chan error {
		ended := make(chan error, 1)
		go func() {
			_, err := c.Read(make([]byte, 1))
			ended <- err
		}()
		return ended
	}
	full, _ := testconn.TCP(t) // its peer never reads
	w.Add(full)
	full.SetWriteDeadline(time.Now().Add(3 * after))
	if _, err := full.Write(make([]byte, 64<<20)); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Fatalf("a peer that takes nothing: %v, want it left alone", err)
	}
	if underneath(full) == nil || len(w.conns) != 1 {
		t.Fatal("it is not watched")
	}
	w.Remove(full)

	idle, _ := testconn.TCP(t)
	plain, _ := testconn.TCP(t)
	server, _ := tlsPair(t, nil, nil)
	idleEnds, plainEnds, serverEnds := waits(idle), waits(plain), waits(server)
	for _, c := range []net.Conn{idle, plain, server} {
		w.Add(c)
	}
	var ports []uint16
	for _, c := range []net.Conn{idle, plain, server} {
		ports = append(ports, netip.MustParseAddrPort(c.RemoteAddr().String()).Port())
	}
	testnet.Vanish(t, ports...)
	begun := time.Now()
	for _, c := range []net.Conn{plain, server} {
		if _, err := c.Write([]byte("is anybody there?")); err != nil {
			t.Fatal(err)
		}
	}
	for name, ends := range map[string]<-chan error{"TCP": plainEnds, "TLS": serverEnds} {
		timer := time.NewTimer(30 * time.Second)
		select {
		case err := <-ends:
			if !errors.Is(err, net.ErrClosed) {
				t.Errorf("%s: %v", name, err)
			}
			if took := time.Since(begun); took < after/2 {
				t.Errorf("%s: given up after %v", name, took)
			}
		case <-timer.C:
			t.Errorf("%s: still waited for", name)
		}
		timer.Stop()
	}
	select {
	case err := <-idleEnds:
		t.Errorf("nothing was on its way, and it ended with %v", err)
	default:
	}
	for _, c := range []net.Conn{idle, plain, server} {
		w.Remove(c)
	}
	idle.Close()
	if err := <-idleEnds; err == nil {
		t.Error("something came")
	}
}

// What is no TCP is not watched, and nothing runs while nothing is.
func TestAWatchRestsWhileThereIsNothing(t *testing.T) {
	a, b := net.Pipe()
	defer a.Close()
	defer b.Close()
	w := &Watch{After: 20 * time.Millisecond}
	w.Add(tls.Client(a, &tls.Config{MinVersion: tls.VersionTLS13}))
	if len(w.conns) != 0 || w.timer != nil {
		t.Error("a pipe is watched")
	}
	c, _ := testconn.TCP(t)
	w.Add(c)
	w.Remove(c)
	for resting := false; !resting; {
		w.mu.Lock()
		resting = w.timer == nil
		w.mu.Unlock()
	}
	if _, err := c.Write([]byte("x")); err != nil {
		t.Error(err)
	}
}

func TestAWatchThatIsClosedClosesConnections(t *testing.T) {
	w := &Watch{}
	before, _ := testconn.TCP(t)
	w.Add(before)
	w.Close()
	after, _ := testconn.TCP(t)
	w.Add(after)
	for name, c := range map[string]net.Conn{"watched before": before, "watched afterwards": after} {
		if _, err := c.Read(make([]byte, 1)); !errors.Is(err, net.ErrClosed) {
			t.Errorf("%s: %v", name, err)
		}
		w.Remove(c)
	}
}
