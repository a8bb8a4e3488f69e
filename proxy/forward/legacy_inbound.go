// SPDX-License-Identifier: Apache-2.0

package forward

import (
	"context"
	"net/http"

	"github.com/heddle-mesh/heddle/internal/evaluate"
	"github.com/heddle-mesh/heddle/proxy/balance"
	"github.com/heddle-mesh/heddle/proxy/refusal"
	"github.com/heddle-mesh/heddle/proxy/upstream"
)

// handle carries one request.
func (in *Inbound) handle(w http.ResponseWriter, r *http.Request) {
	conn := connOf(r)
	conn.state.Store(handled)
	defer in.running.add(nil)()
	x := in.newLegacy(conn, w, r)
	x.event.MTLS, x.event.Peer = conn.peer != nil, conn.peer
	defer x.finish()
	if conn.refused != nil {
		w.Header().Set("Connection", "close")
		x.refuse(conn.refused)
		return
	}
	if why := x.read(); why != nil {
		x.refuse(why)
		return
	}
	port := conn.Destination.Port()
	policy := in.Tables.Inbound(port)
	x.series, x.event.Labels = policy.Series, policy.Labels
	asked := question{op: evaluate.Op{Port: port, HTTP: true, Method: r.Method, Path: x.target.path}}
	if conn.peer != nil {
		asked.caller = *conn.peer
	}
	ctx, cancel := context.WithCancelCause(r.Context())
	defer cancel(nil)
	// Registered first: a policy that changes from here on finds it.
	defer in.live.add(asked, cancel)()
	rule, why := asked.judge(in.Tables.Inbound(port), in.Clock())
	x.event.Rule = rule
	if why != nil {
		x.refuse(why)
		return
	}
	x.pick = func(*upstream.Endpoint) (balance.Pick, *refusal.Error) {
		conn.app.Begin()
		return balance.Pick{Member: balance.Member{Endpoint: conn.app}}, nil
	}
	x.prepare = func(h http.Header) {
		if conn.peer != nil {
			h[callerIdentity] = []string{"URI=" + conn.peer.String()}
		}
	}
	x.mark = conn.peer != nil
	x.send(ctx)
}
