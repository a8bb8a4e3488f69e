// SPDX-License-Identifier: Apache-2.0

package collect

import (
	"context"
	"fmt"
	"slices"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	networkingv1 "k8s.io/api/networking/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/heddle-mesh/heddle/api/v1alpha1"
	"github.com/heddle-mesh/heddle/internal/snapshot"
)

// Collector takes snapshots of the cluster. It serves one goroutine at a time.
type Collector struct {
	// Cache is where objects are listed from. The lists share memory with it.
	Cache client.Reader
	// Live reads from the API server. It is asked only when objects of ours have vanished.
	Live client.Reader
	// Options are asked for each snapshot.
	Options func() snapshot.Options

	splits   keeper[v1alpha1.TrafficSplit, *v1alpha1.TrafficSplit]
	profiles keeper[v1alpha1.ServiceProfile, *v1alpha1.ServiceProfile]
	policies keeper[v1alpha1.MeshPolicy, *v1alpha1.MeshPolicy]
	parsed   map[types.UID]parsed // by the UID of the revision, whose data does not change
	lastGood map[snapshot.ObjectKey]*snapshot.LastGood
}

// Take reads the cluster as the cache has it.
//
// Deleting a CRD deletes all its objects first, so a cache shows them vanish one by one. Therefore, when an object has
// vanished, the CRD itself is read from the API server: if it is on its way out, or gone, the objects that were known
// stay in the snapshot and the kind is listed in Missing. Then take a snapshot every few seconds: the CRD's return makes
// no event. A kind that is not served when the first snapshot is taken is an error, because nobody knows what it held:
// the mesh keeps the config that it has.
func (c *Collector) Take(ctx context.Context) (*snapshot.Snapshot, error) {
	s := &snapshot.Snapshot{Options: c.Options()}
	if err := c.listCluster(ctx, s); err != nil {
		return nil, err
	}
	if err := c.listGood(ctx, s); err != nil {
		return nil, err
	}
	var err error
	if s.TrafficSplits, err = c.splits.take(ctx, c, s, v1alpha1.KindTrafficSplit, "trafficsplits", splitItems); err != nil {
		return nil, err
	}
	if s.ServiceProfiles, err = c.profiles.take(ctx, c, s, v1alpha1.KindServiceProfile, "serviceprofiles", profileItems); err != nil {
		return nil, err
	}
	if s.MeshPolicies, err = c.policies.take(ctx, c, s, v1alpha1.KindMeshPolicy, "meshpolicies", policyItems); err != nil {
		return nil, err
	}
	keepGood(c, s, v1alpha1.KindTrafficSplit, s.TrafficSplits)
	keepGood(c, s, v1alpha1.KindServiceProfile, s.ServiceProfiles)
	keepGood(c, s, v1alpha1.KindMeshPolicy, s.MeshPolicies)
	c.lastGood = s.LastGood
	s.Sort()
	return s, nil
}

// keepGood keeps the last good spec of an object that is still there, though the revision is not: the garbage collector
// takes it when a CRD is deleted, and the object stays in force.
func keepGood[P metav1.Object](c *Collector, s *snapshot.Snapshot, kind string, objects []P) {
	for _, o := range objects {
		key := snapshot.ObjectKey{Kind: kind, Namespace: o.GetNamespace(), Name: o.GetName()}
		known := c.lastGood[key]
		if now := s.LastGood[key]; known != nil && known.UID == o.GetUID() && (now == nil || now.UID != o.GetUID()) {
			s.LastGood[key] = known
		}
	}
}

func (c *Collector) listCluster(ctx context.Context, s *snapshot.Snapshot) error {
	services, endpointSlices, pods, nodes := &corev1.ServiceList{}, &discoveryv1.EndpointSliceList{}, &corev1.PodList{}, &corev1.NodeList{}
	for _, l := range []client.ObjectList{services, endpointSlices, pods, nodes} {
		if err := list(ctx, c.Cache, l); err != nil {
			return err
		}
	}
	s.Services = pointers(services.Items)
	s.EndpointSlices = pointers(endpointSlices.Items)
	s.Pods = pointers(pods.Items)
	s.Nodes = pointers(nodes.Items)
	cidrs := &networkingv1.ServiceCIDRList{}
	// Kubernetes serves them since 1.33. Without them the networks of Services come from the options.
	if err := list(ctx, c.Cache, cidrs); err != nil && !isNotServed(err) {
		return err
	}
	s.ServiceCIDRs = pointers(cidrs.Items)
	return nil
}

// parsed is a ControllerRevision as it was read.
type parsed struct {
	key  snapshot.ObjectKey
	good *snapshot.LastGood
}

// listGood reads the last good specs: of each object the newest. A revision that says nothing sensible is skipped, as if
// it were not there: it is not ours to repair.
func (c *Collector) listGood(ctx context.Context, s *snapshot.Snapshot) error {
	revisions := &appsv1.ControllerRevisionList{}
	if err := list(ctx, c.Cache, revisions, client.HasLabels{LastGoodLabel}); err != nil {
		return err
	}
	read := make(map[types.UID]parsed, len(revisions.Items))
	s.LastGood = make(map[snapshot.ObjectKey]*snapshot.LastGood, len(revisions.Items))
	newest := func(a, b *snapshot.LastGood) bool {
		if created := a.Created.Compare(b.Created.Time); created != 0 {
			return created > 0 // another object of that name: the one that was made later
		}
		return a.Generation > b.Generation
	}
	for i := range revisions.Items {
		r := &revisions.Items[i]
		p, ok := c.parsed[r.UID]
		if !ok || r.UID == "" {
			key, good, err := ParseRevision(r)
			if err != nil {
				continue
			}
			p = parsed{key, good}
		}
		read[r.UID] = p
		if other := s.LastGood[p.key]; other == nil || newest(p.good, other) {
			s.LastGood[p.key] = p.good
		}
	}
	c.parsed = read
	return nil
}

// list reads without copies: nobody writes to a snapshot.
func list(ctx context.Context, from client.Reader, into client.ObjectList, options ...client.ListOption) error {
	if err := from.List(ctx, into, append(slices.Clone(options), client.UnsafeDisableDeepCopy)...); err != nil {
		return fmt.Errorf("list %T: %w", into, err)
	}
	return nil
}

// isNotServed says whether the API server does not know a kind.
func isNotServed(err error) bool { return meta.IsNoMatchError(err) }

func pointers[T any](items []T) []*T {
	out := make([]*T, len(items))
	for i := range items {
		out[i] = &items[i]
	}
	return out
}
