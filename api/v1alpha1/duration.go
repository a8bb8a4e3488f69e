// SPDX-License-Identifier: Apache-2.0

package v1alpha1

import "time"

// Duration is a length of time above zero as a Go duration string of hours,
// minutes, seconds and milliseconds: "15s", "1m30s", "250ms", "1.5h". It stays
// the string that the user wrote ("60s" does not turn into "1m0s"), so that a
// tool which compares the cluster with Git sees no difference.
//
// +kubebuilder:validation:MinLength=2
// +kubebuilder:validation:MaxLength=32
// +kubebuilder:validation:Pattern=`^([0-9]+(\.[0-9]+)?(h|m|s|ms))+$`
// +kubebuilder:validation:XValidation:rule="duration(self) > duration('0s')",message="a duration must be above 0s: leave the field out for no limit"
type Duration string

// Parse returns the duration as a number. The schema keeps strings out that do
// not parse, so an error means that the object did not come from the API server.
func (d Duration) Parse() (time.Duration, error) {
	return time.ParseDuration(string(d))
}
