// SPDX-License-Identifier: Apache-2.0

package issue

import (
	"context"
	"errors"
	"net"
	"net/http"
	"time"

	"connectrpc.com/connect"

	"github.com/heddle-mesh/heddle/internal/controlapi"
)

// Handler returns the path to serve under and what to serve there. Messages are bounded, and not compressed: a small
// one could unpack into a large one.
func (s *Server) Handler() (string, http.Handler) {
	path, service := controlapi.NewIdentityServiceHandler(s,
		connect.WithReadMaxBytes(maxMessage),
		connect.WithCompression("gzip", nil, nil),
	)
	refusals := connect.NewErrorWriter()
	return path, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		start := s.Clock()
		e := &exchange{peer: r.RemoteAddr}
		if !s.peers.allow(host(e.peer), start) {
			err := refuse(ReasonRateLimited, "too many requests from %s: try again later", host(e.peer))
			s.done(e, nil, err, start)
			_ = refusals.Write(w, r, connectError(err)) // the peer has gone away
			return
		}
		service.ServeHTTP(w, r.WithContext(context.WithValue(r.Context(), exchangeKey{}, e)))
		if !e.read { // refused before IssueCertificate saw it
			s.done(e, nil, refuse(ReasonRequest, "the request could not be read"), start)
		}
	})
}

// exchange is what is known of one request, for the log.
type exchange struct {
	peer   string
	read   bool
	caller *caller
}

type exchangeKey struct{}

func (e *exchange) pod() string {
	if e.caller == nil {
		return ""
	}
	return e.caller.pod.String()
}

// IssueCertificate answers one request of a proxy.
func (s *Server) IssueCertificate(
	ctx context.Context, req *connect.Request[controlapi.IssueCertificateRequest],
) (*connect.Response[controlapi.IssueCertificateResponse], error) {
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	start := s.Clock()
	e, ok := ctx.Value(exchangeKey{}).(*exchange)
	if !ok {
		e = &exchange{peer: req.Peer().Addr}
	}
	e.read = true
	chain, err := s.issue(ctx, e, req.Msg)
	if err != nil && errors.Is(ctx.Err(), context.Canceled) {
		err = refuse(ReasonCanceled, "the caller went away: %v", err)
	}
	s.done(e, chain, err, start)
	if err != nil {
		return nil, connectError(err)
	}
	return connect.NewResponse(&controlapi.IssueCertificateResponse{Chain: chain.der}), nil
}

// done counts and logs what came of a request.
func (s *Server) done(e *exchange, chain *issuedChain, err error, start time.Time) {
	s.metrics.done(result(err), s.Clock().Sub(start))
	if err == nil {
		s.Log.Info("certificate issued", "pod", e.pod(), "identity", chain.id.String(),
			"serial", chain.leaf.SerialNumber.Text(16), "notAfter", chain.leaf.NotAfter)
		return
	}
	log := s.Log.WithValues("reason", result(err), "peer", e.peer, "pod", e.pod())
	refusal, ok := errors.AsType[*Refusal](err)
	switch {
	case !ok:
		log.Error(err, "certificate not issued")
	case refusal.Reason == ReasonRateLimited || refusal.Reason == ReasonCanceled:
		log.V(1).Info("certificate refused", "detail", refusal.Detail) // a flood must not fill the log
	default:
		log.Info("certificate refused", "detail", refusal.Detail)
	}
}

// host is the address without its port.
func host(peer string) string {
	if h, _, err := net.SplitHostPort(peer); err == nil {
		return h
	}
	return peer
}
