// SPDX-License-Identifier: Apache-2.0

package v1alpha1

// StickyBy is what tells users apart.
// +kubebuilder:validation:Enum=Cookie;Header;SourceIdentity;SourceIP
type StickyBy string

// What tells users apart.
const (
	// StickyByCookie goes by a cookie, which the proxy sets for who has none.
	StickyByCookie StickyBy = "Cookie"
	// StickyByHeader goes by the value of a header.
	StickyByHeader StickyBy = "Header"
	// StickyBySourceIdentity goes by the caller's service account.
	StickyBySourceIdentity StickyBy = "SourceIdentity"
	// StickyBySourceIP goes by the address of the calling pod.
	StickyBySourceIP StickyBy = "SourceIP"
)

// Stickiness keeps a user on one backend. While weights move, only the users of the
// share that moves change their backend.
// +kubebuilder:validation:XValidation:rule="has(self.name) == (self.by in ['Cookie', 'Header'])",message="stickiness.name must be set for Cookie and Header, and for no other",fieldPath=".name"
// +kubebuilder:validation:XValidation:rule="!has(self.ttl) || self.by == 'Cookie'",message="stickiness.ttl is the age of a cookie: leave it out otherwise",fieldPath=".ttl"
type Stickiness struct {
	// by says what tells users apart: Cookie, Header, SourceIdentity or SourceIP.
	// +required
	By StickyBy `json:"by"`

	// name of the cookie or header, at most 128 characters.
	// +optional
	// +kubebuilder:validation:MaxLength=128
	// +kubebuilder:validation:Pattern="^[A-Za-z0-9!#$%&'*+.^_`|~-]+$"
	Name string `json:"name,omitempty"`

	// ttl is how long a cookie that the proxy sets lasts. Absent: until the browser
	// ends.
	// +optional
	TTL *Duration `json:"ttl,omitempty"`
}
