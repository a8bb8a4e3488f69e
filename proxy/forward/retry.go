// SPDX-License-Identifier: Apache-2.0

package forward

import (
	"net/http"
	"sync/atomic"

	"github.com/heddle-mesh/heddle/proxy/balance"
	"github.com/heddle-mesh/heddle/proxy/message"
	"github.com/heddle-mesh/heddle/proxy/refusal"
	"github.com/heddle-mesh/heddle/proxy/upstream"
)

// again decides on a second try, after the first has failed or was answered: exactly one of both is given. Replayable says
// whether the request can be sent from its start again. True means that another endpoint, or in some cases the same, was
// picked for it; false that the failure or answer is what the caller gets.
func (x *exchange) again(failure *upstream.Failure, answer *message.Head, replayable bool) bool {
	if !x.retry || x.event.Attempts > 1 || !replayable || !x.mayRetry(failure, answer) {
		return false
	}
	last := x.pick
	pick, why := x.choosePick(last.Endpoint)
	if why != nil {
		return false
	}
	if pick.Endpoint == last.Endpoint && (failure == nil || failure.Reason != refusal.UpstreamFailed) {
		pick.Done(balance.Neutral, 0, x.event.Start.UnixNano()) // the same will not help
		return false
	}
	last.Done(balance.Neutral, 0, x.event.Start.UnixNano())
	x.take(pick)
	return true
}

// isUndelivered says whether an answer is that of an endpoint's proxy to what its application did not see.
func (x *exchange) isUndelivered(answer *message.Head) bool {
	if answer.Status < http.StatusInternalServerError || !x.pick.Endpoint.MTLS() {
		return false
	}
	_, marked := answer.Get(undelivered)
	return marked
}

// mayRetry says whether a request that went wrong may be sent once more: because the application cannot have seen it, or
// because seeing it twice does no harm (RFC 9110, section 9.2.2) and not too many are sent twice.
func (x *exchange) mayRetry(failure *upstream.Failure, answer *message.Head) bool {
	if failure == nil {
		return x.isUndelivered(answer)
	}
	return failure.Undelivered ||
		failure.Reason == refusal.UpstreamFailed && isIdempotent(x.method()) && x.side.budget.take()
}

func isIdempotent(method string) bool {
	switch method {
	case http.MethodGet, http.MethodHead, http.MethodOptions, http.MethodTrace, http.MethodPut, http.MethodDelete:
		return true
	}
	return false
}

// budget keeps repeated requests that may have been delivered to a fifth of all, beyond a few at the start.
type budget struct{ tenths atomic.Int64 }

// Of a repetition's cost in tenths, what every request adds; and the bounds.
const (
	budgetCost  = 10
	budgetEach  = 2
	budgetMax   = 100 * budgetCost
	budgetStart = 10 * budgetCost
)

func (b *budget) earn() {
	if b.tenths.Load() < budgetMax {
		b.tenths.Add(budgetEach)
	}
}

func (b *budget) take() bool {
	if b.tenths.Add(-budgetCost) >= 0 {
		return true
	}
	b.tenths.Add(budgetCost)
	return false
}
