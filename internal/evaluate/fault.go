// SPDX-License-Identifier: Apache-2.0

package evaluate

import (
	"errors"
	"fmt"
	"math/bits"
	"time"

	"github.com/heddle-mesh/heddle/internal/meshconfig"
)

// Fault is an error or delay that is injected into a try. Nobody changes one.
type Fault struct {
	// Name is "namespace/profile/fault".
	Name string
	// Delay comes first; 0: none.
	Delay time.Duration
	// HTTPStatus, GRPCStatus and Reset: at most one is set. Without any, the try goes on after the delay.
	HTTPStatus, GRPCStatus int
	Reset                  bool

	matchers  []*Matcher
	percent   uint32
	expiresAt int64 // Unix ms
}

func newFault(m *meshconfig.Fault) (*Fault, error) {
	f := &Fault{
		Name: m.GetName(), HTTPStatus: int(m.GetHttpStatus()), GRPCStatus: int(m.GetGrpcStatus()), Reset: m.GetCut(),
		percent: m.GetPercent(), expiresAt: m.GetExpiresAt(),
	}
	var err error
	if f.Delay, err = milliseconds("delay", m.GetDelay()); err != nil {
		return nil, err
	}
	if f.matchers, err = newMatchers(m.GetMatches()); err != nil {
		return nil, err
	}
	aborts := 0
	for _, set := range []bool{f.HTTPStatus != 0, f.GRPCStatus != 0, f.Reset} {
		if set {
			aborts++
		}
	}
	switch {
	case aborts > 1:
		return nil, errors.New("http_status, grpc_status and cut: at most one")
	case aborts == 0 && f.Delay == 0:
		return nil, errors.New("neither delay nor http_status, grpc_status or cut is given")
	case f.HTTPStatus != 0 && (f.HTTPStatus < 200 || f.HTTPStatus > maxCode):
		return nil, fmt.Errorf("http_status: %d: want 200 to %d", f.HTTPStatus, maxCode)
	case f.GRPCStatus > maxGRPCCode:
		return nil, fmt.Errorf("grpc_status: %d: want 1 to %d", f.GRPCStatus, maxGRPCCode)
	case f.percent > 100:
		return nil, fmt.Errorf("percent: %d: at most 100", f.percent)
	case f.expiresAt <= 0:
		return nil, errors.New("expires_at is missing: every fault must end")
	}
	return f, nil
}

// Fault returns the fault that is injected into a try, or nil: the first that matches the request, is not over and whose
// share is drawn. Each that matches draws for itself, so that a fault gets its percent of what those before it leave.
func (r *Router) Fault(request *Request, now time.Time, random func() uint64) *Fault {
	if len(r.faults) == 0 {
		return nil
	}
	at := now.UnixMilli()
	for _, f := range r.faults {
		if at >= f.expiresAt {
			continue
		}
		if _, ok := firstMatch(f.matchers, request); ok && drawn(f.percent, random()) {
			return f
		}
	}
	return nil
}

// drawn says whether 64 random bits fall into a share. The high half of the product is uniform in [0, 100), to within
// 2^-64.
func drawn(percent uint32, random uint64) bool {
	point, _ := bits.Mul64(random, 100)
	return point < uint64(percent)
}
