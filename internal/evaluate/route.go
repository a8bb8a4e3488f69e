// SPDX-License-Identifier: Apache-2.0

package evaluate

import (
	"fmt"
	"math"
	"time"

	"github.com/heddle-mesh/heddle/internal/meshconfig"
)

// Route is how requests of a named sort are carried. Nobody changes one.
type Route struct {
	// Name is that of the ServiceProfile's route, or "".
	Name string
	// Index is its place among the routes of its port, from 1; 0 of Unrouted.
	Index int
	// RequestTimeout is from the head of the request to the end of the answer; 0: none.
	RequestTimeout time.Duration
	// TryTimeout is from the pick of an endpoint to the head of its answer; 0: none.
	TryTimeout time.Duration
	// IdleTimeout is without a byte of content either way; 0: none.
	IdleTimeout time.Duration
	// Retry is never nil.
	Retry *Retry
	// Filters may be nil.
	Filters *Filters

	matchers []*Matcher
}

var unrouted = &Route{Retry: &Retry{
	Attempts:   1,
	conditions: 1<<meshconfig.RetryCondition_RETRY_CONDITION_CONNECT_FAILURE | 1<<meshconfig.RetryCondition_RETRY_CONDITION_REFUSED_STREAM | 1<<meshconfig.RetryCondition_RETRY_CONDITION_RESET,
}}

// Unrouted returns the route of what no ServiceProfile names. It has no name, no timeouts and no filters, and its Retry is
// that of every route that does not say: one more try, at once, of what was not delivered and, if it is idempotent, of
// what broke before an answer.
func Unrouted() *Route { return unrouted }

func newRoute(r *meshconfig.Route) (*Route, error) {
	route := &Route{Name: r.GetName(), Retry: unrouted.Retry}
	var err error
	if route.RequestTimeout, err = milliseconds("request_timeout", r.GetRequestTimeout()); err != nil {
		return nil, err
	}
	if route.TryTimeout, err = milliseconds("try_timeout", r.GetTryTimeout()); err != nil {
		return nil, err
	}
	if route.IdleTimeout, err = milliseconds("idle_timeout", r.GetIdleTimeout()); err != nil {
		return nil, err
	}
	if route.matchers, err = newMatchers(r.GetMatches()); err != nil {
		return nil, err
	}
	if r.GetRetry() != nil {
		if route.Retry, err = newRetry(r.GetRetry()); err != nil {
			return nil, fmt.Errorf("retry: %w", err)
		}
	}
	if r.GetFilters() != nil {
		if route.Filters, err = newFilters(r.GetFilters(), takePrefixes(route.matchers)); err != nil {
			return nil, fmt.Errorf("filters: %w", err)
		}
	}
	return route, nil
}

// takePrefixes says whether what each of the matchers takes from the start of a path is known: a prefix, or nothing.
func takePrefixes(matchers []*Matcher) bool {
	for _, m := range matchers {
		if m.path.kind == meshconfig.PathMatch_TYPE_EXACT || m.path.kind == meshconfig.PathMatch_TYPE_REGEX {
			return false
		}
	}
	return true
}

// milliseconds reads a duration of config.
func milliseconds(field string, ms int64) (time.Duration, error) {
	if ms < 0 || ms > math.MaxInt64/int64(time.Millisecond) {
		return 0, fmt.Errorf("%s: %d ms: want a duration that is not below 0", field, ms)
	}
	return time.Duration(ms) * time.Millisecond, nil
}
