// SPDX-License-Identifier: Apache-2.0

package v1alpha1

// BalancingPolicy says how an endpoint is chosen.
// +kubebuilder:validation:Enum=RoundRobin;LeastRequest;PeakEWMA;Random;ConsistentHash
type BalancingPolicy string

// How an endpoint is chosen.
const (
	// BalancingRoundRobin takes one after the other.
	BalancingRoundRobin BalancingPolicy = "RoundRobin"
	// BalancingLeastRequest takes the one of two drawn at random that has fewer
	// requests under way.
	BalancingLeastRequest BalancingPolicy = "LeastRequest"
	// BalancingPeakEWMA takes the one of two that was faster lately, counting
	// what it has under way.
	BalancingPeakEWMA BalancingPolicy = "PeakEWMA"
	// BalancingRandom draws one.
	BalancingRandom BalancingPolicy = "Random"
	// BalancingConsistentHash takes the same for equal keys (Maglev).
	BalancingConsistentHash BalancingPolicy = "ConsistentHash"
)

// LoadBalancing says how an endpoint is chosen for a request, or for a connection
// where nothing is HTTP.
// +kubebuilder:validation:XValidation:rule="(has(self.policy) && self.policy == 'ConsistentHash') == has(self.hash)",message="loadBalancing.hash must be set for policy ConsistentHash, and for no other",fieldPath=".hash"
type LoadBalancing struct {
	// policy: LeastRequest, RoundRobin, PeakEWMA, Random or ConsistentHash.
	// Default: LeastRequest.
	// +optional
	Policy BalancingPolicy `json:"policy,omitempty"`

	// hash says what ConsistentHash goes by: the first key that a request has. A
	// request without any gets an endpoint at random. At most 4.
	// +optional
	// +listType=atomic
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=4
	Hash []HashKey `json:"hash,omitempty"`

	// slowStart is how long a new endpoint takes from a tenth of its share to all
	// of it, at most 15m. It does nothing beside ConsistentHash: a key belongs to
	// its endpoint from the first moment. Absent: none.
	// +optional
	// +kubebuilder:validation:XValidation:rule="duration(self) <= duration('15m')",message="loadBalancing.slowStart must be at most 15m"
	SlowStart *Duration `json:"slowStart,omitempty"`

	// locality says whether endpoints of the caller's own zone are preferred.
	// PreferZone: they are while enough of them are well; what they cannot take
	// spills over to other zones. Ignore: zones do not matter. It does nothing
	// beside ConsistentHash, which takes no account of zones. Default: PreferZone.
	// +optional
	// +kubebuilder:validation:Enum=PreferZone;Ignore
	Locality string `json:"locality,omitempty"`
}

// HashKey is what of a request is hashed.
// +kubebuilder:validation:XValidation:rule="has(self.name) == (self.by != 'Source')",message="hash[].name must be set for Header, Cookie and Query, and not for Source"
type HashKey struct {
	// by: Header, Cookie, Query, or Source for the calling pod.
	// +required
	// +kubebuilder:validation:Enum=Header;Cookie;Query;Source
	By string `json:"by"`

	// name of the header, cookie or query parameter; at most 128 characters.
	// +optional
	// +kubebuilder:validation:MaxLength=128
	// +kubebuilder:validation:Pattern="^[A-Za-z0-9!#$%&'*+.^_`|~-]+$"
	Name string `json:"name,omitempty"`
}
