// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"sync/atomic"
	"time"

	"github.com/go-logr/logr"

	"github.com/heddle-mesh/heddle/internal/distribute"
)

// shutdownTimeout is how long open requests may take once the operator stops; streams are told to go elsewhere at once.
const shutdownTimeout = 5 * time.Second

// controlServer serves config and identities to proxies, and config to the other replicas.
type controlServer struct {
	address      string
	certificates *certificateFiles
	handlers     map[string]http.Handler
	log          logr.Logger

	listening atomic.Bool
}

// NeedLeaderElection lets every replica serve.
func (*controlServer) NeedLeaderElection() bool { return false }

// Start serves until the context ends.
func (s *controlServer) Start(ctx context.Context) error {
	mux := http.NewServeMux()
	for path, h := range s.handlers {
		mux.Handle(path, h)
	}
	server := distribute.NewHTTPServer(s.certificates.Certificate, mux)
	server.ErrorLog = slog.NewLogLogger(logr.ToSlogHandler(s.log), slog.LevelDebug)
	server.BaseContext = func(net.Listener) context.Context { return ctx }
	var config net.ListenConfig
	listener, err := config.Listen(ctx, "tcp", s.address)
	if err != nil {
		return fmt.Errorf("control server: %w", err)
	}
	stopped := make(chan struct{})
	go func() {
		defer close(stopped)
		<-ctx.Done()
		// The streams end with the node; what does not end in time is cut.
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), shutdownTimeout)
		defer cancel()
		if err := server.Shutdown(ctx); err != nil {
			_ = server.Close()
		}
	}()
	s.listening.Store(true)
	s.log.Info("control server listens", "address", listener.Addr().String())
	if err := server.ServeTLS(listener, "", ""); !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("control server: %w", err)
	}
	<-stopped
	return nil
}

// ready says whether the server can be reached; it is a readiness check.
func (s *controlServer) ready(*http.Request) error {
	if !s.listening.Load() || s.certificates.Certificate() == nil {
		return errors.New("the control server does not listen yet")
	}
	return nil
}
