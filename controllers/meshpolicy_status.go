// SPDX-License-Identifier: Apache-2.0

package controllers

import (
	"k8s.io/apimachinery/pkg/runtime"

	"github.com/heddle-mesh/heddle/api/v1alpha1"
	applyv1alpha1 "github.com/heddle-mesh/heddle/api/v1alpha1/applyconfiguration/api/v1alpha1"
	"github.com/heddle-mesh/heddle/internal/conditions"
)

// meshPolicies is the status of MeshPolicies: the conditions.
func meshPolicies() kind[*v1alpha1.MeshPolicy] {
	return kind[*v1alpha1.MeshPolicy]{
		name:   v1alpha1.KindMeshPolicy,
		object: func() *v1alpha1.MeshPolicy { return &v1alpha1.MeshPolicy{} },
		table:  conditions.MeshPolicy,
		status: func(o *v1alpha1.MeshPolicy) v1alpha1.Status { return o.Status.Status },
		configuration: func(o *v1alpha1.MeshPolicy, next v1alpha1.Status, _ *sight) runtime.ApplyConfiguration {
			if same(o.Status.Status, next, true) {
				return nil
			}
			status := applyv1alpha1.MeshPolicyStatus()
			status.StatusApplyConfiguration = conditions.Configuration(next)
			return applyv1alpha1.MeshPolicy(o.Name, o.Namespace).WithStatus(status)
		},
	}
}
