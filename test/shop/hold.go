// SPDX-License-Identifier: Apache-2.0

package main

import (
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

// holdHTTP sends every request on one keep-alive connection; a second dial is a cut.
func (h *holder) holdHTTP(ctx context.Context, url string) {
	var dials atomic.Int64
	transport := &http.Transport{DialContext: func(ctx context.Context, network, addr string) (net.Conn, error) {
		if dials.Add(1) > 1 {
			h.fail(&h.cut, "http", errors.New("dialled again"))
		}
		return new(net.Dialer).DialContext(ctx, network, addr)
	}}
	defer transport.CloseIdleConnections()
	client := &http.Client{Transport: transport, Timeout: 10 * time.Second}
	for waitUntil(ctx, time.Now().Add(h.pause)) {
		status, _, err := buy(ctx, client, url)
		if err == nil && status != http.StatusOK {
			err = fmt.Errorf("status %d", status)
		}
		if err != nil {
			h.fail(&h.failed, "http", err)
			continue
		}
		h.asked.Add(1)
	}
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
