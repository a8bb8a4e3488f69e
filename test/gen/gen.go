// SPDX-License-Identifier: Apache-2.0

// Package gen builds objects for tests, each from a name and options:
//
//	gen.Service("shop", "checkout", gen.ClusterIP("10.96.0.1"), gen.Port("http", 80, 8080))
//
// An object has a UID made of its kind and name, generation 1, and a creation time that tests may set apart.
package gen

import (
	"fmt"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

// Epoch is when objects were created unless Age says otherwise.
var Epoch = metav1.NewTime(time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC))

// Option changes an object that is being built.
type Option[T any] func(*T)

func build[T any](object *T, options []Option[T]) *T {
	for _, option := range options {
		option(object)
	}
	return object
}

func meta(kind, namespace, name string) metav1.ObjectMeta {
	return metav1.ObjectMeta{
		Namespace: namespace, Name: name, Generation: 1, CreationTimestamp: Epoch, ResourceVersion: "1",
		UID: types.UID(fmt.Sprintf("%s-%s-%s", kind, namespace, name)),
	}
}

// object is what Meta can change.
type object[T any] interface {
	*T
	metav1.Object
}

// Age makes an object older than others, which has it win conflicts.
func Age[T any, P object[T]](age time.Duration) Option[T] {
	return func(o *T) { P(o).SetCreationTimestamp(metav1.NewTime(Epoch.Add(-age))) }
}

// Generation sets the generation of an object's spec.
func Generation[T any, P object[T]](generation int64) Option[T] {
	return func(o *T) { P(o).SetGeneration(generation) }
}

// Labels sets labels from pairs of key and value.
func Labels[T any, P object[T]](pairs ...string) Option[T] {
	return func(o *T) {
		labels := map[string]string{}
		for k, v := range P(o).GetLabels() {
			labels[k] = v
		}
		for i := 0; i+1 < len(pairs); i += 2 {
			labels[pairs[i]] = pairs[i+1]
		}
		P(o).SetLabels(labels)
	}
}
