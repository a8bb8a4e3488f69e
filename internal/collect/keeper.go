// SPDX-License-Identifier: Apache-2.0

package collect

import (
	"context"
	"fmt"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/heddle-mesh/heddle/api/v1alpha1"
	"github.com/heddle-mesh/heddle/internal/snapshot"
)

// keeper lists one of our kinds, and keeps its objects while the kind is not served.
type keeper[T any, P interface {
	*T
	metav1.Object
}] struct {
	known   []P // of the snapshot before; nil before the first
	missing bool
	back    bool // served again, and the cache has not caught up
}

// take returns the objects of the kind.
func (k *keeper[T, P]) take(ctx context.Context, c *Collector, s *snapshot.Snapshot, kind, plural string,
	items func(ctx context.Context, from client.Reader) ([]T, error),
) ([]P, error) {
	listed, err := k.items(ctx, c.Cache, items)
	notServed := isNotServed(err)
	if err != nil && !notServed {
		return nil, err
	}
	if !notServed && !k.missing && !k.back && k.known != nil && !k.vanished(listed) {
		k.known = listed
		return listed, nil
	}
	served, err := c.serves(ctx, plural)
	switch {
	case err != nil:
		return nil, err
	case (!served || notServed) && k.known == nil:
		return nil, fmt.Errorf("the API server does not serve %s.%s: apply the CustomResourceDefinitions of Heddle; until then config stays as it is", plural, v1alpha1.GroupName)
	case !served || notServed:
		k.missing, k.back = true, false
		s.Missing = append(s.Missing, kind)
		return k.known, nil
	}
	if k.missing || k.back {
		// A cache that lost its kind may take long to notice that it is back.
		live, err := k.items(ctx, c.Live, items)
		if err != nil {
			return nil, err
		}
		k.missing, k.back = false, !sameObjects(live, listed)
		listed = live
	}
	k.known = listed
	return listed, nil
}

func (k *keeper[T, P]) items(ctx context.Context, from client.Reader, items func(context.Context, client.Reader) ([]T, error)) ([]P, error) {
	values, err := items(ctx, from)
	if err != nil {
		return nil, err
	}
	out := make([]P, len(values))
	for i := range values {
		out[i] = P(&values[i])
	}
	return out, nil
}

// vanished says whether an object that was known is not there any more.
func (k *keeper[T, P]) vanished(listed []P) bool {
	present := make(map[types.UID]bool, len(listed))
	for _, o := range listed {
		present[o.GetUID()] = true
	}
	for _, o := range k.known {
		if !present[o.GetUID()] {
			return true
		}
	}
	return false
}

// sameObjects says whether two lists hold the same versions of the same objects.
func sameObjects[P metav1.Object](a, b []P) bool {
	versions := make(map[types.UID]string, len(a))
	for _, o := range a {
		versions[o.GetUID()] = o.GetResourceVersion()
	}
	for _, o := range b {
		if version, ok := versions[o.GetUID()]; !ok || version != o.GetResourceVersion() {
			return false
		}
	}
	return len(a) == len(b)
}

// serves asks the API server whether a CRD is there to stay.
func (c *Collector) serves(ctx context.Context, plural string) (bool, error) {
	crd := &metav1.PartialObjectMetadata{}
	crd.SetGroupVersionKind(schema.GroupVersionKind{Group: "apiextensions.k8s.io", Version: "v1", Kind: "CustomResourceDefinition"})
	name := plural + "." + v1alpha1.GroupName
	switch err := c.Live.Get(ctx, types.NamespacedName{Name: name}, crd); {
	case apierrors.IsNotFound(err):
		return false, nil
	case err != nil:
		return false, fmt.Errorf("get CustomResourceDefinition %s, to see whether its objects were deleted or it was: %w", name, err)
	}
	return crd.DeletionTimestamp == nil, nil
}

func splitItems(ctx context.Context, from client.Reader) ([]v1alpha1.TrafficSplit, error) {
	l := &v1alpha1.TrafficSplitList{}
	err := list(ctx, from, l)
	return l.Items, err
}

func profileItems(ctx context.Context, from client.Reader) ([]v1alpha1.ServiceProfile, error) {
	l := &v1alpha1.ServiceProfileList{}
	err := list(ctx, from, l)
	return l.Items, err
}

func policyItems(ctx context.Context, from client.Reader) ([]v1alpha1.MeshPolicy, error) {
	l := &v1alpha1.MeshPolicyList{}
	err := list(ctx, from, l)
	return l.Items, err
}
