// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"os"
	"strings"
	"sync/atomic"
	"time"

	"connectrpc.com/connect"

	"github.com/heddle-mesh/heddle/test/shop/paymentsapi"
)

type payments struct {
	paymentsapi.UnimplementedPaymentsHandler

	receipts atomic.Int64
}

func (p *payments) answer(caller string) *paymentsapi.ChargeResponse {
	return &paymentsapi.ChargeResponse{Receipt: fmt.Sprintf("%s-%d", os.Getenv("HOSTNAME"), p.receipts.Add(1)), Caller: caller}
}

func (p *payments) Charge(_ context.Context, r *connect.Request[paymentsapi.ChargeRequest]) (*connect.Response[paymentsapi.ChargeResponse], error) {
	if r.Msg.GetCents() <= 0 {
		return nil, connect.NewError(connect.CodeInvalidArgument, errors.New("cents: want more than 0"))
	}
	return connect.NewResponse(p.answer(r.Header().Get(callerHeader))), nil
}

func (p *payments) Watch(_ context.Context, stream *connect.BidiStream[paymentsapi.ChargeRequest, paymentsapi.ChargeResponse]) error {
	for {
		if _, err := stream.Receive(); errors.Is(err, io.EOF) {
			return nil
		} else if err != nil {
			return err
		}
		if err := stream.Send(p.answer(stream.RequestHeader().Get(callerHeader))); err != nil {
			return err
		}
	}
}

// health is grpc.health.v1.Health/Check, always SERVING: message {status: 1} behind gRPC's five-byte prefix.
func health(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "application/grpc")
	w.Header().Set("Trailer", "Grpc-Status")
	_, _ = w.Write([]byte{0, 0, 0, 0, 2, 0x08, 0x01}) // fails only if the caller went away
	w.Header().Set("Grpc-Status", "0")
}

func runPayments(ctx context.Context, args []string) error {
	flags := newFlags("payments")
	addr := flags.String("addr", ":9090", "listen address")
	if err := flags.Parse(args); err != nil {
		return err
	}
	mux := http.NewServeMux()
	// Uncompressed, so that a capture can tell whether it is encrypted.
	mux.Handle(paymentsapi.NewPaymentsHandler(&payments{}, connect.WithCompressMinBytes(1<<20)))
	mux.HandleFunc("/grpc.health.v1.Health/Check", health)
	return serve(ctx, *addr, mux)
}

// runStore answers every line "x" with "stored x"; it greets first, as databases do.
func runStore(ctx context.Context, args []string) error {
	flags := newFlags("store")
	addr := flags.String("addr", ":6379", "listen address")
	if err := flags.Parse(args); err != nil {
		return err
	}
	listener, err := new(net.ListenConfig).Listen(ctx, "tcp", *addr)
	if err != nil {
		return err
	}
	context.AfterFunc(ctx, func() { listener.Close() })
	for {
		conn, err := listener.Accept()
		if errors.Is(err, net.ErrClosed) {
			return nil // ctx ended
		}
		if err != nil {
			return err
		}
		go func() {
			defer conn.Close()
			if err := storeLines(conn); err != nil {
				log.Printf("store: %v", err)
			}
		}()
	}
}

func storeLines(conn net.Conn) error {
	if _, err := fmt.Fprintf(conn, "+ready %s\n", os.Getenv("HOSTNAME")); err != nil {
		return err
	}
	scanner := bufio.NewScanner(conn)
	for scanner.Scan() {
		if _, err := fmt.Fprintf(conn, "stored %s\n", scanner.Text()); err != nil {
			return err
		}
	}
	return scanner.Err()
}

// lines talks the store's protocol over one connection.
type lines struct {
	conn   net.Conn
	reader *bufio.Reader
}

func newLines(conn net.Conn) *lines { return &lines{conn, bufio.NewReader(conn)} }

// ask reads the greeting if greeted, sends the line and returns the answer, within 5 s.
func (l *lines) ask(line string, greeted bool) (string, error) {
	if err := l.conn.SetDeadline(time.Now().Add(5 * time.Second)); err != nil {
		return "", err
	}
	if greeted {
		if _, err := l.reader.ReadString('\n'); err != nil {
			return "", fmt.Errorf("greeting: %w", err)
		}
	}
	if _, err := fmt.Fprintln(l.conn, line); err != nil {
		return "", err
	}
	answer, err := l.reader.ReadString('\n')
	return strings.TrimSpace(answer), err
}
