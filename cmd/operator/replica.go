// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"net/http"
	"time"

	cmapi "github.com/cert-manager/cert-manager/pkg/apis/certmanager/v1"
	"github.com/go-logr/logr"
	"github.com/prometheus/client_golang/prometheus"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/rest"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/healthz"
	metricsserver "sigs.k8s.io/controller-runtime/pkg/metrics/server"
	"sigs.k8s.io/controller-runtime/pkg/webhook"

	"github.com/heddle-mesh/heddle/api/v1alpha1"
	"github.com/heddle-mesh/heddle/controllers"
	"github.com/heddle-mesh/heddle/internal/collect"
	"github.com/heddle-mesh/heddle/internal/distribute"
	"github.com/heddle-mesh/heddle/internal/issue"
	"github.com/heddle-mesh/heddle/internal/leader"
	"github.com/heddle-mesh/heddle/internal/snapshot"
)

// replica is one replica of the operator, wired and not started.
type replica struct {
	*options

	manager ctrl.Manager
	meshID  string
	clock   func() time.Time // the one clock of the program
	log     logr.Logger
	metrics prometheus.Registerer

	roots        *issue.Roots            // of workloads
	trust        *controllers.TrustRoots // of the operator
	certificates *certificateFiles
	pods         *distribute.Pods
	election     *leader.Election
	leads        func() bool
	node         *distribute.Node
	control      *controlServer
}

// newReplica wires a replica. It reads the mesh ID and its certificate, and nothing else.
func newReplica(ctx context.Context, config *rest.Config, o *options, log logr.Logger, metrics prometheus.Registerer) (*replica, error) {
	r := &replica{options: o, clock: time.Now, log: log, metrics: metrics, pods: &distribute.Pods{}}
	if err := r.newManager(config); err != nil {
		return nil, err
	}
	var err error
	if r.meshID, err = meshID(ctx, r.manager.GetAPIReader()); err != nil {
		return nil, err
	}
	r.trust = &controllers.TrustRoots{Clock: r.clock}
	r.certificates = &certificateFiles{
		dir: o.controlCerts, log: log.WithName("certificates"),
		ca: func(pem []byte) error { return r.trust.LearnPEM(controllers.RootsOperator, pem) },
	}
	if err := r.certificates.load(); err != nil {
		return nil, fmt.Errorf("read the control server's certificate: %w", err)
	}
	inputs := &controllers.Signal{}
	r.roots = issue.NewRoots(issue.RootsOptions{
		Client: r.manager.GetClient(), Live: r.manager.GetAPIReader(), Namespace: o.namespace, Secret: o.rootSecret,
		Log: log.WithName("workload-roots"), Clock: r.clock, Changed: inputs.Notify,
	})
	r.newNode()
	leadership, err := r.newLeadership(config)
	if err != nil {
		return nil, err
	}
	if err := r.addServers(); err != nil {
		return nil, err
	}
	return r, errors.Join(
		controllers.Setup(r.manager, controllers.Options{
			Namespace: o.namespace, Collector: r.newCollector(), Leadership: leadership, Inputs: inputs, Metrics: metrics,
		}),
		r.addRunnables(),
	)
}

// newManager makes the manager. It elects nobody: leader.Election does, and the manager outlives lost terms.
func (r *replica) newManager(config *rest.Config) error {
	scheme := runtime.NewScheme()
	for _, add := range []func(*runtime.Scheme) error{clientgoscheme.AddToScheme, v1alpha1.AddToScheme, cmapi.AddToScheme} {
		if err := add(scheme); err != nil {
			return err
		}
	}
	grace := 2 * shutdownTimeout
	var err error
	r.manager, err = ctrl.NewManager(config, ctrl.Options{
		Scheme: scheme, Logger: r.log, Cache: controllers.CacheOptions(r.namespace),
		Metrics:                 metricsserver.Options{BindAddress: r.metricsBind},
		HealthProbeBindAddress:  r.healthBind,
		WebhookServer:           webhook.NewServer(webhook.Options{Port: r.webhookPort, CertDir: r.webhookCerts}),
		GracefulShutdownTimeout: &grace,
	})
	if err != nil {
		return fmt.Errorf("manager: %w", err)
	}
	return nil
}

