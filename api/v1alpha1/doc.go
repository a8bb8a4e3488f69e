// SPDX-License-Identifier: Apache-2.0

// Package v1alpha1 is the API of the mesh: TrafficSplit, ServiceProfile and
// MeshPolicy of the group mesh.heddle.io.
//
// The package depends on apimachinery alone, so that a client can import it
// without the control plane. What an object may say is in the schema, as CEL
// rules where a type is not enough: `kubectl apply --dry-run=server` sees the
// same errors as the operator. Nothing here writes spec. The operator only
// writes status.
//
// +kubebuilder:object:generate=true
// +kubebuilder:ac:generate=true
// +kubebuilder:ac:output:package="applyconfiguration"
// +groupName=mesh.heddle.io
package v1alpha1
