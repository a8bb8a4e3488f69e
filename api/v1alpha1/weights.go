// SPDX-License-Identifier: Apache-2.0

package v1alpha1

import (
	"fmt"
	"strings"
)

// weightsShown keeps the WEIGHTS column of `kubectl get` readable.
const weightsShown = 4

// FormatWeights is the form of status.weights: "checkout-v1 90, checkout-v2 10".
// Of more than four backends it says the first four and how many follow. Where
// one takes everything it is "checkout-v2 active".
func FormatWeights(spec *TrafficSplitSpec) string {
	if spec.Active != "" {
		return spec.Active + " active"
	}
	var s strings.Builder
	for i, b := range spec.Backends {
		if i == weightsShown {
			fmt.Fprintf(&s, ", and %d more", len(spec.Backends)-i)
			break
		}
		if i > 0 {
			s.WriteString(", ")
		}
		fmt.Fprintf(&s, "%s %d", b.Name, b.EffectiveWeight())
	}
	return s.String()
}
