// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"cmp"
	"errors"
	"os"
	"slices"

	"github.com/heddle-mesh/heddle/internal/meshconfig"
	"github.com/heddle-mesh/heddle/internal/signedconfig"
)

// order is that in which kept sections are put in force: each after what it leans on.
var order = []meshconfig.Kind{
	meshconfig.KindMesh, meshconfig.KindInbound, meshconfig.KindBinding, meshconfig.KindHeartbeat,
	meshconfig.KindEndpoints, meshconfig.KindRoutes, meshconfig.KindAddress,
}

// load puts in force what the state directory holds. What is wrong with it is counted, logged and removed; the rest
// counts all the same.
func (a *Agent) load() {
	a.turn.Lock()
	defer a.turn.Unlock()
	a.identity.load()
	floors, err := a.store.floors(maxFloors)
	if err != nil {
		a.count(&signedconfig.Error{Reason: signedconfig.ReasonEncoding, Detail: err.Error()})
		a.opts.Log.Error(errors.Join(err, a.store.removeFloors()), "the floors of config could not be read; those of kept sections stand")
	} else {
		a.floors = floors
	}
	kept, err := a.store.envelopes()
	if err != nil {
		a.opts.Log.Error(err, "kept config could not be read")
	}
	slices.SortFunc(kept, func(x, y stored) int { return x.at.Compare(y.at) }) // the last used is given up last
	var arrivals []*arrival
	for _, k := range kept {
		r, err := a.reopen(k)
		if err != nil {
			a.discard(k.path, err)
			continue
		}
		arrivals = append(arrivals, r)
	}
	slices.SortStableFunc(arrivals, func(x, y *arrival) int {
		return cmp.Compare(slices.Index(order, x.name.Kind()), slices.Index(order, y.name.Kind()))
	})
	n := 0
	for _, r := range arrivals {
		if err := a.restore(r); err != nil {
			a.discard(a.store.envelopePath(r.name), err)
			continue
		}
		n++
	}
	a.giveUpStrays()
	if n > 0 {
		a.opts.Log.Info("kept config is in force", "sections", n)
	}
}

// reopen verifies a kept envelope: all but its dates, which were judged when it came.
func (a *Agent) reopen(k stored) (*arrival, error) {
	if k.data == nil {
		return nil, &signedconfig.Error{Reason: signedconfig.ReasonEncoding, Detail: "the file cannot be read"}
	}
	statement, err := a.verifier().Verify(k.data, signedconfig.FromStore)
	if err != nil {
		return nil, err
	}
	name, err := meshconfig.ParseName(statement.Section)
	if err != nil || a.store.envelopePath(name) != k.path {
		return nil, &signedconfig.Error{
			Reason: signedconfig.ReasonNotRequested, Detail: "the file is of section " + statement.Section,
		}
	}
	return &arrival{name: name, statement: statement, envelope: k.data, stored: true}, nil
}

// restore puts a kept section in force. A tombstone is done with once its floor is written.
func (a *Agent) restore(r *arrival) error {
	if r.name.Kind() == meshconfig.KindBinding && r.name != meshconfig.BindingName(a.opts.PodUID) {
		return &signedconfig.Error{Reason: signedconfig.ReasonNotRequested, Detail: "the binding is another pod's"}
	}
	if r.statement.Tombstone {
		if err := a.floors.Accept(string(r.name), r.statement.Serial, r.statement.Digest()); err != nil {
			return err
		}
		a.holdings.drop(r.name)
		return nil
	}
	a.holdings.prefetch(r.name)
	return a.admit(r)
}

// giveUpStrays gives up inbound sections that no binding names. Callers hold a.turn.
func (a *Agent) giveUpStrays() {
	for _, name := range a.holdings.subscriptions() {
		if name.Kind() == meshconfig.KindInbound && name != a.bound && name != a.awaited() {
			a.holdings.unwant([]meshconfig.Name{name})
		}
	}
}

func (a *Agent) discard(path string, err error) {
	reason := a.count(err)
	a.opts.Log.Info("refused kept config", "reason", reason, "file", path, "error", errors.Join(err, os.Remove(path)).Error())
}
