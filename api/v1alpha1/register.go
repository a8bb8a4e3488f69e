// SPDX-License-Identifier: Apache-2.0

package v1alpha1

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

// GroupName is the API group of all kinds of the mesh.
const GroupName = "mesh.heddle.io"

// The kinds of the group, as they stand in an object's kind field.
const (
	KindTrafficSplit   = "TrafficSplit"
	KindServiceProfile = "ServiceProfile"
	KindMeshPolicy     = "MeshPolicy"
)

// GroupVersion is the group and version of the types in this package. Generated
// code knows it as SchemeGroupVersion.
var (
	GroupVersion       = schema.GroupVersion{Group: GroupName, Version: "v1alpha1"}
	SchemeGroupVersion = GroupVersion
)

var schemeBuilder = runtime.NewSchemeBuilder(addKnownTypes)

// AddToScheme adds the types of this package to a scheme.
var AddToScheme = schemeBuilder.AddToScheme

// Resource qualifies a plural resource name with the group, for API errors.
func Resource(resource string) schema.GroupResource {
	return GroupVersion.WithResource(resource).GroupResource()
}

func addKnownTypes(scheme *runtime.Scheme) error {
	scheme.AddKnownTypes(GroupVersion,
		&TrafficSplit{}, &TrafficSplitList{},
		&ServiceProfile{}, &ServiceProfileList{},
		&MeshPolicy{}, &MeshPolicyList{},
	)
	metav1.AddToGroupVersion(scheme, GroupVersion)
	return nil
}
