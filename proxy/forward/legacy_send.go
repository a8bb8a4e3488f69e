// SPDX-License-Identifier: Apache-2.0

package forward

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptrace"
	"net/textproto"
	"sync"

	"github.com/heddle-mesh/heddle/proxy/balance"
	"github.com/heddle-mesh/heddle/proxy/refusal"
	"github.com/heddle-mesh/heddle/proxy/upstream"
)

// send sends the request to an endpoint, to a second one if the first did not get it, and relays the answer.
func (x *legacy) send(ctx context.Context) {
	pick, why := x.pick(nil)
	if why != nil {
		x.refuse(why)
		return
	}
	defer func() { pick.Done() }()
	response, err := x.try(ctx, pick)
	if x.retry && x.mayRetry(ctx, pick.Endpoint, response, err) {
		if second, why := x.pick(pick.Endpoint); why == nil {
			if second.Endpoint == pick.Endpoint && !sameMayHelp(err) {
				second.Done()
			} else {
				discard(response)
				pick.Done()
				pick = second
				response, err = x.try(ctx, pick) //nolint:bodyclose // relay closes it
			}
		}
	}
	x.body.release()
	if err != nil {
		x.refuse(x.why(ctx, err))
		return
	}
	x.relay(ctx, pick.Endpoint, response)
}

func discard(r *http.Response) {
	if r != nil {
		r.Body.Close()
	}
}

// try sends the request to one endpoint.
func (x *legacy) try(ctx context.Context, pick balance.Pick) (*http.Response, error) {
	x.event.Attempts++
	x.event.Endpoint, x.event.Pod = pick.Endpoint.Address, pick.Endpoint.Pod
	var mu sync.Mutex
	over := false
	defer func() {
		mu.Lock()
		over = true
		mu.Unlock()
	}()
	ctx = httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{
		Got1xxResponse: func(code int, header textproto.MIMEHeader) error {
			mu.Lock()
			defer mu.Unlock()
			if !over && x.r.ProtoAtLeast(1, 1) {
				x.inform(code, http.Header(header), pick.Endpoint)
			}
			return nil
		},
	})
	return pick.Endpoint.RoundTrip(x.version, x.request(ctx))
}

// inform relays an interim answer.
func (x *legacy) inform(code int, from http.Header, e *upstream.Endpoint) {
	h := x.w.Header()
	kept := h.Clone()
	dropHopByHop(from)
	x.dropForeign(from, e)
	addAll(h, from)
	x.w.WriteHeader(code)
	clear(h)
	addAll(h, kept)
}

// dropForeign removes our own fields from an answer unless a proxy of the mesh wrote them.
func (x *legacy) dropForeign(h http.Header, e *upstream.Endpoint) {
	if e.MTLS() {
		delete(h, undelivered)
		return
	}
	dropOwnOld(h, false)
}

// mayRetry says whether a request that went wrong may be sent once more: because the application cannot have seen it, or
// because seeing it twice does no harm (RFC 9110, section 9.2.2) and not too many are sent twice.
func (x *legacy) mayRetry(ctx context.Context, e *upstream.Endpoint, response *http.Response, err error) bool {
	if ctx.Err() != nil || x.body.cause() != nil || !x.body.replayable() {
		return false
	}
	if err == nil {
		return e.MTLS() && response.Header.Get(undelivered) != ""
	}
	var failure *upstream.Failure
	if !errors.As(err, &failure) {
		return false
	}
	return failure.Undelivered || failure.Reason == refusal.UpstreamFailed && isIdempotent(x.r.Method) && x.side.budget.take()
}

// sameMayHelp says whether it makes sense to try the same endpoint when there is no other.
func sameMayHelp(err error) bool {
	var failure *upstream.Failure
	return errors.As(err, &failure) && failure.Reason == refusal.UpstreamFailed
}
