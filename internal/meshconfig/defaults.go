// SPDX-License-Identifier: Apache-2.0

package meshconfig

// DefaultOutlier is when an endpoint is ejected where nobody said anything, and what stands in for a field that a
// ServiceProfile or MeshPolicy leaves out. The operator and the proxy both take it from here, so that there is one truth.
// Package outlier gives the reasons.
func DefaultOutlier() *Outlier {
	return &Outlier{
		ConsecutiveFailures: 5, ConsecutiveConnectFailures: 3,
		SuccessRatePercent: 50, Window: 10_000, MinRequests: 50,
		BaseEjection: 5_000, MaxEjection: 60_000,
		MaxEjectedPercent: 10, PanicPercent: 50,
	}
}
