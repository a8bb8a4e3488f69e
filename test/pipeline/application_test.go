// SPDX-License-Identifier: Apache-2.0

package pipeline

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"sync"
	"testing"
	"time"

	"connectrpc.com/connect"

	"github.com/heddle-mesh/heddle/test/shop/paymentsapi"
)

// The ports on which every application listens.
const (
	httpPort = 8080 // HTTP/1.1 and HTTP/2 with prior knowledge
	grpcPort = 9090
	tcpPort  = 6379 // it greets first, and answers lines
)

// application runs in a pod. It tells its name and what it sees.
type application struct {
	name  string
	ports map[uint16]string // where they are found on loopback
	wg    sync.WaitGroup

	mu    sync.Mutex
	conns map[net.Conn]struct{}
}

func newApplication(tb testing.TB, name string) *application {
	tb.Helper()
	a := &application{name: name, ports: make(map[uint16]string), conns: make(map[net.Conn]struct{})}
	mux := http.NewServeMux()
	mux.HandleFunc("/", a.answer)
	mux.Handle(paymentsapi.NewPaymentsHandler(a))
	protocols := new(http.Protocols)
	protocols.SetHTTP1(true)
	protocols.SetUnencryptedHTTP2(true)
	server := &http.Server{Handler: mux, Protocols: protocols, ReadHeaderTimeout: time.Minute}
	var tcp net.Listener
	for _, port := range []uint16{httpPort, grpcPort, tcpPort} {
		l := listen(tb)
		a.ports[port] = l.Addr().String()
		if port == tcpPort {
			tcp = l
			a.wg.Go(func() { a.accept(l) })
			continue
		}
		a.wg.Go(func() { _ = server.Serve(l) })
	}
	tb.Cleanup(func() {
		_ = server.Close()
		_ = tcp.Close()
		a.mu.Lock()
		for c := range a.conns {
			_ = c.Close()
		}
		a.mu.Unlock()
		a.wg.Wait()
	})
	return a
}

// What the application tells about a request.
const (
	headerBy     = "X-Served-By"
	headerProto  = "X-Proto"
	headerCaller = "X-Caller"
	callerHeader = "X-Forwarded-Client-Cert"
)

func (a *application) answer(w http.ResponseWriter, r *http.Request) {
	w.Header().Set(headerBy, a.name)
	w.Header().Set(headerProto, r.Proto)
	w.Header().Set(headerCaller, r.Header.Get(callerHeader))
	_, _ = io.WriteString(w, r.URL.Path)
	_, _ = io.Copy(w, r.Body)
}

func (a *application) receipt(h http.Header) *paymentsapi.ChargeResponse {
	return &paymentsapi.ChargeResponse{Receipt: a.name, Caller: h.Get(callerHeader)}
}

// Charge implements paymentsapi.PaymentsHandler.
func (a *application) Charge(_ context.Context, r *connect.Request[paymentsapi.ChargeRequest]) (*connect.Response[paymentsapi.ChargeResponse], error) {
	return connect.NewResponse(a.receipt(r.Header())), nil
}

// Watch implements paymentsapi.PaymentsHandler.
func (a *application) Watch(_ context.Context, stream *connect.BidiStream[paymentsapi.ChargeRequest, paymentsapi.ChargeResponse]) error {
	for {
		if _, err := stream.Receive(); errors.Is(err, io.EOF) {
			return nil
		} else if err != nil {
			return err
		}
		if err := stream.Send(a.receipt(stream.RequestHeader())); err != nil {
			return err
		}
	}
}

func (a *application) accept(l net.Listener) {
	for {
		c, err := l.Accept()
		if err != nil {
			return
		}
		a.mu.Lock()
		a.conns[c] = struct{}{}
		a.mu.Unlock()
		a.wg.Go(func() {
			a.talk(c)
			_ = c.Close()
			a.mu.Lock()
			defer a.mu.Unlock()
			delete(a.conns, c)
		})
	}
}

func (a *application) talk(c net.Conn) {
	if _, err := fmt.Fprintf(c, "ready %s\n", a.name); err != nil {
		return
	}
	for scanner := bufio.NewScanner(c); scanner.Scan(); {
		if _, err := fmt.Fprintf(c, "%s %s\n", a.name, scanner.Text()); err != nil {
			return
		}
	}
}
