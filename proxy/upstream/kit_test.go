// SPDX-License-Identifier: Apache-2.0

package upstream

import (
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/heddle-mesh/heddle/internal/identity"
	"github.com/heddle-mesh/heddle/proxy/internal/testpki"
	"github.com/heddle-mesh/heddle/proxy/message"
	"github.com/heddle-mesh/heddle/proxy/refusal"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// listen gives each connection to serve, in a goroutine, and closes what is left when the test ends.
func listen(t *testing.T, serve func(net.Conn)) netip.AddrPort {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	var mu sync.Mutex
	var conns []net.Conn
	wg.Go(func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			mu.Lock()
			conns = append(conns, conn)
			mu.Unlock()
			wg.Go(func() { serve(conn) })
		}
	})
	t.Cleanup(func() {
		listener.Close()
		mu.Lock()
		for _, c := range conns {
			c.Close()
		}
		mu.Unlock()
		wg.Wait()
	})
	return netip.MustParseAddrPort(listener.Addr().String())
}

// server runs a server of HTTP/1.1 and of HTTP/2 with prior knowledge.
func server(t *testing.T, handler http.HandlerFunc) (*httptest.Server, Key) {
	t.Helper()
	s := httptest.NewUnstartedServer(handler)
	s.Config.Protocols = new(http.Protocols)
	s.Config.Protocols.SetHTTP1(true)
	s.Config.Protocols.SetUnencryptedHTTP2(true)
	s.Start()
	t.Cleanup(s.Close)
	return s, Key{Address: netip.MustParseAddrPort(s.Listener.Addr().String())}
}

// registry makes a registry that is closed with the test.
func registry(t *testing.T, options Options) *Registry {
	t.Helper()
	if options.Clock == nil {
		options.Clock = time.Now
	}
	r := NewRegistry(options)
	t.Cleanup(r.Close)
	return r
}

// asked is a request of a test.
func asked(method, body string) *message.Head {
	h := &message.Head{Method: method, Authority: "service.example", Path: "/", Length: int64(len(body))}
	h.Add("Host", h.Authority)
	return h
}

// borrow borrows a connection of HTTP/1.1, or waits for one.
func borrow(e *Endpoint) (*Conn1, *Failure) {
	if c := e.Reuse(e.registry.options.Clock()); c != nil {
		return c, nil
	}
	return e.Connect(time.Time{}, nil, 0)
}

// begin sends a request on a connection of the pool and reads the head of the answer.
func begin(e *Endpoint, method, body string) (*Conn1, *Failure) {
	for {
		c, why := borrow(e)
		if why != nil {
			return nil, why
		}
		request, answer := asked(method, body), &message.Head{}
		err := errors.Join(c.WriteRequest(request), write(c, body), c.End(nil), c.Flush())
		if err == nil {
			err = c.ReadResponse(answer, request)
		}
		if err == nil {
			return c, nil
		}
		failure, stale := c.Failed(err)
		c.Close()
		if !stale {
			return nil, failure
		}
	}
}

func write(c *Conn1, body string) error {
	_, err := c.Write([]byte(body))
	return err
}

// read reads the answer's content to its end and gives the connection back.
func read(c *Conn1) (string, error) {
	body, err := io.ReadAll(c)
	c.Put(c.endpoint.registry.options.Clock())
	return string(body), err
}

// exchange sends a request and reads the answer to its end.
func exchange(t *testing.T, e *Endpoint, method, body string) string {
	t.Helper()
	c, why := begin(e, method, body)
	if why != nil {
		t.Fatal(why)
	}
	text, err := read(c)
	if err != nil {
		t.Fatal(err)
	}
	return text
}

// refused checks an error.
func refused(t *testing.T, failure *Failure, reason refusal.Reason, undelivered bool) {
	t.Helper()
	if failure == nil {
		t.Fatal("no Failure")
	}
	if failure.Reason != reason || failure.Undelivered != undelivered {
		t.Errorf("%v, undelivered %v; want reason %s, undelivered %v", failure, failure.Undelivered, reason, undelivered)
	}
}

// eventually waits for a condition that other goroutines bring about.
func eventually(t *testing.T, what string, condition func() bool) {
	t.Helper()
	ticker := time.NewTicker(2 * time.Millisecond)
	defer ticker.Stop()
	deadline := time.NewTimer(10 * time.Second)
	defer deadline.Stop()
	for !condition() {
		select {
		case <-ticker.C:
		case <-deadline.C:
			t.Fatal("never: " + what)
		}
	}
}

// meshServer answers HTTP/1.1 and HTTP/2 over mesh TLS as an identity, whoever calls.
func meshServer(t *testing.T, credentials *testpki.Credentials, handler http.HandlerFunc) Key {
	t.Helper()
	config := &tls.Config{
		MinVersion:     tls.VersionTLS13,
		NextProtos:     []string{ALPNHTTP1, ALPNHTTP2, ALPNTCP},
		ClientAuth:     tls.RequireAndVerifyClientCert,
		ClientCAs:      credentials.Roots(),
		GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return credentials.Certificate(), nil },
	}
	address := listen(t, func(conn net.Conn) {
		secured := tls.Server(conn, config)
		if secured.Handshake() != nil {
			conn.(*net.TCPConn).CloseWrite()
			io.Copy(io.Discard, conn)
			conn.Close()
			return
		}
		alpn := secured.ConnectionState().NegotiatedProtocol
		if alpn == ALPNTCP {
			io.Copy(secured, secured)
			secured.CloseWrite()
			return
		}
		s := &http.Server{Handler: handler, Protocols: new(http.Protocols), ReadHeaderTimeout: time.Minute}
		s.Protocols.SetHTTP1(alpn == ALPNHTTP1)
		s.Protocols.SetUnencryptedHTTP2(alpn == ALPNHTTP2)
		s.Serve(&oneListener{conn: secured, done: make(chan struct{})})
	})
	id, err := identity.FromCertificate(credentials.Certificate().Leaf)
	if err != nil {
		t.Fatal(err)
	}
	return Key{Address: address, Identity: id}
}

// oneListener accepts one connection, and ends when it does.
type oneListener struct {
	conn net.Conn
	done chan struct{}
	once sync.Once
}

func (l *oneListener) Accept() (net.Conn, error) {
	if c := l.conn; c != nil {
		l.conn = nil
		return &closing{c, l}, nil
	}
	<-l.done
	return nil, io.EOF
}
func (l *oneListener) Close() error   { return nil }
func (l *oneListener) Addr() net.Addr { return &net.TCPAddr{} }

type closing struct {
	net.Conn
	listener *oneListener
}

func (c *closing) Close() error {
	c.listener.once.Do(func() { close(c.listener.done) })
	return c.Conn.Close()
}
