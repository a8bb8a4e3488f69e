// SPDX-License-Identifier: Apache-2.0

// The cainjector program is cert-manager's CA injector behind the flags that the official chart passes.
package main

import (
	"context"
	"fmt"

	"github.com/cert-manager/cert-manager/heddle/process"
	"github.com/cert-manager/cert-manager/internal/apis/config/cainjector"
	"github.com/cert-manager/cert-manager/internal/apis/config/cainjector/scheme"
	"github.com/cert-manager/cert-manager/pkg/apis/config/cainjector/v1alpha1"
	cmscheme "github.com/cert-manager/cert-manager/pkg/client/clientset/versioned/scheme"
	controller "github.com/cert-manager/cert-manager/pkg/controller/cainjector"
	logf "github.com/cert-manager/cert-manager/pkg/logs"
	"github.com/cert-manager/cert-manager/pkg/util"
	utilfeature "github.com/cert-manager/cert-manager/pkg/util/feature"
	"github.com/spf13/pflag"
	corev1 "k8s.io/api/core/v1"
	apiext "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	"k8s.io/apimachinery/pkg/runtime"
	clientscheme "k8s.io/client-go/kubernetes/scheme"
	apireg "k8s.io/kube-aggregator/pkg/apis/apiregistration/v1"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"
	metricsserver "sigs.k8s.io/controller-runtime/pkg/metrics/server"
)

func main() {
	config, err := defaults()
	if err != nil {
		panic(err) // the defaults are compiled in
	}
	flags := pflag.NewFlagSet("cainjector", pflag.ContinueOnError)
	election := &config.LeaderElectionConfig
	flags.BoolVar(&election.Enabled, "leader-elect", election.Enabled, "elect a leader among the replicas")
	flags.StringVar(&election.Namespace, "leader-election-namespace", election.Namespace, "where its lease is")
	flags.DurationVar(&election.LeaseDuration, "leader-election-lease-duration", election.LeaseDuration, "")
	flags.DurationVar(&election.RenewDeadline, "leader-election-renew-deadline", election.RenewDeadline, "")
	flags.DurationVar(&election.RetryPeriod, "leader-election-retry-period", election.RetryPeriod, "")
	flags.StringVar(&config.MetricsListenAddress, "metrics-listen-address", config.MetricsListenAddress, "0 for none")
	utilfeature.DefaultMutableFeatureGate.AddFlag(flags)
	logf.AddFlags(&config.Logging, flags)
	process.Main("cainjector", flags, &config.Logging, func(ctx context.Context) error { return run(ctx, config) })
}

func defaults() (*cainjector.CAInjectorConfiguration, error) {
	s, _, err := scheme.NewSchemeAndCodecs()
	if err != nil {
		return nil, err
	}
	versioned, config := &v1alpha1.CAInjectorConfiguration{}, &cainjector.CAInjectorConfiguration{}
	s.Default(versioned)
	return config, s.Convert(versioned, config, nil)
}

func run(ctx context.Context, config *cainjector.CAInjectorConfiguration) error {
	manager, err := newManager(config)
	if err != nil {
		return fmt.Errorf("making the manager: %w", err)
	}
	inject := config.EnableInjectableConfig
	err = controller.RegisterAllInjectors(ctx, manager, controller.SetupOptions{
		EnableCertificatesDataSource: config.EnableDataSourceConfig.Certificates,
		EnabledReconcilersFor: map[string]bool{
			controller.MutatingWebhookConfigurationName:   inject.MutatingWebhookConfigurations,
			controller.ValidatingWebhookConfigurationName: inject.ValidatingWebhookConfigurations,
			controller.APIServiceName:                     inject.APIServices,
			controller.CustomResourceDefinitionName:       inject.CustomResourceDefinitions,
		},
	})
	if err != nil {
		return fmt.Errorf("registering the injectors: %w", err)
	}
	return manager.Start(ctx)
}

func newManager(config *cainjector.CAInjectorConfiguration) (ctrl.Manager, error) {
	rest, err := ctrl.GetConfig()
	if err != nil {
		return nil, err
	}
	s := runtime.NewScheme()
	for _, add := range []func(*runtime.Scheme) error{
		clientscheme.AddToScheme, cmscheme.AddToScheme, apiext.AddToScheme, apireg.AddToScheme,
	} {
		if err := add(s); err != nil {
			return nil, err
		}
	}
	election := config.LeaderElectionConfig
	// The user agent is the field manager of the injectors' server-side apply: without one every patch is refused.
	return ctrl.NewManager(util.RestConfigWithUserAgent(rest, "cainjector"), ctrl.Options{
		Scheme:                        s,
		Cache:                         cache.Options{ReaderFailOnMissingInformer: true},
		Client:                        client.Options{Cache: &client.CacheOptions{DisableFor: []client.Object{&corev1.Secret{}}}},
		LeaderElection:                election.Enabled,
		LeaderElectionNamespace:       election.Namespace,
		LeaderElectionID:              "cert-manager-cainjector-leader-election",
		LeaderElectionReleaseOnCancel: true,
		LeaseDuration:                 &election.LeaseDuration,
		RenewDeadline:                 &election.RenewDeadline,
		RetryPeriod:                   &election.RetryPeriod,
		Metrics:                       metricsserver.Options{BindAddress: config.MetricsListenAddress},
	})
}
