// SPDX-License-Identifier: Apache-2.0

package controllers

import (
	"cmp"
	"context"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	toolscache "k8s.io/client-go/tools/cache"
	"sigs.k8s.io/controller-runtime/pkg/cache"

	"github.com/heddle-mesh/heddle/internal/distribute"
	"github.com/heddle-mesh/heddle/internal/identity"
	"github.com/heddle-mesh/heddle/internal/issue"
)

// PodFeed tells distribute which injected pods live, from the informer of pods. It runs on every replica.
type PodFeed struct {
	Cache       cache.Informers
	Pods        *distribute.Pods
	TrustDomain string
}

// NeedLeaderElection lets it run on every replica.
func (*PodFeed) NeedLeaderElection() bool { return false }

// Start feeds until the context ends.
func (f *PodFeed) Start(ctx context.Context) error {
	informer, err := f.Cache.GetInformer(ctx, &corev1.Pod{})
	if err != nil {
		return fmt.Errorf("watch pods: %w", err)
	}
	registration, err := informer.AddEventHandler(toolscache.ResourceEventHandlerFuncs{
		AddFunc: f.set,
		UpdateFunc: func(before, after any) {
			if old, ok := before.(*corev1.Pod); ok {
				if next, ok := after.(*corev1.Pod); ok && old.UID != next.UID {
					f.Pods.Delete(string(old.UID)) // deleted and made again between two looks
				}
			}
			f.set(after)
		},
		DeleteFunc: f.remove,
	})
	if err != nil {
		return fmt.Errorf("watch pods: %w", err)
	}
	<-ctx.Done()
	return informer.RemoveEventHandler(registration)
}

func (f *PodFeed) set(o any) {
	pod, ok := o.(*corev1.Pod)
	if !ok || pod.Annotations[issue.AnnotationInjected] != "true" {
		return
	}
	if pod.Status.Phase == corev1.PodSucceeded || pod.Status.Phase == corev1.PodFailed {
		f.Pods.Delete(string(pod.UID))
		return
	}
	id := identity.ID{
		TrustDomain: f.TrustDomain, Namespace: pod.Namespace,
		ServiceAccount: cmp.Or(pod.Spec.ServiceAccountName, "default"),
	}
	f.Pods.Set(string(pod.UID), id, pod.DeletionTimestamp != nil)
}

func (f *PodFeed) remove(o any) {
	if gone, ok := o.(toolscache.DeletedFinalStateUnknown); ok {
		o = gone.Obj
	}
	if pod, ok := o.(*corev1.Pod); ok {
		f.Pods.Delete(string(pod.UID))
	}
}
