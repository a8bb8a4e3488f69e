// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/cert-manager/cert-manager/pkg/controller"
	"github.com/spf13/pflag"
	"k8s.io/client-go/tools/leaderelection"
	"k8s.io/client-go/tools/leaderelection/resourcelock"
)

// election is who may run the controllers. Lease name and times are upstream's.
type election struct {
	enabled               bool
	namespace             string
	lease, renewal, retry time.Duration
}

func (e *election) add(flags *pflag.FlagSet) {
	flags.BoolVar(&e.enabled, "leader-elect", true, "elect a leader among the replicas")
	flags.StringVar(&e.namespace, "leader-election-namespace", "kube-system", "where its lease is")
	flags.DurationVar(&e.lease, "leader-election-lease-duration", 60*time.Second, "how long a silent leader is waited for")
	flags.DurationVar(&e.renewal, "leader-election-renew-deadline", 40*time.Second, "how long the leader tries to renew")
	flags.DurationVar(&e.retry, "leader-election-retry-period", 15*time.Second, "time between tries")
}

// run closes elected once this process leads, and returns when it no longer does.
func (e *election) run(ctx context.Context, factory *controller.ContextFactory, health *leaderelection.HealthzAdaptor, elected chan<- struct{}) error {
	if !e.enabled {
		close(elected)
		return nil
	}
	c, err := factory.Build("leader-election")
	if err != nil {
		return err
	}
	host, err := os.Hostname()
	if err != nil {
		return fmt.Errorf("naming this candidate: %w", err)
	}
	lock, err := resourcelock.New(resourcelock.LeasesResourceLock, e.namespace, "cert-manager-controller",
		c.Client.CoreV1(), c.Client.CoordinationV1(),
		resourcelock.ResourceLockConfig{Identity: host + "-external-cert-manager-controller", EventRecorder: c.Recorder})
	if err != nil {
		return fmt.Errorf("making the lease: %w", err)
	}
	elector, err := leaderelection.NewLeaderElector(leaderelection.LeaderElectionConfig{
		Lock:            lock,
		LeaseDuration:   e.lease,
		RenewDeadline:   e.renewal,
		RetryPeriod:     e.retry,
		ReleaseOnCancel: true,
		WatchDog:        health,
		Callbacks: leaderelection.LeaderCallbacks{
			OnStartedLeading: func(context.Context) { close(elected) },
			OnStoppedLeading: func() {},
		},
	})
	if err != nil {
		return err
	}
	elector.Run(ctx)
	if ctx.Err() == nil {
		return errors.New("leader election lost")
	}
	return nil
}
