// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"connectrpc.com/connect"

	"github.com/heddle-mesh/heddle/test/shop/paymentsapi"
)

// Held is what `shop hold` prints at its end.
type Held struct {
	Asked  int64    `json:"asked"`  // requests, messages and lines that were answered
	Failed int64    `json:"failed"` // that were not
	Cut    int64    `json:"cut"`    // connections and streams that ended before their time
	Errors []string `json:"errors,omitempty"`
}

type holder struct {
	asked, failed, cut atomic.Int64
	pause              time.Duration

	mu     sync.Mutex
	errors []string
}

func (h *holder) fail(counter *atomic.Int64, kind string, err error) {
	counter.Add(1)
	h.mu.Lock()
	defer h.mu.Unlock()
	if len(h.errors) < 10 {
		h.errors = append(h.errors, fmt.Sprintf("%s %s: %v", time.Now().Format("15:04:05.000"), kind, err))
	}
}

// runHold keeps connections of three kinds open, asks on each again and again, and counts what was cut.
func runHold(ctx context.Context, args []string) error {
	flags := newFlags("hold")
	conns := flags.Int("conns", 100, "connections of each kind")
	url := flags.String("http", "", "HTTP/1.1 URL; empty: none")
	grpc := flags.String("grpc", "", "URL of payments; empty: none")
	tcp := flags.String("tcp", "", "address of the store; empty: none")
	duration := flags.Duration("duration", time.Minute, "how long")
	pause := flags.Duration("pause", 500*time.Millisecond, "between two questions on one connection")
	if err := flags.Parse(args); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, *duration)
	defer cancel()
	h := &holder{pause: *pause}
	var running sync.WaitGroup
	for range *conns {
		if *url != "" {
			running.Go(func() { h.holdHTTP(ctx, *url) })
		}
		if *grpc != "" {
			running.Go(func() { h.holdGRPC(ctx, *grpc) })
		}
		if *tcp != "" {
			running.Go(func() { h.holdTCP(ctx, *tcp) })
		}
	}
	running.Wait()
	return json.NewEncoder(os.Stdout).Encode(Held{Asked: h.asked.Load(), Failed: h.failed.Load(), Cut: h.cut.Load(), Errors: h.errors})
}

// holdHTTP sends every request on one keep-alive connection. It writes and reads by itself: http.Transport gives up a
// connection of its own accord too, when a busy machine keeps its writer waiting, and dials again.
func (h *holder) holdHTTP(ctx context.Context, url string) {
	req, err := http.NewRequestWithContext(context.WithoutCancel(ctx), http.MethodGet, url, http.NoBody)
	if err != nil {
		h.fail(&h.failed, "http", err)
		return
	}
	addr := req.URL.Host
	if req.URL.Port() == "" {
		addr = net.JoinHostPort(addr, "80")
	}
	conn, err := new(net.Dialer).DialContext(ctx, "tcp", addr)
	if err != nil {
		h.fail(&h.failed, "http", err)
		return
	}
	defer conn.Close()
	reader := bufio.NewReader(conn)
	for waitUntil(ctx, time.Now().Add(h.pause)) {
		last, err := askHTTP(conn, reader, req)
		if err == nil && last {
			err = errors.New("the server closes the connection after this answer")
		}
		if err != nil {
			h.fail(&h.cut, "http", err)
			return
		}
		h.asked.Add(1)
	}
}

// askHTTP makes one request, and says whether the server closes the connection after it.
func askHTTP(conn net.Conn, reader *bufio.Reader, req *http.Request) (last bool, err error) {
	if err := conn.SetDeadline(time.Now().Add(10 * time.Second)); err != nil {
		return false, err
	}
	if err := req.Write(conn); err != nil {
		return false, err
	}
	resp, err := http.ReadResponse(reader, req)
	if err != nil {
		return false, err
	}
	defer resp.Body.Close()
	if _, err := io.Copy(io.Discard, resp.Body); err != nil {
		return false, err
	}
	if resp.StatusCode != http.StatusOK {
		return resp.Close, fmt.Errorf("status %d", resp.StatusCode)
	}
	return resp.Close, nil
}

func (h *holder) holdGRPC(ctx context.Context, url string) {
	client := grpcClient()
	defer client.CloseIdleConnections()
	// The stream's own context: ctx only says when to end it.
	stream := paymentsapi.NewPaymentsClient(client, url, connect.WithGRPC()).Watch(context.WithoutCancel(ctx))
	for waitUntil(ctx, time.Now().Add(h.pause)) {
		err := stream.Send(&paymentsapi.ChargeRequest{Cents: 1})
		if err == nil {
			_, err = stream.Receive()
		}
		if err != nil {
			h.fail(&h.cut, "grpc", err)
			return
		}
		h.asked.Add(1)
	}
	if err := stream.CloseRequest(); err != nil {
		h.fail(&h.failed, "grpc", err)
	}
	if _, err := stream.Receive(); !errors.Is(err, io.EOF) {
		h.fail(&h.failed, "grpc", fmt.Errorf("at its end: %w", err))
	}
}

func (h *holder) holdTCP(ctx context.Context, addr string) {
	conn, err := new(net.Dialer).DialContext(ctx, "tcp", addr)
	if err != nil {
		h.fail(&h.failed, "tcp", err)
		return
	}
	defer conn.Close()
	talk := newLines(conn)
	for first := true; waitUntil(ctx, time.Now().Add(h.pause)); first = false {
		if _, err := talk.ask("ping", first); err != nil {
			h.fail(&h.cut, "tcp", err)
			return
		}
		h.asked.Add(1)
	}
}
