// SPDX-License-Identifier: Apache-2.0

package forward

import (
	"math/rand/v2"
	"net/http"
	"time"

	"github.com/heddle-mesh/heddle/internal/evaluate"
	"github.com/heddle-mesh/heddle/internal/meshconfig"
	"github.com/heddle-mesh/heddle/proxy/balance"
	"github.com/heddle-mesh/heddle/proxy/message"
	"github.com/heddle-mesh/heddle/proxy/outlier"
	"github.com/heddle-mesh/heddle/proxy/refusal"
	"github.com/heddle-mesh/heddle/proxy/upstream"
)

// mayEnd says whether an answer is one that no request is sent again for, so that again need not be asked. End says that
// it has no content.
func (x *exchange) mayEnd(answer *message.Head, end bool) bool {
	return !x.retry || answer.Status < http.StatusBadRequest && (x.event.Protocol != gRPC || !end)
}

// again decides on another try, after one has failed or was answered: exactly one of both is given. Replayable says whether
// the request can be sent from its start again. If it is not ok then the failure or answer is what the caller gets.
// Otherwise the try is over: without a wait the next one has its endpoint already, and after one next picks it.
func (x *exchange) again(failure *upstream.Failure, answer *message.Head, replayable bool) (wait time.Duration, ok bool) {
	if !x.retry || !replayable || failure != nil && failure.Reason == refusal.CircuitOpen {
		return 0, false
	}
	retry, outcome := x.choice.Route.Retry, x.outcome(failure, answer)
	if x.event.Attempts > retry.Attempts || !retry.Wants(outcome) || !retry.Safe(outcome, &x.asks) {
		return 0, false
	}
	now := x.side.Clock()
	if wait, ok = retry.Backoff(x.event.Attempts, rand.Uint64(), advice(answer, now)); !ok || !x.inTime(wait, now) {
		return 0, false
	}
	last, at := x.pick.Endpoint, balance.Nanos(now)
	if len(x.tried) < maxTried {
		x.tried = append(x.tried, last)
	}
	verdict := x.ofTry(failure, answer)
	if wait > 0 {
		if !x.allows(at) {
			return 0, false
		}
		x.conclude(verdict, at)
		x.event.RetryReason = reasons[outcome.Failure]
		return wait, true
	}
	pick, why := x.choosePick(at)
	if why != nil {
		return 0, false
	}
	useless := pick.Endpoint == last && outcome.Undelivered() && (failure == nil || failure.Reason != refusal.UpstreamFailed)
	if useless || !x.allows(at) { // in this order: what is not sent again costs no budget
		x.putBack(pick, at)
		return 0, false
	}
	x.conclude(verdict, at)
	x.event.RetryReason = reasons[outcome.Failure]
	x.take(pick, now, at)
	return 0, true
}

// inTime says whether the request may go on after a wait.
func (x *exchange) inTime(wait time.Duration, now time.Time) bool {
	return x.timeout == 0 || now.Add(wait).Sub(x.event.Start) < x.timeout
}

// allows says whether there may be another try by the breaker and the budget, which count it then.
func (x *exchange) allows(at int64) bool {
	acquires := x.breaker != nil && !x.retrying
	if acquires && x.breaker.Acquire(outlier.Retries) != outlier.NoBound {
		return false
	}
	if x.port.Budget != nil && !x.port.Budget.Take(at) {
		if acquires {
			x.breaker.Release(outlier.Retries)
		}
		return false
	}
	x.retrying = x.retrying || acquires
	return true
}

// putBack gives an endpoint back that is not called after all.
func (x *exchange) putBack(pick balance.Pick, at int64) {
	report(x.backend.Cluster, &pick, outlier.Unrelated, 0, at)
	if x.breaker != nil {
		x.breaker.End(loadOf(&pick), at, 0)
	}
	pick.Done(balance.Neutral, 0, at)
}

// advice is what an answer, which may be nil, says about sending the request again.
func advice(answer *message.Head, now time.Time) evaluate.Advice {
	if answer == nil {
		return evaluate.Advice{}
	}
	return evaluate.ReadAdvice((*headerLines)(answer), now)
}

// outcome is how a try ended, as retries see it.
func (x *exchange) outcome(failure *upstream.Failure, answer *message.Head) evaluate.Outcome {
	if failure == nil {
		if x.isUndelivered(answer) {
			return evaluate.Outcome{Failure: meshconfig.RetryCondition_RETRY_CONDITION_REFUSED_STREAM}
		}
		return evaluate.Outcome{Status: answer.Status, GRPC: max(0, grpcCode(answer))}
	}
	switch {
	case x.faulted:
		return x.faultOutcome()
	case failure.Reason == refusal.ConnectFailed, failure.Reason == refusal.PeerIdentity, failure.Reason == refusal.NotReady:
		return evaluate.Outcome{Failure: meshconfig.RetryCondition_RETRY_CONDITION_CONNECT_FAILURE}
	case failure.Undelivered:
		return evaluate.Outcome{Failure: meshconfig.RetryCondition_RETRY_CONDITION_REFUSED_STREAM}
	case failure.Reason == refusal.Timeout:
		return evaluate.Outcome{Failure: meshconfig.RetryCondition_RETRY_CONDITION_TIMEOUT}
	}
	return evaluate.Outcome{Failure: meshconfig.RetryCondition_RETRY_CONDITION_RESET}
}

// reasons name what a request was sent again after.
var reasons = [...]string{
	meshconfig.RetryCondition_RETRY_CONDITION_UNSPECIFIED:     "status",
	meshconfig.RetryCondition_RETRY_CONDITION_CONNECT_FAILURE: "connect_failure",
	meshconfig.RetryCondition_RETRY_CONDITION_REFUSED_STREAM:  "refused_stream",
	meshconfig.RetryCondition_RETRY_CONDITION_RESET:           "reset",
	meshconfig.RetryCondition_RETRY_CONDITION_TIMEOUT:         "timeout",
}
