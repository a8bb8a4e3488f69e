// SPDX-License-Identifier: Apache-2.0

package controllers

import (
	"context"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/heddle-mesh/heddle/api/v1alpha1"
	"github.com/heddle-mesh/heddle/internal/collect"
	"github.com/heddle-mesh/heddle/internal/snapshot"
)

type reading struct {
	client.Reader

	options snapshot.Options
}

func (i *installation) collector(mgr ctrl.Manager) Collector {
	return reading{mgr.GetClient(), snapshot.Options{
		TrustDomain: "cluster.local", OperatorNamespace: i.namespace, WorkloadRoots: [][]byte{i.workloads.Certificate.Raw},
	}}
}

func (r reading) Take(ctx context.Context) (*snapshot.Snapshot, error) {
	s := &snapshot.Snapshot{Options: r.options, LastGood: map[snapshot.ObjectKey]*snapshot.LastGood{}}
	services, eps, pods := &corev1.ServiceList{}, &discoveryv1.EndpointSliceList{}, &corev1.PodList{}
	splits, profiles, policies := &v1alpha1.TrafficSplitList{}, &v1alpha1.ServiceProfileList{}, &v1alpha1.MeshPolicyList{}
	revisions := &appsv1.ControllerRevisionList{}
	for _, l := range []client.ObjectList{services, eps, pods, splits, profiles, policies, revisions} {
		if err := r.List(ctx, l); err != nil {
			return nil, err
		}
	}
	for i := range services.Items {
		s.Services = append(s.Services, &services.Items[i])
	}
	for i := range eps.Items {
		s.EndpointSlices = append(s.EndpointSlices, &eps.Items[i])
	}
	for i := range pods.Items {
		s.Pods = append(s.Pods, &pods.Items[i])
	}
	for i := range splits.Items {
		s.TrafficSplits = append(s.TrafficSplits, &splits.Items[i])
	}
	for i := range profiles.Items {
		s.ServiceProfiles = append(s.ServiceProfiles, &profiles.Items[i])
	}
	for i := range policies.Items {
		s.MeshPolicies = append(s.MeshPolicies, &policies.Items[i])
	}
	for i := range revisions.Items {
		if key, good, err := collect.ParseRevision(&revisions.Items[i]); err == nil {
			s.LastGood[key] = good
		}
	}
	s.Sort()
	return s, nil
}
