// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"os"
	"sync/atomic"
	"time"

	"connectrpc.com/connect"

	"github.com/heddle-mesh/heddle/test/shop/paymentsapi"
)

// callerHeader carries the identity that the server-side proxy verified (Envoy's XFCC, URI form).
const callerHeader = "X-Forwarded-Client-Cert"

// Purchase is what /buy answers: who did the work, and whom each of them saw as its caller.
type Purchase struct {
	Version  string `json:"version"`            // of checkout
	Pod      string `json:"pod"`                // of checkout
	Caller   string `json:"caller"`             // whom checkout saw
	Receipt  string `json:"receipt,omitempty"`  // from payments
	Payments string `json:"payments,omitempty"` // whom payments saw
	Stored   string `json:"stored,omitempty"`   // what the store answered
}

// serve answers HTTP/1.1 and HTTP/2 in clear on addr until ctx ends, then finishes what runs. /healthz turns bad
// while /sick was called last, good again after /well.
func serve(ctx context.Context, addr string, mux *http.ServeMux) error {
	var sick atomic.Bool
	mux.HandleFunc("/healthz", func(w http.ResponseWriter, _ *http.Request) {
		if sick.Load() {
			http.Error(w, "sick", http.StatusInternalServerError)
		}
	})
	mux.HandleFunc("POST /sick", func(http.ResponseWriter, *http.Request) { sick.Store(true) })
	mux.HandleFunc("POST /well", func(http.ResponseWriter, *http.Request) { sick.Store(false) })
	protocols := new(http.Protocols)
	protocols.SetHTTP1(true)
	protocols.SetUnencryptedHTTP2(true)
	server := &http.Server{Addr: addr, Handler: mux, Protocols: protocols, ReadHeaderTimeout: 10 * time.Second}
	done := make(chan error, 1)
	go func() {
		<-ctx.Done()
		grace, cancel := context.WithTimeout(context.WithoutCancel(ctx), 20*time.Second)
		defer cancel()
		done <- server.Shutdown(grace)
	}()
	if err := server.ListenAndServe(); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return <-done
}

func runWeb(ctx context.Context, args []string) error {
	flags := newFlags("web")
	addr := flags.String("addr", ":8080", "listen address")
	checkout := flags.String("checkout", "http://checkout", "URL of the checkout")
	if err := flags.Parse(args); err != nil {
		return err
	}
	client := httpClient(256)
	mux := http.NewServeMux()
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprintln(w, "the shop: GET /buy")
	})
	mux.HandleFunc("/stopping", func(http.ResponseWriter, *http.Request) { log.Print("the preStop hook was called") })
	mux.HandleFunc("/buy", func(w http.ResponseWriter, r *http.Request) {
		out, err := http.NewRequestWithContext(r.Context(), http.MethodGet, *checkout+"/checkout", nil)
		if err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
			return
		}
		resp, err := client.Do(out)
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadGateway)
			return
		}
		defer resp.Body.Close()
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(resp.StatusCode)
		if _, err := io.Copy(w, resp.Body); err != nil {
			return // the caller went away
		}
	})
	return serve(ctx, *addr, mux)
}

func runCheckout(ctx context.Context, args []string) error {
	flags := newFlags("checkout")
	addr := flags.String("addr", ":8080", "listen address")
	version := flags.String("version", "v1", "what to answer as the version")
	payments := flags.String("payments", "", "URL of payments; empty: none")
	store := flags.String("store", "", "address of the store; empty: none")
	if err := flags.Parse(args); err != nil {
		return err
	}
	charges := paymentsapi.NewPaymentsClient(grpcClient(), *payments, connect.WithGRPC())
	mux := http.NewServeMux()
	mux.HandleFunc("/checkout", func(w http.ResponseWriter, r *http.Request) {
		p := Purchase{Version: *version, Pod: os.Getenv("HOSTNAME"), Caller: r.Header.Get(callerHeader)}
		if *payments != "" {
			answer, err := charges.Charge(r.Context(), connect.NewRequest(&paymentsapi.ChargeRequest{Cents: 1999}))
			if err != nil {
				http.Error(w, "payments: "+err.Error(), http.StatusBadGateway)
				return
			}
			p.Receipt, p.Payments = answer.Msg.GetReceipt(), answer.Msg.GetCaller()
		}
		if *store != "" {
			stored, err := put(r.Context(), *store, "order "+p.Receipt)
			if err != nil {
				http.Error(w, "store: "+err.Error(), http.StatusBadGateway)
				return
			}
			p.Stored = stored
		}
		w.Header().Set("Content-Type", "application/json")
		_ = json.NewEncoder(w).Encode(p) // fails only if the caller went away
	})
	mux.HandleFunc("/echo", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("X-Version", *version)
		w.Header().Set("X-Caller", r.Header.Get(callerHeader))
		_, _ = io.Copy(w, io.LimitReader(r.Body, 16<<20)) // fails only if the caller went away
	})
	mux.HandleFunc("/headers", func(w http.ResponseWriter, r *http.Request) {
		_ = json.NewEncoder(w).Encode(r.Header)
	})
	mux.HandleFunc("/slow", func(w http.ResponseWriter, r *http.Request) {
		d, err := time.ParseDuration(r.FormValue("d"))
		if err != nil {
			http.Error(w, "d: "+err.Error(), http.StatusBadRequest)
			return
		}
		timer := time.NewTimer(d)
		defer timer.Stop()
		select {
		case <-timer.C:
			fmt.Fprintln(w, *version)
		case <-r.Context().Done():
		}
	})
	return serve(ctx, *addr, mux)
}

// put writes one line to the store and returns its answer.
func put(ctx context.Context, addr, line string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	conn, err := new(net.Dialer).DialContext(ctx, "tcp", addr)
	if err != nil {
		return "", err
	}
	defer conn.Close()
	return newLines(conn).ask(line, true)
}
