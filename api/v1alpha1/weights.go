// SPDX-License-Identifier: Apache-2.0

package v1alpha1

import (
	"fmt"
	"strings"
)

// weightsShown keeps the WEIGHTS column of `kubectl get` readable.
const weightsShown = 4

// FormatWeights is the form of status.weights: "checkout-v1 90, checkout-v2 10".
// Of more than four backends it says the first four and how many follow.
func FormatWeights(backends []SplitBackend) string {
	var s strings.Builder
	for i, b := range backends {
		if i == weightsShown {
			fmt.Fprintf(&s, ", and %d more", len(backends)-i)
			break
		}
		if i > 0 {
			s.WriteString(", ")
		}
		fmt.Fprintf(&s, "%s %d", b.Name, b.EffectiveWeight())
	}
	return s.String()
}
