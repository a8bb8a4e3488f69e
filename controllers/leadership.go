// SPDX-License-Identifier: Apache-2.0

package controllers

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/go-logr/logr"
	"k8s.io/apimachinery/pkg/runtime"

	"github.com/heddle-mesh/heddle/internal/distribute"
	"github.com/heddle-mesh/heddle/internal/leader"
)

// catchUpTimeout is how long a new leader waits for its cache before it resigns, for another to try.
const catchUpTimeout = 30 * time.Second

// Leadership is one replica's part in leading: what it takes to begin a term, and who publishes while it lasts.
type Leadership struct {
	MeshID  string
	Fence   *leader.Fence
	CatchUp *leader.CatchUp
	Scheme  *runtime.Scheme
	Signers *Signers
	Node    *distribute.Node
	Results *Results
	Clock   func() time.Time
	Log     logr.Logger
	// While are run for as long as a term lasts. They must return when their context ends.
	While []func(ctx context.Context) error
	// Begun wakes the controllers that have something to do when a term begins.
	Begun Signal

	mu        sync.Mutex
	publisher *distribute.Publisher // nil: not leading
	resign    context.CancelCauseFunc
}

// Publisher returns the publisher of the term, or nil on a replica that does not lead.
func (l *Leadership) Publisher() *distribute.Publisher {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.publisher
}

// Leads says whether this replica leads.
func (l *Leadership) Leads() bool { return l.Publisher() != nil }

// Resign ends the term that the publisher is of: another leader has been found, or this one cannot go on.
func (l *Leadership) Resign(of *distribute.Publisher, cause error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.publisher == of && of != nil {
		l.resign(cause)
	}
}

// Lead leads one term, until its context ends or it resigns. It is Lead of leader.Options.
func (l *Leadership) Lead(ctx context.Context, transitions uint64) error {
	publisher, err := l.prepare(ctx, transitions)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	l.Node.SetLeader(publisher)
	l.set(publisher, cancel)
	defer func() {
		l.set(nil, nil)
		l.Results.forget()
		l.Node.SetRelay()
	}()
	l.Begun.Notify()

	var wg sync.WaitGroup
	for _, f := range l.While {
		wg.Go(func() {
			if err := f(ctx); err != nil && ctx.Err() == nil {
				cancel(err)
			}
		})
	}
	<-ctx.Done()
	wg.Wait()
	if cause := context.Cause(ctx); !errors.Is(cause, context.Canceled) {
		return cause
	}
	return nil
}

// prepare does what must be true before the first section is signed: a term that nobody had, a cache that is not behind,
// and a signer.
func (l *Leadership) prepare(ctx context.Context, transitions uint64) (*distribute.Publisher, error) {
	start := l.Clock()
	epoch, term, err := l.Fence.Next(ctx, transitions)
	if err != nil {
		return nil, fmt.Errorf("begin a term: %w", err)
	}
	waiting, cancel := context.WithTimeout(ctx, catchUpTimeout)
	defer cancel()
	if err := l.CatchUp.Wait(waiting, l.Scheme); err != nil {
		return nil, fmt.Errorf("begin term %d: %w", term, err)
	}
	signer, err := l.Signers.Wait(ctx)
	if err != nil {
		return nil, fmt.Errorf("begin term %d: %w", term, err)
	}
	l.Log.Info("ready to lead", "epoch", epoch, "term", term, "took", l.Clock().Sub(start).String())
	return distribute.NewPublisher(distribute.PublisherOptions{
		MeshID: l.MeshID, Epoch: epoch, Term: term, Signer: signer, Resolve: l.Results.Resolve,
		Clock: l.Clock, Log: l.Log.WithName("publisher"),
	}), nil
}

func (l *Leadership) set(p *distribute.Publisher, resign context.CancelCauseFunc) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.publisher, l.resign = p, resign
}
