// SPDX-License-Identifier: Apache-2.0

// Package admin answers questions about the proxy and its workload. One server is on the pod's address, for the kubelet
// and Prometheus, who have no mesh identity: readiness, liveness, metrics, and the workload's probes, by opaque ids and
// with a status alone. Everything else is on a Unix socket that only the proxy's container can reach.
package admin

import (
	"context"
	"errors"
	"fmt"
	"log"
	"net"
	"net/http"
	"net/netip"
	"time"

	"github.com/go-logr/logr"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/heddle-mesh/heddle/internal/probe"
	"github.com/heddle-mesh/heddle/proxy/telemetry"
)

// Options say what the server on the pod's address answers. All but Probes and Scrape are required.
type Options struct {
	// Ready and Live return nil, or what is wrong in a few words: anybody can read it.
	Ready, Live func() error
	// Metrics are served at /metrics, and Scraped counts the attempts to read the application's, by result.
	Metrics prometheus.Gatherer
	Scraped func(result string)
	// Probes are the kubelet's that the injector rewrote, and Scrape is where the application's metrics are.
	Probes []probe.Spec
	Scrape *probe.Scrape
	// PodIP is where the application is asked.
	PodIP netip.Addr
	Log   logr.Logger
}

// Bounds of the server.
const (
	headerTimeout  = 5 * time.Second
	idleTimeout    = 15 * time.Second
	maxHeader      = 16 << 10
	maxPerSource   = 64 // connections of one address
	maxAsking      = 64 // probes at a time
	shutdownBudget = time.Second
)

// Server is the server on the pod's address.
type Server struct {
	opts   Options
	probes map[string]*probe.Spec
	asking chan struct{} // holds a token for each probe that runs
	scrape *scraper
	server *http.Server
}

// NewServer makes a Server.
func NewServer(opts Options) *Server {
	s := &Server{opts: opts, probes: make(map[string]*probe.Spec, len(opts.Probes)), asking: make(chan struct{}, maxAsking)}
	for i := range opts.Probes {
		s.probes[opts.Probes[i].ID] = &opts.Probes[i]
	}
	if opts.Scrape != nil {
		s.scrape = newScraper(opts.PodIP, *opts.Scrape)
	}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /ready", s.condition(opts.Ready))
	mux.HandleFunc("GET /livez", s.condition(opts.Live))
	mux.HandleFunc("GET /metrics", s.metrics)
	mux.HandleFunc("GET "+probe.PathPrefix+"{id}", s.probe)
	s.server = newHTTPServer(mux, opts.Log)
	return s
}

func newHTTPServer(handler http.Handler, l logr.Logger) *http.Server {
	return &http.Server{
		Handler:           handler,
		ReadHeaderTimeout: headerTimeout,
		ReadTimeout:       2 * headerTimeout,
		IdleTimeout:       idleTimeout,
		MaxHeaderBytes:    maxHeader,
		ErrorLog:          log.New(complaints{l.V(1)}, "", 0),
	}
}

// complaints takes what net/http says of single connections.
type complaints struct{ log logr.Logger }

// Write implements io.Writer.
func (c complaints) Write(p []byte) (int, error) {
	c.log.Info("The HTTP server complains", "message", string(p))
	return len(p), nil
}

// Serve serves until ctx ends, and returns when the requests that ran then have ended or were cut.
func (s *Server) Serve(ctx context.Context, l net.Listener) error {
	return serve(ctx, s.server, newLimiter(l, maxPerSource))
}

// serve runs a server until ctx ends.
func serve(ctx context.Context, server *http.Server, l net.Listener) error {
	stopped := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		defer close(stopped)
		grace, cancel := context.WithTimeout(context.WithoutCancel(ctx), shutdownBudget)
		defer cancel()
		if server.Shutdown(grace) != nil {
			_ = server.Close() // cuts what didn't end in time
		}
	})
	err := server.Serve(l)
	if !stop() {
		<-stopped
	}
	if errors.Is(err, http.ErrServerClosed) {
		return nil
	}
	return fmt.Errorf("serve on %v: %w", l.Addr(), err)
}

func (s *Server) condition(check func() error) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		if err := check(); err != nil {
			http.Error(w, err.Error(), http.StatusServiceUnavailable)
			return
		}
		_, _ = w.Write([]byte("ok\n"))
	}
}

func (s *Server) metrics(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Content-Type", telemetry.TextFormat)
	if err := telemetry.Write(w, s.opts.Metrics); err != nil {
		s.opts.Log.Error(err, "Can't serve the metrics")
		http.Error(w, "the metrics can't be gathered", http.StatusInternalServerError)
		return
	}
	if s.scrape == nil {
		return
	}
	result, err := s.scrape.merge(r.Context(), w)
	s.opts.Scraped(result)
	if err != nil {
		s.opts.Log.V(1).Info("The application's metrics are not merged, or not all", "result", result, "err", err.Error())
	}
}

// probe asks the application and passes on how that went, by the status alone.
func (s *Server) probe(w http.ResponseWriter, r *http.Request) {
	spec := s.probes[r.PathValue("id")]
	if spec == nil {
		http.Error(w, "no such probe", http.StatusNotFound)
		return
	}
	select {
	case s.asking <- struct{}{}:
		defer func() { <-s.asking }()
	default:
		http.Error(w, "too many probes at a time", http.StatusTooManyRequests)
		return
	}
	status, err := ask(r.Context(), spec, s.opts.PodIP, r.UserAgent())
	if err != nil {
		s.opts.Log.V(1).Info("A probe of the application failed", "probe", spec.Name, "id", spec.ID, "status", status, "err", err.Error())
	}
	w.WriteHeader(status)
}
