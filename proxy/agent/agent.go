// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/go-logr/logr"
	"google.golang.org/protobuf/proto"

	"github.com/heddle-mesh/heddle/internal/identity"
	"github.com/heddle-mesh/heddle/internal/meshconfig"
	"github.com/heddle-mesh/heddle/internal/signedconfig"
)

// maxFloors bounds the floors of sections that are held or were.
const maxFloors = 20_000

// Options are what an agent needs. All but Health, Rejected, Terminating, Version, Clock and Log are required.
type Options struct {
	ControlAddress    string // host:port of the operator
	ControlServerName string // exact DNS name of its certificate
	MeshID            string // UID of the kube-system namespace
	ID                identity.ID
	PodUID            string
	Version           string // of the program

	RootsDir  string // operator.pem and config.pem
	TokenFile string // projected service account token
	StateDir  string // in memory, and of this container alone

	// Apply puts a section in force. It is called by one goroutine at a time, with a message that is valid and must not be
	// changed. An error is a nack: what was in force stays.
	Apply func(name meshconfig.Name, m proto.Message) error
	// Remove takes the tombstone of a section that the table holds.
	Remove func(name meshconfig.Name)
	// Rejected counts config that was refused, by a bounded reason.
	Rejected func(reason string)
	// Health returns what the proxy sees of services. It is called once a second, by one goroutine.
	Health func() []ServiceHealth
	// Terminating is called, once, when the operator says that the pod is being deleted.
	Terminating func()

	Clock func() time.Time
	Log   logr.Logger
}

// Agent gets a pod's certificate and config. It implements table.Subscriber.
type Agent struct {
	opts          Options
	store         *store
	operatorRoots *roots
	configRoots   *roots
	identity      *Identity
	holdings      *holdings
	outbox        *outbox
	status        status
	terminated    sync.Once

	// turn is held while a section is judged and applied.
	turn    sync.Mutex
	checker *signedconfig.Verifier
	floors  *signedconfig.Floors
	bound   meshconfig.Name // the inbound section that the binding in force names
	pending *arrival        // a binding that waits for its inbound section
	unsaved bool            // floors changed since they were written
	session uint64          // of the last stream
}

// New returns an agent that has read nothing and called nobody yet.
func New(opts Options) (*Agent, error) {
	if opts.Clock == nil {
		opts.Clock = time.Now
	}
	if opts.Rejected == nil {
		opts.Rejected = func(string) {}
	}
	if opts.Terminating == nil {
		opts.Terminating = func() {}
	}
	if err := opts.ID.Validate(); err != nil {
		return nil, fmt.Errorf("identity of the pod: %w", err)
	}
	s, err := newStore(opts.StateDir)
	if err != nil {
		return nil, err
	}
	a := &Agent{
		opts: opts, store: s, floors: signedconfig.NewFloors(maxFloors), outbox: newOutbox(),
		operatorRoots: newRoots(opts.RootsDir, operatorRootsFile, opts.Log),
		configRoots:   newRoots(opts.RootsDir, configRootsFile, opts.Log),
	}
	a.status.rejected = make(map[string]uint64)
	a.identity = newIdentity(opts.ID, s, opts.Clock, opts.Log, a.issue)
	a.holdings = newHoldings(a.outbox.look)
	for _, name := range []meshconfig.Name{meshconfig.MeshName, meshconfig.HeartbeatName, meshconfig.BindingName(opts.PodUID)} {
		a.holdings.fix(name)
	}
	return a, nil
}

// Run first puts in force what the state directory holds, so that the proxy may be ready at once; then it gets and renews
// the certificate and follows the operator's stream, until the context ends.
func (a *Agent) Run(ctx context.Context) error {
	a.load()
	var wg sync.WaitGroup
	wg.Go(func() { a.identity.run(ctx) })
	wg.Go(func() { a.follow(ctx) })
	wg.Go(func() { a.keep(ctx) })
	wg.Wait()
	return nil
}

// Identity returns the pod's certificate and the roots that it judges others by.
func (a *Agent) Identity() *Identity { return a.identity }

// Want subscribes to sections that the table uses.
func (a *Agent) Want(names ...meshconfig.Name) {
	for _, name := range a.holdings.want(names) {
		a.opts.Log.Info("too many subscriptions, a section is not asked for", "section", name, "limit", maxSubscriptions)
	}
}

// Unwant gives up sections that the table has dropped.
func (a *Agent) Unwant(names ...meshconfig.Name) { a.holdings.unwant(names) }

// Ready returns nil when the proxy can carry traffic: it has a valid certificate, and mesh, binding and inbound are in
// force. It does not depend on the operator's being there. An error says what is missing, and why, in a few words.
func (a *Agent) Ready() error {
	a.turn.Lock()
	bound := a.bound
	a.turn.Unlock()
	if err := a.identity.check(a.opts.Clock()); err != nil {
		return fmt.Errorf("no valid certificate: %w", err)
	}
	var missing string
	switch {
	case !a.holdings.live(meshconfig.MeshName):
		missing = "no mesh section"
	case bound == "":
		missing = "no binding with its inbound section"
	default:
		return nil
	}
	if err := a.status.last(); err != nil {
		return fmt.Errorf("%s: %w", missing, err)
	}
	return errors.New(missing)
}

// keep writes floors, removes the envelopes of what was given up and tells the operator what the proxy sees, until the
// context ends.
func (a *Agent) keep(ctx context.Context) {
	const ticks = 30 // between writing all floors
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for n := 1; ; n++ {
		select {
		case <-ctx.Done():
			a.tidy(true)
			return
		case <-tick.C:
			a.tidy(n%ticks == 0)
			a.tellHealth()
		}
	}
}

// tidy removes the envelopes of what was given up, after writing their floors. It writes floors too when all is true:
// those of what is held are in the envelopes.
func (a *Agent) tidy(all bool) {
	a.turn.Lock()
	defer a.turn.Unlock()
	dropped := a.holdings.takeDropped()
	for _, name := range dropped {
		a.floors.Drop(string(name))
	}
	if len(dropped) > 0 || all && a.unsaved {
		if err := a.store.putFloors(a.floors); err != nil {
			a.opts.Log.Error(err, "the floors of config were not kept")
			return
		}
		a.unsaved = false
	}
	for _, name := range dropped {
		if err := a.store.removeEnvelope(name); err != nil {
			a.opts.Log.Error(err, "config that was given up was not removed", "section", name)
		}
	}
}
