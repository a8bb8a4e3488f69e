// SPDX-License-Identifier: Apache-2.0

package sandbox

import (
	"cmp"
	"context"
	"crypto/sha256"
	"fmt"
	"reflect"
	"slices"
	"strconv"
	"sync"

	cmapi "github.com/cert-manager/cert-manager/pkg/apis/certmanager/v1"
	authenticationv1 "k8s.io/api/authentication/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// cluster is the objects, as the operator's packages read and write them. An object that is in it is never written to.
type cluster struct {
	now func() metav1.Time
	// review answers TokenReviews, and sign CertificateRequests: both are done when Create returns.
	review func(*authenticationv1.TokenReview)
	sign   func(*cmapi.CertificateRequest)

	mu      sync.Mutex
	version uint64
	objects map[objectKey]*stored
}

type objectKey struct {
	kind reflect.Type // of the pointer
	name types.NamespacedName
}

// stored is an object, and as it was given if it is of the files: what the cluster adds to it is no change.
type stored struct {
	object client.Object
	given  client.Object
}

func newCluster(now func() metav1.Time) *cluster {
	return &cluster{now: now, objects: make(map[objectKey]*stored)}
}

func keyOf(o client.Object) objectKey {
	return objectKey{reflect.TypeOf(o), client.ObjectKeyFromObject(o)}
}

// replace makes objects all that there is of the files. It says whether anything changed.
func (c *cluster) replace(objects []client.Object) (changed bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	named := make(map[objectKey]bool, len(objects))
	for _, o := range objects {
		key := keyOf(o)
		named[key] = true
		old := c.objects[key]
		if old != nil && equality.Semantic.DeepEqual(old.given, o) {
			continue
		}
		changed = true
		next, _ := o.DeepCopyObject().(client.Object)
		c.admit(key, old, next)
		c.objects[key] = &stored{object: next, given: o}
	}
	for key, s := range c.objects {
		if s.given != nil && !named[key] {
			changed = true
			delete(c.objects, key)
			c.collectGarbage(s.object.GetUID())
		}
	}
	return changed
}

// admit gives an object what an API server adds. c.mu is held.
func (c *cluster) admit(key objectKey, old *stored, next client.Object) {
	c.version++
	next.SetResourceVersion(strconv.FormatUint(c.version, 10))
	if old != nil {
		next.SetUID(old.object.GetUID())
		next.SetCreationTimestamp(old.object.GetCreationTimestamp())
		next.SetGeneration(old.object.GetGeneration())
		if !equality.Semantic.DeepEqual(specOf(old.object), specOf(next)) {
			next.SetGeneration(old.object.GetGeneration() + 1)
		}
		return
	}
	next.SetGeneration(1)
	if at := next.GetCreationTimestamp(); at.IsZero() {
		next.SetCreationTimestamp(c.now())
	}
	if next.GetUID() == "" {
		next.SetUID(newUID(key, c.version))
	}
}

// specOf is the spec of an object, or all of one that has none.
func specOf(o client.Object) any {
	if spec := reflect.ValueOf(o).Elem().FieldByName("Spec"); spec.IsValid() {
		return spec.Interface()
	}
	return o
}

// newUID makes the UID of an object that is the nth change: one that is made again is another.
func newUID(key objectKey, n uint64) types.UID {
	sum := sha256.Sum256(fmt.Appendf(nil, "%v %v %d", key.kind, key.name, n))
	return types.UID(fmt.Sprintf("%x-%x-4%x-8%x-%x", sum[:4], sum[4:6], sum[6:8], sum[8:10], sum[10:16])[:36])
}

// collectGarbage deletes what an object that is gone owned. c.mu is held.
func (c *cluster) collectGarbage(owner types.UID) {
	for key, s := range c.objects {
		if slices.ContainsFunc(s.object.GetOwnerReferences(), func(r metav1.OwnerReference) bool { return r.UID == owner }) {
			delete(c.objects, key)
		}
	}
}

func notFound(key objectKey) error {
	return apierrors.NewNotFound(schema.GroupResource{Resource: key.kind.Elem().Name()}, key.name.String())
}

// Get implements client.Reader. It knows of every CustomResourceDefinition that it is there.
func (c *cluster) Get(_ context.Context, name client.ObjectKey, into client.Object, _ ...client.GetOption) error {
	if _, ok := into.(*metav1.PartialObjectMetadata); ok {
		into.SetName(name.Name)
		return nil
	}
	key := objectKey{reflect.TypeOf(into), name}
	c.mu.Lock()
	defer c.mu.Unlock()
	s := c.objects[key]
	if s == nil {
		return notFound(key)
	}
	reflect.ValueOf(into).Elem().Set(reflect.ValueOf(s.object.DeepCopyObject()).Elem())
	return nil
}

// List implements client.Reader. The lists share memory with the cluster.
func (c *cluster) List(_ context.Context, into client.ObjectList, options ...client.ListOption) error {
	o := client.ListOptions{}
	o.ApplyOptions(options)
	pointer, err := meta.GetItemsPtr(into)
	if err != nil {
		return err
	}
	items := reflect.ValueOf(pointer).Elem()
	kind := reflect.PointerTo(items.Type().Elem())
	c.mu.Lock()
	defer c.mu.Unlock()
	var found []client.Object
	for key, s := range c.objects {
		if key.kind == kind && (o.Namespace == "" || o.Namespace == key.name.Namespace) &&
			(o.LabelSelector == nil || o.LabelSelector.Matches(labels.Set(s.object.GetLabels()))) {
			found = append(found, s.object)
		}
	}
	slices.SortFunc(found, func(a, b client.Object) int {
		return cmp.Or(cmp.Compare(a.GetNamespace(), b.GetNamespace()), cmp.Compare(a.GetName(), b.GetName()))
	})
	list := reflect.MakeSlice(items.Type(), 0, len(found))
	for _, object := range found {
		list = reflect.Append(list, reflect.ValueOf(object).Elem())
	}
	items.Set(list)
	return nil
}

// Create adds an object. Reviews are answered, and CertificateRequests decided, on the way.
func (c *cluster) Create(_ context.Context, o client.Object, _ ...client.CreateOption) error {
	switch o := o.(type) {
	case *authenticationv1.TokenReview:
		c.review(o)
		return nil
	case *cmapi.CertificateRequest:
		c.sign(o)
		return nil
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	key := keyOf(o)
	if c.objects[key] != nil {
		return apierrors.NewAlreadyExists(schema.GroupResource{Resource: key.kind.Elem().Name()}, key.name.String())
	}
	c.admit(key, nil, o)
	made, _ := o.DeepCopyObject().(client.Object)
	c.objects[key] = &stored{object: made}
	return nil
}

// Update replaces an object.
func (c *cluster) Update(_ context.Context, o client.Object, _ ...client.UpdateOption) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	key := keyOf(o)
	old := c.objects[key]
	if old == nil {
		return notFound(key)
	}
	c.admit(key, old, o)
	next, _ := o.DeepCopyObject().(client.Object)
	c.objects[key] = &stored{object: next, given: old.given}
	return nil
}

// Delete removes an object.
func (c *cluster) Delete(_ context.Context, o client.Object, _ ...client.DeleteOption) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	key := keyOf(o)
	if c.objects[key] == nil {
		return notFound(key)
	}
	delete(c.objects, key)
	return nil
}