// meshID is the UID of namespace kube-system.
func meshID(ctx context.Context, live client.Reader) (string, error) {
	ns := &corev1.Namespace{}
	if err := live.Get(ctx, types.NamespacedName{Name: "kube-system"}, ns); err != nil {
		return "", fmt.Errorf("read the mesh ID from namespace kube-system: %w", err)
	}
	return string(ns.UID), nil
}

func (r *replica) newNode() {
	r.node = distribute.NewNode(distribute.Options{
		MeshID: r.meshID, TrustDomain: r.trustDomain, ServerName: r.serverName(), Version: version,
		WorkloadRoots: r.roots.Pool,
		ServingRoots:  func() *x509.CertPool { return r.trust.Pool(controllers.RootsOperator) },
		Certificate:   r.certificates.Certificate,
		Pods:          r.pods.Lookup,
		Leader:        func() (string, bool) { return r.election.Leader() },
		Clock:         r.clock, Log: r.log.WithName("distribute"),
	})
}

// newLeadership makes the election and what a term takes.
func (r *replica) newLeadership(config *rest.Config) (*controllers.Leadership, error) {
	cluster, err := kubernetes.NewForConfig(config)
	if err != nil {
		return nil, fmt.Errorf("client of the API server: %w", err)
	}
	log := r.log.WithName("leader")
	janitor := &issue.Janitor{Client: r.manager.GetClient(), Namespace: r.namespace, Log: r.log.WithName("janitor"), Clock: r.clock}
	l := &controllers.Leadership{
		MeshID:  r.meshID,
		Fence:   &leader.Fence{ConfigMaps: cluster.CoreV1(), Namespace: r.namespace, Epoch: r.serialEpoch},
		CatchUp: &leader.CatchUp{Cache: r.manager.GetClient(), Live: r.manager.GetAPIReader(), Lists: controllers.Inputs()},
		Scheme:  r.manager.GetScheme(),
		Signers: &controllers.Signers{
			Live: r.manager.GetAPIReader(), Namespace: r.namespace, Roots: r.trust, Clock: r.clock, Log: log,
		},
		Node: r.node, Results: &controllers.Results{}, Clock: r.clock, Log: log,
		While: []func(context.Context) error{janitor.Start},
	}
	r.leads = l.Leads
	r.election = leader.NewElection(leader.Options{
		Leases: cluster.CoordinationV1(), Namespace: r.namespace, Name: serviceName, Address: r.replicaAddress(),
		Lead: l.Lead, Log: log,
	})
	return l, nil
}

func (r *replica) newCollector() controllers.Collector {
	return &collect.Collector{Cache: r.manager.GetClient(), Live: r.manager.GetAPIReader(), Options: func() snapshot.Options {
		return snapshot.Options{
			TrustDomain: r.trustDomain, OperatorNamespace: r.namespace, WorkloadRoots: r.roots.DER(), Networks: r.networks,
		}
	}}
}

// addRunnables adds what runs beside the controllers, and the checks of health.
func (r *replica) addRunnables() error {
	feed := &controllers.PodFeed{Cache: r.manager.GetCache(), Pods: r.pods, TrustDomain: r.trustDomain}
	started := r.manager.GetWebhookServer().StartedChecker()
	return errors.Join(
		r.manager.Add(r.certificates), r.manager.Add(r.roots), r.manager.Add(feed), r.manager.Add(r.control),
		r.manager.Add(r.election), r.manager.Add(runner(r.node.Run)),
		r.manager.AddHealthzCheck("ping", healthz.Ping),
		r.manager.AddReadyzCheck("control", r.control.ready),
		r.manager.AddReadyzCheck("webhook", func(req *http.Request) error { return started(req) }),
	)
}

// runner is a function that runs on every replica until its context ends.
type runner func(ctx context.Context) error

// NeedLeaderElection lets it run on every replica.
func (runner) NeedLeaderElection() bool { return false }

// Start implements manager.Runnable.
func (f runner) Start(ctx context.Context) error { return f(ctx) }
