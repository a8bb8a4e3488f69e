// SPDX-License-Identifier: Apache-2.0

package pipeline

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/heddle-mesh/heddle/api/v1alpha1"
	"github.com/heddle-mesh/heddle/internal/compile"
	"github.com/heddle-mesh/heddle/internal/meshconfig"
	"github.com/heddle-mesh/heddle/internal/snapshot"
	"github.com/heddle-mesh/heddle/proxy/balance"
	"github.com/heddle-mesh/heddle/proxy/outlier"
	"github.com/heddle-mesh/heddle/test/gen"
)

// The operator fills in what a profile leaves out, and a proxy what nobody said anything about. If they were not of one
// mind, a profile would change something by being there.
func TestWhatAProfileLeavesOutIsWhatSilenceMeans(t *testing.T) {
	p := gen.ServiceProfile(namespace, "cart", "cart")
	p.Spec.OutlierDetection, p.Spec.LoadBalancing = &v1alpha1.OutlierDetection{}, &v1alpha1.LoadBalancing{}
	p.Spec.CircuitBreaker, p.Spec.RetryBudget = &v1alpha1.CircuitBreaker{}, &v1alpha1.RetryBudget{}
	c := newCluster(snapshot.Options{TrustDomain: trustDomain, OperatorNamespace: "heddle-system"})
	c.put(service("cart", 1), p)
	snap, _ := c.snapshot()
	section, _ := compile.Compile(snap).Sections[meshconfig.RoutesName("cart.shop")].(*meshconfig.Routes)
	if len(section.GetClusters()) != 1 {
		t.Fatalf("clusters %v", section.GetClusters())
	}
	cluster := section.GetClusters()[0]

	config, err := outlier.NewConfig(cluster.GetOutlier())
	check(t, err)
	if diff := cmp.Diff(outlier.Defaults(), config); diff != "" {
		t.Errorf("outlierDetection: {} is not what silence means (-silence +{}):\n%s", diff)
	}
	options, err := balance.NewOptions(cluster.GetBalancing(), cluster.GetOutlier(), "a")
	check(t, err)
	silence, err := balance.NewOptions(nil, nil, "a")
	check(t, err)
	silence.Policy = meshconfig.BalancingPolicy_BALANCING_POLICY_LEAST_REQUEST // by its name
	if diff := cmp.Diff(silence, options); diff != "" {
		t.Errorf("loadBalancing: {} is not what silence means (-silence +{}):\n%s", diff)
	}
	if diff := cmp.Diff(outlier.NewLimits(nil), outlier.NewLimits(cluster.GetBreaker())); diff != "" {
		t.Errorf("circuitBreaker: {} is not what silence means (-silence +{}):\n%s", diff)
	}
	budget, err := outlier.NewBudgetConfig(section.GetRetryBudget())
	check(t, err)
	if silence, _ := outlier.NewBudgetConfig(nil); budget != silence {
		t.Errorf("retryBudget: {} is %+v, silence %+v", budget, silence)
	}
}
