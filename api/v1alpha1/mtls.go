// SPDX-License-Identifier: Apache-2.0

package v1alpha1

import metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

// MTLSMode says how callers must connect. In every mode a caller that uses
// mutual TLS is served.
// +kubebuilder:validation:Enum=Strict;Permissive;Disabled
type MTLSMode string

// How callers must connect.
const (
	// MTLSStrict refuses callers that do not use mutual TLS.
	MTLSStrict MTLSMode = "Strict"
	// MTLSPermissive serves plaintext callers beside the others; callers in the
	// mesh use mutual TLS.
	MTLSPermissive MTLSMode = "Permissive"
	// MTLSDisabled has callers in the mesh use plaintext too.
	MTLSDisabled MTLSMode = "Disabled"
)

// MTLS says whether callers must use mutual TLS.
// +kubebuilder:validation:XValidation:rule="self.mode != 'Permissive' || has(self.until)",message="mtls.until must be set for mode Permissive: say when the mode turns Strict, or list the ports that stay open in mtls.ports",fieldPath=".until"
// +kubebuilder:validation:XValidation:rule="self.mode != 'Strict' || !has(self.until)",message="mtls.until must be left out for mode Strict, which does not end",fieldPath=".until"
type MTLS struct {
	// mode of all ports that are not in ports. Strict: callers must use mutual
	// TLS. Permissive: plaintext callers are served too; needs until. Disabled:
	// callers in the mesh use plaintext too.
	// +required
	Mode MTLSMode `json:"mode"`

	// until is when mode turns Strict by itself, as RFC 3339 with a time zone:
	// "2026-03-31T18:00:00Z". Required for mode Permissive, allowed for Disabled.
	// The proxies act on it by their own clocks. It does not concern ports.
	// +optional
	// +kubebuilder:validation:Type=string
	// +kubebuilder:validation:Format=date-time
	// +kubebuilder:validation:Pattern=`^[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}(\.[0-9]{1,9})?(Z|[+-]([01][0-9]|2[0-3]):[0-5][0-9])$`
	Until *metav1.Time `json:"until,omitempty"`

	// ports are exceptions with a mode of their own, which does not end: for
	// callers that can never be in the mesh, such as an ingress of the cloud. At
	// most 32, each port once.
	// +optional
	// +listType=map
	// +listMapKey=port
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=32
	Ports []PortMTLS `json:"ports,omitempty"`
}

// PortMTLS is the mode of one port.
type PortMTLS struct {
	// port, 1 to 65535: of the Service if the target is a Service, else of the pod.
	// +required
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=65535
	Port int32 `json:"port"`

	// mode of this port: Strict, Permissive or Disabled. It has no end.
	// +required
	Mode MTLSMode `json:"mode"`
}
