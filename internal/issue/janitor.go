// SPDX-License-Identifier: Apache-2.0

package issue

import (
	"context"
	"errors"
	"fmt"
	"time"

	cmapi "github.com/cert-manager/cert-manager/pkg/apis/certmanager/v1"
	"github.com/go-logr/logr"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

const (
	sweepEvery = time.Minute
	leftover   = 3 * time.Minute // ten times what a request may take
)

// Janitor deletes CertificateRequests that an operator left behind when it was killed. The leader runs it.
type Janitor struct {
	Client    client.Client
	Namespace string
	Log       logr.Logger
	Clock     func() time.Time
}

// NeedLeaderElection makes it run on one replica only.
func (*Janitor) NeedLeaderElection() bool { return true }

// Start sweeps until the context ends.
func (j *Janitor) Start(ctx context.Context) error {
	ticker := time.NewTicker(sweepEvery)
	defer ticker.Stop()
	for {
		switch deleted, err := j.Sweep(ctx); {
		case err != nil && ctx.Err() == nil:
			j.Log.Error(err, "left over certificate requests not deleted", "deleted", deleted)
		case deleted > 0:
			j.Log.Info("deleted left over certificate requests", "deleted", deleted)
		}
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return nil
		}
	}
}

// Sweep deletes what is left over now and says how many there were.
func (j *Janitor) Sweep(ctx context.Context) (int, error) {
	list := &cmapi.CertificateRequestList{}
	if err := j.Client.List(ctx, list, client.InNamespace(j.Namespace), client.MatchingLabels(RequestLabels())); err != nil {
		return 0, fmt.Errorf("list CertificateRequests in namespace %s: %w", j.Namespace, err)
	}
	deleted := 0
	var faults []error
	for i := range list.Items {
		request := &list.Items[i]
		if j.Clock().Sub(request.CreationTimestamp.Time) < leftover {
			continue
		}
		if err := j.Client.Delete(ctx, request); client.IgnoreNotFound(err) != nil {
			faults = append(faults, fmt.Errorf("delete CertificateRequest %s: %w", client.ObjectKeyFromObject(request), err))
			continue
		}
		deleted++
	}
	return deleted, errors.Join(faults...)
}
