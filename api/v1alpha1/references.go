// SPDX-License-Identifier: Apache-2.0

package v1alpha1

// ServiceReference names a Service in the namespace of the object.
type ServiceReference struct {
	// name of a Service in the namespace of this object: a DNS label of at most
	// 63 characters, without namespace or domain.
	// +required
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=63
	// +kubebuilder:validation:Pattern=`^[a-z0-9]([-a-z0-9]*[a-z0-9])?$`
	Name string `json:"name"`
}

// ServicePortReference names a Service in the namespace of the object, and maybe
// one of its ports.
type ServicePortReference struct {
	// name of a Service in the namespace of this object: a DNS label of at most
	// 63 characters, without namespace or domain.
	// +required
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=63
	// +kubebuilder:validation:Pattern=`^[a-z0-9]([-a-z0-9]*[a-z0-9])?$`
	Name string `json:"name"`

	// port of the Service, by number, 1 to 65535. What an absent port means is
	// said where the reference is used.
	// +optional
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=65535
	Port *int32 `json:"port,omitempty"`
}
