// SPDX-License-Identifier: Apache-2.0

package forward

import (
	"testing"

	"github.com/heddle-mesh/heddle/internal/evaluate"
	"github.com/heddle-mesh/heddle/proxy/message"
	"github.com/heddle-mesh/heddle/proxy/refusal"
)

func TestARequestIsResetIfAFaultHasEndedItAndNotOneOfItsTriesAlone(t *testing.T) {
	for name, c := range map[string]struct {
		fault   evaluate.Fault
		reason  refusal.Reason
		answers bool
	}{
		"the fault's reset":                          {evaluate.Fault{Reset: true}, refusal.FaultInjected, false},
		"the fault's status":                         {evaluate.Fault{HTTPStatus: 500}, refusal.FaultInjected, true},
		"no endpoint for the try after a reset":      {evaluate.Fault{Reset: true}, refusal.NoEndpoints, true},
		"the request's timeout in the wait after it": {evaluate.Fault{Reset: true}, refusal.Timeout, true},
	} {
		var h message.Head
		x := &exchange{request: &message.Head{Method: "GET"}, tries: tries{fault: &c.fault, faulted: true}}
		if _, ok := x.refuse(&refusal.Error{Reason: c.reason}, &h); ok != c.answers {
			t.Errorf("%s: answered: %v", name, ok)
		}
	}
}
