// SPDX-License-Identifier: Apache-2.0

package distribute

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net/http"
	"os"
	"sync"
	"time"

	"connectrpc.com/connect"

	"github.com/heddle-mesh/heddle/internal/controlapi"
)

const firstMessageTimeout = 10 * time.Second

var errNoCertificate = errors.New("the control server has no certificate yet")

// Why streams end that did nothing wrong.
var (
	errReplaced = connect.NewError(connect.CodeAborted, errors.New("a newer stream of this pod took its place"))
	errGone     = connect.NewError(connect.CodeNotFound, errors.New("the pod is gone"))
	errShutdown = connect.NewError(connect.CodeUnavailable, errors.New("this replica of the operator stops"))
	errDemoted  = connect.NewError(connect.CodeUnavailable, errors.New("this replica of the operator no longer leads"))
)

// server accepts streams.
type server struct {
	node         *Node
	hints        *hints
	firstMessage time.Duration // how long a caller may take to say hello

	mu       sync.Mutex
	closed   bool
	proxies  map[string]*stream // by pod UID
	replicas map[*stream]struct{}
}

func newServer(n *Node) *server {
	return &server{
		node: n, hints: newHints(), firstMessage: firstMessageTimeout,
		proxies: make(map[string]*stream), replicas: make(map[*stream]struct{}),
	}
}

// transport is what a handler of Connect does not get to see of its request.
type transport struct {
	tls      *tls.ConnectionState
	remote   string
	deadline *http.ResponseController
}

type transportKey struct{}

func (s *server) handler() (string, http.Handler) {
	path, h := controlapi.NewConfigServiceHandler(s,
		connect.WithReadMaxBytes(controlapi.MaxRequest), connect.WithCompression("gzip", nil, nil))
	return path, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		t := transport{tls: r.TLS, remote: r.RemoteAddr, deadline: http.NewResponseController(w)}
		h.ServeHTTP(w, r.WithContext(context.WithValue(r.Context(), transportKey{}, t)))
	})
}

type bidi = connect.BidiStream[controlapi.StreamRequest, controlapi.StreamResponse]

// Stream serves one proxy or replica.
func (s *server) Stream(ctx context.Context, conn *bidi) error {
	t, ok := ctx.Value(transportKey{}).(transport)
	if !ok {
		return connect.NewError(connect.CodeInternal, errors.New("the handler was not mounted by Node.Handler"))
	}
	st, err := s.accept(ctx, t, conn)
	if err == nil {
		err = st.run()
	}
	return s.end(t, st, err)
}

// end counts and logs a refusal, and returns what the far end is told.
func (s *server) end(t transport, st *stream, err error) error {
	var r *refusal
	if !errors.As(err, &r) {
		return err
	}
	s.node.counters.update(func(c *Counters) { c.Refused[r.why]++ })
	values := []any{"reason", r.why, "detail", r.err.Message(), "peer", t.remote}
	if st != nil {
		values = append(values, "pod", st.uid, "identity", st.caller.id.String())
	}
	s.node.opts.Log.Info("refused a stream", values...)
	return r.err
}

// accept authenticates the caller and reads its first message.
func (s *server) accept(ctx context.Context, t transport, conn *bidi) (*stream, error) {
	who, refused := authenticate(&s.node.opts, t.tls, s.node.opts.Clock())
	if refused != nil {
		return nil, refused
	}
	// A context would not end Receive: only a deadline of the request's body does.
	if err := t.deadline.SetReadDeadline(time.Now().Add(s.firstMessage)); err != nil {
		return nil, fmt.Errorf("set the deadline of the first message: %w", err)
	}
	first, err := conn.Receive()
	switch {
	case errors.Is(err, os.ErrDeadlineExceeded):
		return nil, refuse(RefusedTimeout, connect.CodeDeadlineExceeded, "no hello within %s", s.firstMessage)
	case err != nil:
		return nil, s.received(err)
	case first.GetHello() == nil:
		return nil, refuse(RefusedProtocol, connect.CodeInvalidArgument, "the first message must be a hello")
	}
	if err := t.deadline.SetReadDeadline(time.Time{}); err != nil {
		return nil, fmt.Errorf("clear the deadline of the first message: %w", err)
	}
	st := newStream(ctx, s, t, conn, who)
	if who.replica {
		return st, st.greetReplica()
	}
	return st, st.greetProxy(first.GetHello())
}

// received says what an error of Receive means.
func (s *server) received(err error) error {
	switch connect.CodeOf(err) {
	case connect.CodeInvalidArgument, connect.CodeResourceExhausted:
		return refuse(RefusedProtocol, connect.CodeOf(err), "message: %w", err)
	default:
		return err // the far end went away
	}
}

// add registers a stream; one of a pod takes the place of the pod's last one.
func (s *server) add(st *stream) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return errShutdown
	}
	if st.caller.replica {
		s.replicas[st] = struct{}{}
		return nil
	}
	if old := s.proxies[st.uid]; old != nil {
		old.cancel(errReplaced)
	}
	s.proxies[st.uid] = st
	return nil
}

func (s *server) remove(st *stream) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.replicas, st)
	if s.proxies[st.uid] == st {
		delete(s.proxies, st.uid)
	}
}

func (s *server) count() (proxies, replicas int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.proxies), len(s.replicas)
}

// endReplicas ends the streams of replicas: they find the new leader.
func (s *server) endReplicas() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for st := range s.replicas {
		st.cancel(errDemoted)
	}
}

// close ends all streams and takes no more.
func (s *server) close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closed = true
	for st := range s.replicas {
		st.cancel(errShutdown)
	}
	for _, st := range s.proxies {
		st.cancel(errShutdown)
	}
}
