// SPDX-License-Identifier: Apache-2.0

// Package hostile is what hostile callers do to a proxy: for each limit something that goes over it, with what it has to
// get for that. Tests look at the outcome, and at what is counted; the bench looks at how a neighbour fares meanwhile.
package hostile

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/heddle-mesh/heddle/internal/limits"
)

// Limits is the list that proxies have to run with to be attacked: low enough that little goes over it, and far from what
// a good caller needs.
const Limits = "header-bytes=8KiB,header-fields=30,request-line=2KiB,first-byte=300ms,header-time=300ms,handshake=1s," +
	"body-idle=1s,send-idle=1s,idle=1s,half-closed=1s,pipelined=5,streams=32,resets=100,control-frames=100,continuations=3," +
	"stream-window=16KiB,connection-window=64KiB,connections=150,connections-per-source=60,replay-bytes=1KiB"

// The numbers of that list that attacks count by.
const (
	pipelined      = 5
	streams        = 32
	resets         = 100
	streamWindow   = 16 << 10
	connections    = 150
	fromOneAddress = 60
	sendIdle       = time.Second
)

// patience is how long an attack waits for its outcome. It is a bound for a busy machine, not a goal.
const patience = 30 * time.Second

// Target is what is attacked: a pair of proxies, or one.
type Target struct {
	// HTTP1 and HTTP2 are where the client side takes HTTP, one address perhaps, and TCP where it takes what is declared so;
	// Undeclared is where it has to find out. Of an application that is asked for anything, but keeps a connection of TCP
	// that begins with "k" when its caller has ended it, and speaks first on Undeclared.
	HTTP1, HTTP2, TCP, Undeclared netip.AddrPort
	// Inbound is the server side, and Caller the TLS of a caller that it takes.
	Inbound netip.AddrPort
	Caller  *tls.Config
	// Authority and Path make a request that is answered with 200, Large one whose answer has a MiB at least, and Stuck one
	// on whose connection the application reads nothing more.
	Authority, Path, Large, Stuck string
	// Await waits until a limit has been gone over once more than when it was called with that; nil waits for the limit's
	// time, and half of it.
	Await func(limits.Name) (wait func())
}

// Port is where an attack goes.
type Port int

// The ports.
const (
	HTTP1 Port = iota
	HTTP2
	TCP
	Undeclared
)

// Attack is one way to go over a limit.
type Attack struct {
	Name  string
	Limit limits.Name
	Port  Port
	// Uncounted says that it takes nothing that is counted.
	Uncounted bool
	// Rate is how many of them a second make a bench's attack; 0 is Rate.
	Rate float64

	do func(*visit) error
}

// Rate is how many attacks begin in a second, where an Attack has no Rate of its own: seldom is for those that make a proxy
// carry much, or make a connection of mesh TLS.
const (
	Rate   = 10
	seldom = 2
)

// All returns every attack.
func All() []*Attack { return slices.Concat(ofHTTP1, ofHTTP2, ofConnections) }

// Attacker makes attacks on a Target. It is safe for concurrent use. Close ends what its connections hold.
type Attacker struct {
	target               Target
	open, opened, resets atomic.Int64 // of the connections that are held
	running              sync.WaitGroup

	mu     sync.Mutex
	held   map[net.Conn]struct{}
	closed bool
}

// New makes an Attacker.
func New(t Target) *Attacker { return &Attacker{target: t, held: make(map[net.Conn]struct{})} }

// Make makes an attack, and waits for its outcome. An error says that the outcome is another one than the limit says.
func (a *Attacker) Make(ctx context.Context, what *Attack) error {
	v := &visit{Target: a.target, attacker: a, ctx: ctx, limit: what.Limit}
	defer v.end()
	if err := what.do(v); err != nil && ctx.Err() == nil {
		return fmt.Errorf("%s: %w", what.Name, err)
	}
	return nil
}

// visit is one attack while it is made.
type visit struct {
	Target
	attacker *Attacker
	ctx      context.Context //nolint:containedctx // it lives as long as the call that made it
	limit    limits.Name
	conns    []net.Conn
	running  sync.WaitGroup
	stops    []func() bool
}

// end closes what it opened, and waits for what it started.
func (v *visit) end() {
	for _, stop := range v.stops {
		stop()
	}
	for _, c := range v.conns {
		_ = c.Close()
	}
	v.running.Wait()
}

// dial opens a connection that ends with the visit, or with its context.
func (v *visit) dial(to netip.AddrPort) (*net.TCPConn, error) {
	c, err := v.dialFrom(netip.Addr{}, to)
	if err != nil {
		return nil, err
	}
	v.conns = append(v.conns, c)
	v.stops = append(v.stops, context.AfterFunc(v.ctx, func() { _ = c.Close() }))
	return c, nil
}

func (v *visit) dialFrom(from netip.Addr, to netip.AddrPort) (*net.TCPConn, error) {
	d := net.Dialer{Timeout: patience}
	if from.IsValid() {
		d.LocalAddr = net.TCPAddrFromAddrPort(netip.AddrPortFrom(from, 0))
	}
	c, err := d.DialContext(v.ctx, "tcp", to.String())
	if err != nil {
		return nil, err
	}
	tcp, ok := c.(*net.TCPConn)
	if !ok {
		return nil, errors.ErrUnsupported
	}
	return tcp, tcp.SetDeadline(time.Now().Add(patience))
}

// awaits says that the limit is about to be gone over. What it returns waits until it was.
func (v *visit) awaits(within time.Duration) (wait func()) {
	if v.Await != nil {
		return v.Await(v.limit)
	}
	timer := time.NewTimer(within * 3 / 2)
	return func() {
		defer timer.Stop()
		select {
		case <-timer.C:
		case <-v.ctx.Done():
		}
	}
}

// wasReset says whether a read failed because the peer reset the connection.
func wasReset(err error) bool { return errors.Is(err, syscall.ECONNRESET) }
