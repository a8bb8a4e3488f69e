// SPDX-License-Identifier: Apache-2.0

package controllers

import (
	"k8s.io/apimachinery/pkg/runtime"

	"github.com/heddle-mesh/heddle/api/v1alpha1"
	applyv1alpha1 "github.com/heddle-mesh/heddle/api/v1alpha1/applyconfiguration/api/v1alpha1"
	"github.com/heddle-mesh/heddle/internal/conditions"
)

// trafficSplits is the status of TrafficSplits: beside the conditions, the weights in force.
func trafficSplits() kind[*v1alpha1.TrafficSplit] {
	return kind[*v1alpha1.TrafficSplit]{
		name:   v1alpha1.KindTrafficSplit,
		object: func() *v1alpha1.TrafficSplit { return &v1alpha1.TrafficSplit{} },
		table:  conditions.TrafficSplit,
		status: func(o *v1alpha1.TrafficSplit) v1alpha1.Status { return o.Status.Status },
		configuration: func(o *v1alpha1.TrafficSplit, next v1alpha1.Status, seen *sight) runtime.ApplyConfiguration {
			weights := o.Status.Weights
			if seen != nil && !seen.kept {
				weights = seen.Weights
			}
			if same(o.Status.Status, next, weights == o.Status.Weights) {
				return nil
			}
			status := applyv1alpha1.TrafficSplitStatus()
			status.StatusApplyConfiguration = conditions.Configuration(next)
			if weights != "" {
				status.WithWeights(weights)
			}
			return applyv1alpha1.TrafficSplit(o.Name, o.Namespace).WithStatus(status)
		},
	}
}
