// SPDX-License-Identifier: Apache-2.0

package controllers

import (
	"math"

	"k8s.io/apimachinery/pkg/runtime"

	"github.com/heddle-mesh/heddle/api/v1alpha1"
	applyv1alpha1 "github.com/heddle-mesh/heddle/api/v1alpha1/applyconfiguration/api/v1alpha1"
	"github.com/heddle-mesh/heddle/internal/compile"
	"github.com/heddle-mesh/heddle/internal/conditions"
)

// serviceProfiles is the status of ServiceProfiles: beside the conditions, how many routes are in force.
func serviceProfiles() kind[*v1alpha1.ServiceProfile] {
	return kind[*v1alpha1.ServiceProfile]{
		name:   v1alpha1.KindServiceProfile,
		object: func() *v1alpha1.ServiceProfile { return &v1alpha1.ServiceProfile{} },
		table:  conditions.ServiceProfile,
		status: func(o *v1alpha1.ServiceProfile) v1alpha1.Status { return o.Status.Status },
		configuration: func(o *v1alpha1.ServiceProfile, next v1alpha1.Status, effect compile.Effect, judged bool) runtime.ApplyConfiguration {
			routes := o.Status.Routes
			if judged {
				n := int32(min(effect.Routes, math.MaxInt32))
				routes = &n
			}
			unchanged := routes == nil || o.Status.Routes != nil && *routes == *o.Status.Routes
			if same(o.Status.Status, next, unchanged) {
				return nil
			}
			status := applyv1alpha1.ServiceProfileStatus()
			status.StatusApplyConfiguration = conditions.Configuration(next)
			if routes != nil {
				status.WithRoutes(*routes)
			}
			return applyv1alpha1.ServiceProfile(o.Name, o.Namespace).WithStatus(status)
		},
	}
}
