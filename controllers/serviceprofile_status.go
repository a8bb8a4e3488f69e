// SPDX-License-Identifier: Apache-2.0

package controllers

import (
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/runtime"

	"github.com/heddle-mesh/heddle/api/v1alpha1"
	applyv1alpha1 "github.com/heddle-mesh/heddle/api/v1alpha1/applyconfiguration/api/v1alpha1"
	"github.com/heddle-mesh/heddle/internal/conditions"
	"github.com/heddle-mesh/heddle/internal/distribute"
)

// serviceProfiles is the status of ServiceProfiles: beside the conditions, what is in force of it, and which endpoints of
// the service get no requests.
func serviceProfiles() kind[*v1alpha1.ServiceProfile] {
	return kind[*v1alpha1.ServiceProfile]{
		name:   v1alpha1.KindServiceProfile,
		object: func() *v1alpha1.ServiceProfile { return &v1alpha1.ServiceProfile{} },
		table:  conditions.ServiceProfile,
		status: func(o *v1alpha1.ServiceProfile) v1alpha1.Status { return o.Status.Status },
		configuration: func(o *v1alpha1.ServiceProfile, next v1alpha1.Status, seen *sight) runtime.ApplyConfiguration {
			rest := o.Status
			if seen != nil {
				if seen.kept {
					seen.FaultsEnd = keptFaults(o.Status.Faults, seen.faults(), seen.now)
				}
				rest = restOfProfile(seen)
				if seen.kept {
					rest.Routes = o.Status.Routes
				}
			}
			rest.Status = o.Status.Status
			if same(o.Status.Status, next, equality.Semantic.DeepEqual(o.Status, rest)) {
				return nil
			}
			status := applyv1alpha1.ServiceProfileStatus()
			status.StatusApplyConfiguration = conditions.Configuration(next)
			// Copied: the answer to what is applied is written into it, and what is kept is the cache's.
			if rest.Routes != nil {
				status.WithRoutes(*rest.Routes)
			}
			if rest.BudgetExhausted != nil {
				status.WithBudgetExhausted(*rest.BudgetExhausted)
			}
			if rest.Faults != "" {
				status.WithFaults(rest.Faults)
			}
			if rest.Ejected != "" {
				status.WithEjected(rest.Ejected)
			}
			return applyv1alpha1.ServiceProfile(o.Name, o.Namespace).WithStatus(status)
		},
	}
}

// restOfProfile is the status of a profile but for what all kinds share.
func restOfProfile(seen *sight) v1alpha1.ServiceProfileStatus {
	routes := int32(min(seen.Routes, math.MaxInt32))
	out := v1alpha1.ServiceProfileStatus{Routes: &routes, Faults: formatFaults(seen.faults()), Ejected: formatEjected(seen.health)}
	if n := int32(min(seen.health.Exhausted, math.MaxInt32)); n > 0 {
		out.BudgetExhausted = &n
	}
	return out
}

// faults are the ends of those that are not over.
func (s *sight) faults() []time.Time {
	ends := s.FaultsEnd
	for len(ends) > 0 && !ends[0].After(s.now) {
		ends = ends[1:]
	}
	return ends
}

// changesIn is how long what is seen stays so by itself; 0: for ever.
func (s *sight) changesIn() time.Duration {
	if s == nil || len(s.faults()) == 0 {
		return 0
	}
	return s.faults()[0].Sub(s.now)
}

// nextEnds is in status.faults between how many there are and when the next ends.
const nextEnds = ", next ends "

// keptFaults are the ends of the faults in force, as far as status says, while newer ones are not published. Once the next
// of them has ended, those left are taken to be among the newer ones: most changes leave faults alone.
func keptFaults(said string, newer []time.Time, now time.Time) []time.Time {
	number, end, _ := strings.Cut(said, nextEnds)
	n, err := strconv.ParseUint(number, 10, 8)
	next, notTime := time.Parse(time.RFC3339, end)
	switch {
	case err != nil || notTime != nil || n == 0:
		return nil // none, or somebody else has written there
	case next.After(now):
		return slices.Repeat([]time.Time{next}, int(n))
	}
	return newer[:min(len(newer), int(n)-1)]
}

// formatFaults is the form of status.faults: "2, next ends 2026-03-31T18:00:00Z".
func formatFaults(ends []time.Time) string {
	if len(ends) == 0 {
		return ""
	}
	return fmt.Sprintf("%d%s%s", len(ends), nextEnds, ends[0].Format(time.RFC3339))
}

// ejectedShown keeps the EJECTED column of `kubectl get` readable.
const ejectedShown = 4

// formatEjected is the form of status.ejected: "2: 10.0.0.3:8080, 10.0.0.4:8080".
func formatEjected(h distribute.Health) string {
	all := len(h.Ejected) + h.MoreEjected
	if all == 0 {
		return ""
	}
	shown := h.Ejected[:min(len(h.Ejected), ejectedShown)]
	text := fmt.Sprintf("%d: %s", all, strings.Join(shown, ", "))
	if more := all - len(shown); more > 0 {
		text += fmt.Sprintf(", and %d more", more)
	}
	return text
}
