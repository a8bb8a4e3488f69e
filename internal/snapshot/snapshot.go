// SPDX-License-Identifier: Apache-2.0

// Package snapshot is the input of compile: what the cluster holds at one moment, as read-only values.
//
// Nobody writes to a snapshot or to what it points to once it is made: the objects are those of the informers' cache.
package snapshot

import (
	"cmp"
	"slices"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/heddle-mesh/heddle/api/v1alpha1"
)

// Snapshot is the input of compile. Lists are sorted by namespace and name (see Sort).
type Snapshot struct {
	Options Options

	Nodes          []*corev1.Node
	Services       []*corev1.Service
	EndpointSlices []*discoveryv1.EndpointSlice
	Pods           []*corev1.Pod
	ServiceCIDRs   []*networkingv1.ServiceCIDR

	TrafficSplits   []*v1alpha1.TrafficSplit
	ServiceProfiles []*v1alpha1.ServiceProfile
	MeshPolicies    []*v1alpha1.MeshPolicy

	// LastGood holds, by object, the newest spec that was in force and good.
	LastGood map[ObjectKey]*LastGood

	// Missing are the kinds of v1alpha1 that the API server does not serve at the moment, sorted. Their lists hold what
	// was known before, which stays in force.
	Missing []string
}

// Options are the settings of the operator that shape config.
type Options struct {
	// TrustDomain of all identities, "cluster.local".
	TrustDomain string
	// OperatorNamespace is where policies for the whole mesh are allowed.
	OperatorNamespace string
	// WorkloadRoots are the CA certificates that workload leaves chain to, DER.
	WorkloadRoots [][]byte
	// Networks are CIDRs that belong to the mesh beside those of the nodes' pods and of Services.
	Networks []string
}

// ObjectKey names an object of v1alpha1.
type ObjectKey struct {
	Kind      string
	Namespace string
	Name      string
}

// LastGood is the newest spec of an object that was in force and good. One of the specs is set, by the kind of the key.
type LastGood struct {
	UID        types.UID // of the object; another one is another object
	Generation int64     // of the spec
	Created    metav1.Time

	TrafficSplit   *v1alpha1.TrafficSplitSpec
	ServiceProfile *v1alpha1.ServiceProfileSpec
	MeshPolicy     *v1alpha1.MeshPolicySpec
}

// Sort sorts the lists in place. Only who makes a snapshot calls it.
func (s *Snapshot) Sort() {
	sortObjects(s.Nodes)
	sortObjects(s.Services)
	sortObjects(s.EndpointSlices)
	sortObjects(s.Pods)
	sortObjects(s.ServiceCIDRs)
	sortObjects(s.TrafficSplits)
	sortObjects(s.ServiceProfiles)
	sortObjects(s.MeshPolicies)
	slices.Sort(s.Missing)
}

func sortObjects[T metav1.Object](list []T) { slices.SortFunc(list, Compare[T]) }

// Compare orders objects by namespace, name and UID.
func Compare[T metav1.Object](a, b T) int {
	return cmp.Or(
		cmp.Compare(a.GetNamespace(), b.GetNamespace()),
		cmp.Compare(a.GetName(), b.GetName()),
		cmp.Compare(a.GetUID(), b.GetUID()),
	)
}
