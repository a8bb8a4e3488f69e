// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"time"

	"github.com/cert-manager/cert-manager/pkg/controller"
	"github.com/cert-manager/cert-manager/pkg/healthz"
	logf "github.com/cert-manager/cert-manager/pkg/logs"
	"golang.org/x/sync/errgroup"
)

// run serves metrics and health, waits to be elected, and runs the controllers until the context ends or one fails.
func run(ctx context.Context, o *options) error {
	group, ctx := errgroup.WithContext(ctx)
	factory, err := controller.NewContextFactory(ctx, o.context)
	if err != nil {
		return fmt.Errorf("connecting to the API server: %w", err)
	}
	base, err := factory.Build()
	if err != nil {
		return err
	}
	if err := serveMetrics(ctx, group, o.metrics, base); err != nil {
		return err
	}
	health := healthz.NewServer(20 * time.Second)
	listener, err := listen(ctx, o.healthz)
	if err != nil {
		return err
	}
	group.Go(func() error { return health.Start(ctx, listener) })

	elected := make(chan struct{})
	group.Go(func() error { return o.election.run(ctx, factory, health.LeaderHealthzAdaptor, elected) })
	select {
	case <-ctx.Done():
		return group.Wait()
	case <-elected:
	}
	if err := startControllers(ctx, group, factory, base, o); err != nil {
		return err
	}
	return group.Wait()
}

// startControllers makes every controller before it starts the informers: one that is made later would miss its own.
func startControllers(ctx context.Context, group *errgroup.Group, factory *controller.ContextFactory, base *controller.Context, o *options) error {
	log := logf.FromContext(ctx)
	for name, construct := range controller.Known() {
		if !o.enabled(name) {
			continue
		}
		c, err := construct(factory)
		if err != nil {
			return fmt.Errorf("controller %s: %w", name, err)
		}
		log.V(logf.InfoLevel).Info("starting controller", "controller", name)
		group.Go(func() error { return c.Run(o.workers, ctx) })
	}
	base.SharedInformerFactory.Start(ctx.Done())
	base.KubeSharedInformerFactory.Start(ctx.Done())
	base.HTTP01ResourceMetadataInformersFactory.Start(ctx.Done())
	return nil
}

func serveMetrics(ctx context.Context, group *errgroup.Group, address string, base *controller.Context) error {
	listener, err := listen(ctx, address)
	if err != nil {
		return err
	}
	base.Metrics.SetupCertificateCollector(base.SharedInformerFactory.Certmanager().V1().Certificates().Lister())
	base.Metrics.SetupIssuerCollector(base.SharedInformerFactory.Certmanager().V1().Issuers().Lister())
	server := base.Metrics.NewServer(listener)
	group.Go(func() error {
		if err := server.Serve(listener); err != http.ErrServerClosed {
			return err
		}
		return nil
	})
	group.Go(func() error {
		<-ctx.Done()
		return server.Close()
	})
	return nil
}

func listen(ctx context.Context, address string) (net.Listener, error) {
	var config net.ListenConfig
	return config.Listen(ctx, "tcp", address)
}
