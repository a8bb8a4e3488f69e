// SPDX-License-Identifier: Apache-2.0

package hostile

import (
	"fmt"
	"io"
	"net"
	"net/netip"
	"time"

	"github.com/heddle-mesh/heddle/internal/limits"
)

// another is an address of the machine itself that no good caller has.
var another = netip.AddrFrom4([4]byte{127, 0, 0, 66})

// ofConnections are those that need no protocol.
var ofConnections = []*Attack{
	{Name: "too many connections", Limit: limits.Connections, Rate: seldom, do: func(v *visit) error {
		// From many addresses, none of which has too many.
		return v.fills(v.HTTP1, connections, func(n int64) netip.Addr { return netip.AddrFrom4([4]byte{127, 0, 1, byte(n % 200)}) })
	}},
	{Name: "too many connections from one address", Limit: limits.ConnectionsPerSource, Rate: seldom, do: func(v *visit) error {
		return v.fills(v.Inbound, fromOneAddress, func(int64) netip.Addr { return another })
	}},
	{Name: "a connection that one side has ended", Limit: limits.HalfClosed, Port: TCP, Rate: seldom, do: func(v *visit) error {
		c, err := v.dial(v.TCP)
		if err != nil {
			return err
		}
		if _, err := io.WriteString(c, "k"); err != nil {
			return err
		}
		if err := c.CloseWrite(); err != nil {
			return err
		}
		return ended(c)
	}},
	{Name: "a caller that leaves it to the server to speak", Limit: limits.Grace, Port: Undeclared, Uncounted: true, do: func(v *visit) error {
		c, err := v.dial(v.Undeclared)
		if err != nil {
			return err
		}
		if _, err := c.Read(make([]byte, 1)); err != nil {
			return fmt.Errorf("the server did not speak: %w", err)
		}
		return nil
	}},
}

// fills opens connections until one is reset, which must be so when there are more than may be. The others stay until the
// proxy closes them for want of a first byte.
func (v *visit) fills(at netip.AddrPort, most int64, from func(n int64) netip.Addr) error {
	const soon = 5 * time.Millisecond
	a := v.attacker
	before := a.resets.Load()
	tick := time.NewTicker(soon)
	defer tick.Stop()
	for begun := time.Now(); a.resets.Load() == before && v.ctx.Err() == nil; {
		if time.Since(begun) > patience {
			return fmt.Errorf("with %d connections open none was reset", a.open.Load())
		}
		if a.open.Load() > most {
			<-tick.C // the last one's end is under way
			continue
		}
		c, err := v.dialFrom(from(a.opened.Add(1)), at)
		if wasReset(err) {
			return nil
		}
		if err != nil {
			return err
		}
		a.hold(c)
	}
	return nil
}

// hold keeps a connection until its peer or Close ends it.
func (a *Attacker) hold(c net.Conn) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.closed {
		_ = c.Close()
		return
	}
	a.held[c] = struct{}{}
	a.open.Add(1)
	a.running.Go(func() {
		_, err := c.Read(make([]byte, 1))
		if a.open.Add(-1); wasReset(err) {
			a.resets.Add(1)
		}
		_ = c.Close()
		a.mu.Lock()
		defer a.mu.Unlock()
		delete(a.held, c)
	})
}

// Close ends what attacks have left open.
func (a *Attacker) Close() {
	a.mu.Lock()
	a.closed = true
	for c := range a.held {
		_ = c.Close()
	}
	a.mu.Unlock()
	a.running.Wait()
}
