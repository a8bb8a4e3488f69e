// SPDX-License-Identifier: Apache-2.0

// Package leader wins and loses the lead among the operator's replicas, and makes it safe to act on: terms never come
// twice (Fence), and a new leader does not start from a cache that is behind (CatchUp).
//
// A replica that loses the Lease goes on serving what it has and campaigns again: streams of proxies survive an API
// server that is away.
package leader

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/go-logr/logr"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	coordinationv1 "k8s.io/client-go/kubernetes/typed/coordination/v1"
	"k8s.io/client-go/tools/leaderelection"
	"k8s.io/client-go/tools/leaderelection/resourcelock"
)

// Times of the Lease. A leader that dies is replaced within leaseDuration and two retries, each with client-go's jitter
// of up to 1.2 times: 8.2 s at worst.
const (
	leaseDuration = 6 * time.Second
	renewDeadline = 4 * time.Second
	retryPeriod   = 500 * time.Millisecond
	resignPause   = time.Second
)

// identitySeparator stands between the address and what makes the identity of each process another, so that a restart
// on the same address counts as a transition of the Lease and begins a new term.
const identitySeparator = "_"

// Options are what an Election needs. All are required.
type Options struct {
	Leases    coordinationv1.LeasesGetter
	Namespace string
	Name      string // of the Lease
	Address   string // host:port at which the other replicas reach this one
	// Lead leads until its context ends. Returning before that resigns.
	Lead func(ctx context.Context, term uint64) error
	Log  logr.Logger
}

// Election campaigns for the Lease. It is a Runnable of a manager.
type Election struct {
	opts     Options
	identity string
	holder   atomic.Pointer[string] // identity of the last known leader
	leading  sync.Mutex             // held while Lead runs
}

// NewElection returns an election that has not begun.
func NewElection(opts Options) *Election {
	return &Election{opts: opts, identity: opts.Address + identitySeparator + rand.Text()}
}

// NeedLeaderElection lets every replica campaign.
func (*Election) NeedLeaderElection() bool { return false }

// Leader returns the address of the leader, as the Lease says or last said; false if it is unknown or this replica.
func (e *Election) Leader() (address string, ok bool) {
	holder := e.holder.Load()
	if holder == nil || *holder == "" || *holder == e.identity {
		return "", false
	}
	address, _, ok = cutLast(*holder, identitySeparator)
	return address, ok
}

func cutLast(s, separator string) (before, after string, found bool) {
	if i := strings.LastIndex(s, separator); i >= 0 {
		return s[:i], s[i+len(separator):], true
	}
	return s, "", false
}

// Start campaigns, leads and campaigns again until the context ends; then it gives the Lease back.
func (e *Election) Start(ctx context.Context) error {
	for ctx.Err() == nil {
		if err := e.campaign(ctx); err != nil {
			return err
		}
		pause(ctx, resignPause)
	}
	e.leading.Lock() // until the last Lead has returned
	defer e.leading.Unlock()
	return nil
}

// campaign takes part in one election and leads if it is won, until the Lease is lost or Lead resigns.
func (e *Election) campaign(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	lock := &resourcelock.LeaseLock{
		LeaseMeta:  metav1.ObjectMeta{Namespace: e.opts.Namespace, Name: e.opts.Name},
		Client:     e.opts.Leases,
		LockConfig: resourcelock.ResourceLockConfig{Identity: e.identity},
	}
	elector, err := leaderelection.NewLeaderElector(leaderelection.LeaderElectionConfig{
		Lock: lock, Name: e.opts.Name, ReleaseOnCancel: true,
		LeaseDuration: leaseDuration, RenewDeadline: renewDeadline, RetryPeriod: retryPeriod,
		Callbacks: leaderelection.LeaderCallbacks{
			OnNewLeader: func(identity string) { e.holder.Store(&identity) },
			OnStartedLeading: func(ctx context.Context) {
				defer cancel()
				e.lead(ctx)
			},
			OnStoppedLeading: func() {},
		},
	})
	if err != nil {
		return fmt.Errorf("leader election: %w", err)
	}
	elector.Run(ctx)
	return nil
}

// lead runs one term. client-go calls it on a goroutine that it does not wait for: a term that begins late, after it was
// lost, does nothing.
func (e *Election) lead(ctx context.Context) {
	e.leading.Lock()
	defer e.leading.Unlock()
	term, err := e.term(ctx)
	if err == nil && ctx.Err() == nil {
		err = e.opts.Lead(ctx, term)
	}
	switch {
	case ctx.Err() != nil:
		e.opts.Log.Info("stopped leading", "cause", context.Cause(ctx).Error())
	case err != nil:
		e.opts.Log.Error(err, "resigned as leader")
	default:
		e.opts.Log.Info("resigned as leader")
	}
}

// term reads what the Lease counts, after it was acquired.
func (e *Election) term(ctx context.Context) (uint64, error) {
	lease, err := e.opts.Leases.Leases(e.opts.Namespace).Get(ctx, e.opts.Name, metav1.GetOptions{})
	if err != nil {
		return 0, fmt.Errorf("read the term from Lease %s/%s: %w", e.opts.Namespace, e.opts.Name, err)
	}
	if holder := lease.Spec.HolderIdentity; holder == nil || *holder != e.identity {
		return 0, errors.New("another replica holds the Lease already")
	}
	if lease.Spec.LeaseTransitions == nil || *lease.Spec.LeaseTransitions < 0 {
		return 0, nil
	}
	return uint64(*lease.Spec.LeaseTransitions), nil
}

func pause(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
	case <-timer.C:
	}
}
