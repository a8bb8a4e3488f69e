// SPDX-License-Identifier: Apache-2.0

package controllers

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"time"

	"github.com/go-logr/logr"
	"github.com/prometheus/client_golang/prometheus"
	"k8s.io/client-go/util/workqueue"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller"
	"sigs.k8s.io/controller-runtime/pkg/manager"

	"github.com/heddle-mesh/heddle/internal/conditions"
	"github.com/heddle-mesh/heddle/internal/distribute"
	"github.com/heddle-mesh/heddle/internal/meshconfig"
)

// Options are what the controllers share. All are required.
type Options struct {
	Namespace  string // the operator's
	Collector  Collector
	Leadership *Leadership
	// Inputs wakes the mesh controller after a change of what is not an object, such as the workload roots.
	Inputs  *Signal
	Metrics prometheus.Registerer
}

// Setup adds the controllers to a manager that does not elect a leader itself: Leadership says when they act.
func Setup(mgr ctrl.Manager, o Options) error {
	l := o.Leadership
	m, err := newMetrics(o.Metrics)
	if err != nil {
		return err
	}
	node := &nodeCollector{node: l.Node, leadership: l, signers: l.Signers, clock: l.Clock}
	if err := o.Metrics.Register(node); err != nil {
		return fmt.Errorf("register the metrics of distributing: %w", err)
	}
	mesh := &meshReconciler{
		collector: o.Collector, leadership: l, results: l.Results, inputs: o.Inputs, metrics: m, clock: l.Clock,
	}
	signer := &signerReconciler{leadership: l, signers: l.Signers}
	roots := &rootsReconciler{client: mgr.GetClient(), leadership: l, roots: l.Signers.Roots, namespace: o.Namespace}
	lastGood := &lastGoodReconciler{client: mgr.GetClient(), leadership: l, results: l.Results}
	return errors.Join(
		mesh.setup(mgr), signer.setup(mgr), roots.setup(mgr), lastGood.setup(mgr),
		setupStatus(mgr, l, trafficSplits(), "trafficsplit-status"),
		setupStatus(mgr, l, serviceProfiles(), "serviceprofile-status"),
		setupStatus(mgr, l, meshPolicies(), "meshpolicy-status"),
		mgr.Add(acks{l.Node, l.Results}),
	)
}

func setupStatus[T client.Object](mgr ctrl.Manager, l *Leadership, k kind[T], name string) error {
	r := &statusReconciler[T]{
		kind: k, client: mgr.GetClient(), leadership: l, results: l.Results, programmed: l.Node.Programmed, health: l.Node.Health,
		recorder: mgr.GetEventRecorder(conditions.FieldManager), clock: l.Clock,
	}
	return r.setup(mgr, name)
}

// acks wakes the status controllers when proxies acked. It is the one receiver of Node.Changed.
type acks struct {
	node    *distribute.Node
	results *Results
}

var _ manager.LeaderElectionRunnable = acks{}

// NeedLeaderElection lets it run on every replica.
func (acks) NeedLeaderElection() bool { return false }

// Start passes on what the node says until the context ends.
func (a acks) Start(ctx context.Context) error {
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-a.node.Changed():
			a.results.Changed.Notify()
		}
	}
}

// oneKey is the request of a controller that has one thing to do: all events are one.
type oneKey struct{}

func onlyKey(context.Context) []oneKey { return []oneKey{{}} }

// Retries after errors, which the workqueue doubles.
const (
	retryFirst = 50 * time.Millisecond
	retryLast  = 10 * time.Second
)

// syncTimeout is how long a controller waits for a kind that the API server does not serve. The others, and the servers,
// go on meanwhile; the default of two minutes would end the operator.
const syncTimeout = 365 * 24 * time.Hour

// everywhere has a controller run on every replica. Names need not be unique in the process, for tests run several
// managers in one.
func everywhere[request comparable]() controller.TypedOptions[request] {
	elected, skip := false, true
	return controller.TypedOptions[request]{
		NeedLeaderElection: &elected,
		SkipNameValidation: &skip,
		CacheSyncTimeout:   syncTimeout,
		RateLimiter:        workqueue.NewTypedItemExponentialFailureRateLimiter[request](retryFirst, retryLast),
	}
}

func logConstructor[request comparable](mgr ctrl.Manager, name string) func(*request) logr.Logger {
	log := mgr.GetLogger().WithName(name)
	return func(*request) logr.Logger { return log }
}

var errNotAnAddress = errors.New("not the name of an address section")

func parseAddress(name meshconfig.Name) (netip.Addr, error) {
	if name.Kind() != meshconfig.KindAddress {
		return netip.Addr{}, fmt.Errorf("section %s: %w", name, errNotAnAddress)
	}
	return netip.ParseAddr(name.Subject())
}
