// SPDX-License-Identifier: Apache-2.0

package socket

import (
	"bytes"
	"crypto/tls"
	"io"
	"math/rand/v2"
	"net"
	"sync/atomic"
	"testing"
	"time"

	"github.com/heddle-mesh/heddle/internal/identity"
	"github.com/heddle-mesh/heddle/internal/limits"
	"github.com/heddle-mesh/heddle/proxy/internal/testconn"
	"github.com/heddle-mesh/heddle/proxy/internal/testpki"
)

// config is that of either end.
func config(t testing.TB) *tls.Config {
	t.Helper()
	ca := testpki.NewAuthority(t)
	leaf := ca.Issue(t, identity.ID{TrustDomain: "t", Namespace: "n", ServiceAccount: "s"}, time.Now().Add(time.Hour))
	return &tls.Config{
		Certificates: []tls.Certificate{*leaf}, MinVersion: tls.VersionTLS13, ClientAuth: tls.RequireAnyClientCert,
		InsecureSkipVerify: true, SessionTicketsDisabled: true, DynamicRecordSizingDisabled: true, //nolint:gosec // a test
	}
}

// secure makes mesh TLS of both ends of a connection.
func secure(t testing.TB, near, far net.Conn, ofServer, ofClient *limits.Budget) (server, client *TLS) {
	t.Helper()
	c := config(t)
	server, client = Server(near, c, ofServer), Client(far, c, ofClient)
	done := make(chan error, 1)
	go func() { done <- client.Handshake() }()
	if err := server.Handshake(); err != nil {
		t.Fatal(err)
	}
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	return server, client
}

func tlsPair(t testing.TB, ofServer, ofClient *limits.Budget) (server, client *TLS) {
	t.Helper()
	near, far := testconn.TCP(t)
	return secure(t, near, far, ofServer, ofClient)
}

// half is a connection that can be ended in one direction.
type half interface {
	net.Conn
	CloseWrite() error
}

// link is a connection whose other end is the test's. The budget is that of our end.
type link struct{ ours, theirs half }

func links(t testing.TB, budget *limits.Budget) map[string]func() link {
	t.Helper()
	return map[string]func() link{
		"plain": func() link {
			near, far := testconn.TCP(t)
			return link{near, far}
		},
		"TLS, dialled": func() link {
			server, client := tlsPair(t, nil, budget)
			return link{client, server}
		},
		"TLS, accepted": func() link {
			server, client := tlsPair(t, budget, nil)
			return link{server, client}
		},
	}
}

// noise is bytes that don't repeat.
func noise(n int) []byte {
	b := make([]byte, n)
	r := rand.NewChaCha8([32]byte{1})
	r.Read(b)
	return b
}

// want reads exactly these bytes.
func want(t testing.TB, c io.Reader, bytesWanted []byte) {
	t.Helper()
	got := make([]byte, len(bytesWanted))
	if n, err := io.ReadFull(c, got); err != nil || !bytes.Equal(got, bytesWanted) {
		t.Errorf("read %d bytes, %v: not the %d that were sent", n, err, len(bytesWanted))
	}
}

// counting counts the writes of what is underneath.
type counting struct {
	net.Conn
	writes atomic.Int64
}

func (c *counting) Write(b []byte) (int, error) {
	c.writes.Add(1)
	return c.Conn.Write(b)
}

// eventually waits until something is so.
func eventually(t testing.TB, what string, so func() bool) {
	t.Helper()
	deadline := time.Now().Add(10 * time.Second)
	for !so() {
		if time.Now().After(deadline) {
			t.Fatal("not so within 10 s: ", what)
		}
		timer := time.NewTimer(time.Millisecond)
		<-timer.C
	}
}

// sender writes without end.
type sender struct {
	pieces atomic.Int64 // that were written
	broken chan error   // gets why writing failed
}

func sending(to io.Writer) *sender {
	s := &sender{broken: make(chan error, 1)}
	piece := noise(20_000) // more than a record
	go func() {
		for {
			if _, err := to.Write(piece); err != nil {
				s.broken <- err
				return
			}
			s.pieces.Add(1)
		}
	}()
	return s
}

// halts waits until nothing more could be written for a while, in which something was so all the time.
func (s *sender) halts(t testing.TB, so func() bool) {
	t.Helper()
	const while = 50 * time.Millisecond
	last, since := int64(-1), time.Now()
	eventually(t, "the sender is stopped", func() bool {
		if n := s.pieces.Load(); n != last || !so() {
			last, since = n, time.Now()
		}
		return time.Since(since) > while
	})
}
