// SPDX-License-Identifier: Apache-2.0

package leader

import (
	"context"
	"fmt"
	"reflect"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/resourceversion"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/apiutil"
)

const (
	catchUpPoll  = 50 * time.Millisecond
	catchUpAgain = 20 // polls of the cache before the API server is asked anew
)

// CatchUp waits until the cache has, of each kind, all that the API server had when CatchUp was called, so that a leader
// begins with a consistent read: what the leader before it has published is in the cache too. Kinds that the API server
// does not serve are passed over.
type CatchUp struct {
	Cache client.Reader
	Live  client.Reader // reads from the API server
	// Lists are empty lists of the kinds, with the options that the cache's part of the kind is read by.
	Lists []KindList
}

// KindList is a kind and which of its objects the cache holds.
type KindList struct {
	List    client.ObjectList
	Options []client.ListOption
}

// Wait returns once the cache has caught up, or with the context's error and what is still behind.
func (c *CatchUp) Wait(ctx context.Context, scheme *runtime.Scheme) error {
	for _, kind := range c.Lists {
		gvk, err := apiutil.GVKForObject(kind.List, scheme)
		if err != nil {
			return err
		}
		if err := c.wait(ctx, gvk, kind); err != nil {
			return fmt.Errorf("the cache is behind on %s: %w", gvk.Kind, err)
		}
	}
	return nil
}

func (c *CatchUp) wait(ctx context.Context, gvk schema.GroupVersionKind, kind KindList) error {
	for {
		// Objects are deleted while we wait, and then the cache never has them: ask anew after a while.
		want := &metav1.PartialObjectMetadataList{}
		want.SetGroupVersionKind(gvk)
		switch err := c.Live.List(ctx, want, kind.Options...); {
		case meta.IsNoMatchError(err), apierrors.IsNotFound(err): // its CRD is gone
			return nil
		case err != nil:
			return err
		}
		for range catchUpAgain {
			behind, err := c.behind(ctx, want, kind)
			if err != nil {
				return err
			}
			if behind == "" {
				return nil
			}
			pause(ctx, catchUpPoll)
			if ctx.Err() != nil {
				return fmt.Errorf("it lacks %s: %w", behind, ctx.Err())
			}
		}
	}
}

// behind names an object that the cache has not seen the version of, or still has although it is gone; or "".
func (c *CatchUp) behind(ctx context.Context, want *metav1.PartialObjectMetadataList, kind KindList) (string, error) {
	list, ok := reflect.New(reflect.TypeOf(kind.List).Elem()).Interface().(client.ObjectList)
	if !ok {
		return "", fmt.Errorf("%T is not a list", kind.List)
	}
	if err := c.Cache.List(ctx, list, kind.Options...); err != nil {
		return "", err
	}
	have := make(map[types.NamespacedName]string, len(want.Items))
	extra := ""
	err := meta.EachListItem(list, func(o runtime.Object) error {
		accessor, err := meta.Accessor(o)
		if err != nil {
			return err
		}
		have[types.NamespacedName{Namespace: accessor.GetNamespace(), Name: accessor.GetName()}] = accessor.GetResourceVersion()
		return nil
	})
	if err != nil {
		return "", err
	}
	for i := range want.Items {
		key := client.ObjectKeyFromObject(&want.Items[i])
		version, ok := have[key]
		if !ok || older(version, want.Items[i].ResourceVersion) {
			return key.String(), nil
		}
		delete(have, key)
	}
	for key, version := range have {
		if older(version, want.ResourceVersion) { // not one that was made after the list
			extra = key.String()
		}
	}
	return extra, nil
}

// older compares resource versions of one kind. What cannot be compared is older: then the cache must have the same.
func older(a, b string) bool {
	if a == b {
		return false
	}
	c, err := resourceversion.CompareResourceVersion(a, b)
	return err != nil || c < 0
}
