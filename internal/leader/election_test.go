// SPDX-License-Identifier: Apache-2.0

package leader_test

import (
	"context"
	"errors"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/go-logr/logr"
	coordinationv1 "k8s.io/api/coordination/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/kubernetes/fake"
	clienttesting "k8s.io/client-go/testing"

	"github.com/heddle-mesh/heddle/internal/leader"
)

// replica is one that campaigns.
type replica struct {
	election *leader.Election
	terms    chan uint64 // that it leads
	resign   chan struct{}
	leading  atomic.Int32
	stop     context.CancelFunc
	stopped  chan struct{}
}

func newReplica(t *testing.T, cluster *fake.Clientset, address string) *replica {
	t.Helper()
	r := &replica{terms: make(chan uint64, 10), resign: make(chan struct{}), stopped: make(chan struct{})}
	r.election = leader.NewElection(leader.Options{
		Leases: cluster.CoordinationV1(), Namespace: "heddle-system", Name: "heddle-operator", Address: address, Log: logr.Discard(),
		Lead: func(ctx context.Context, term uint64) error {
			if r.leading.Add(1) != 1 {
				t.Errorf("%s leads twice at once", address)
			}
			defer r.leading.Add(-1)
			r.terms <- term
			select {
			case <-ctx.Done():
				return nil
			case <-r.resign:
				return errors.New("resigned")
			}
		},
	})
	ctx, cancel := context.WithCancel(t.Context())
	r.stop = cancel
	go func() {
		defer close(r.stopped)
		if err := r.election.Start(ctx); err != nil {
			t.Error(err)
		}
	}()
	return r
}

func (r *replica) end() {
	r.stop()
	<-r.stopped
}

func holderOf(o runtime.Object) string {
	if lease, ok := o.(*coordinationv1.Lease); ok && lease.Spec.HolderIdentity != nil {
		return *lease.Spec.HolderIdentity
	}
	return ""
}

func TestOneReplicaLeadsAndTheOtherKnowsWhere(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		cluster := fake.NewClientset()
		a := newReplica(t, cluster, "10.0.0.1:8443")
		first := <-a.terms
		b := newReplica(t, cluster, "[fd00::2]:8443")
		time.Sleep(time.Minute)
		if address, ok := b.election.Leader(); !ok || address != "10.0.0.1:8443" {
			t.Errorf("b follows %q, %t", address, ok)
		}
		if address, ok := a.election.Leader(); ok {
			t.Errorf("the leader follows %q", address)
		}
		if len(b.terms) != 0 {
			t.Error("both lead")
		}
		start := time.Now()
		a.end()
		if second := <-b.terms; second <= first {
			t.Errorf("term %d after term %d", second, first)
		}
		if took := time.Since(start); took > 2*time.Second {
			t.Errorf("a leader that stops was replaced after %s: want it to give the Lease back", took)
		}
		a = newReplica(t, cluster, "10.0.0.1:8443")
		time.Sleep(time.Minute)
		if address, ok := a.election.Leader(); !ok || address != "[fd00::2]:8443" {
			t.Errorf("a follows %q, %t", address, ok)
		}
		a.end()
		b.end()
	})
}

func TestADeadLeaderIsReplacedWithinTenSeconds(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		cluster := fake.NewClientset()
		var mu sync.Mutex
		dead := ""
		cluster.PrependReactor("update", "leases", func(action clienttesting.Action) (bool, runtime.Object, error) {
			mu.Lock()
			defer mu.Unlock()
			if update, ok := action.(clienttesting.UpdateAction); ok && dead != "" && slices.Contains([]string{dead, ""}, holderOf(update.GetObject())) {
				return true, nil, apierrors.NewTimeoutError("the network is down", 1)
			}
			return false, nil, nil
		})
		a, b := newReplica(t, cluster, "a:1"), newReplica(t, cluster, "b:1")
		var first uint64
		dying, other := a, b
		select {
		case first = <-a.terms:
		case first = <-b.terms:
			dying, other = b, a
		}
		time.Sleep(time.Minute)
		lease, err := cluster.CoordinationV1().Leases("heddle-system").Get(t.Context(), "heddle-operator", metav1.GetOptions{})
		if err != nil {
			t.Fatal(err)
		}
		mu.Lock()
		dead = *lease.Spec.HolderIdentity
		mu.Unlock()
		start := time.Now()
		second := <-other.terms
		if took := time.Since(start); took > 10*time.Second || second <= first {
			t.Errorf("term %d after %s and term %d: want it within 10 s", second, took, first)
		}
		if dying.leading.Load() != 0 {
			t.Error("the one that was cut off still leads")
		}
		a.end()
		b.end()
	})
}

func TestWhoResignsCampaignsAgainForANewTerm(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		a := newReplica(t, fake.NewClientset(), "a:1")
		first := <-a.terms
		a.resign <- struct{}{}
		if second := <-a.terms; second <= first {
			t.Errorf("term %d after term %d", second, first)
		}
		a.end()
	})
}
