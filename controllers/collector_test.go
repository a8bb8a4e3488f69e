// SPDX-License-Identifier: Apache-2.0

package controllers

import (
	ctrl "sigs.k8s.io/controller-runtime"

	"github.com/heddle-mesh/heddle/internal/collect"
	"github.com/heddle-mesh/heddle/internal/snapshot"
)

func (i *installation) collector(mgr ctrl.Manager) Collector {
	return &collect.Collector{Cache: mgr.GetClient(), Live: mgr.GetAPIReader(), Options: func() snapshot.Options {
		return snapshot.Options{
			TrustDomain: "cluster.local", OperatorNamespace: i.namespace, WorkloadRoots: [][]byte{i.workloads.Certificate.Raw},
		}
	}}
}
