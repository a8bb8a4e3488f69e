// SPDX-License-Identifier: Apache-2.0

package compile

import (
	"slices"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

// Memo is what one compilation leaves for the next, so that only what changed is compiled again. It remembers units of
// work by name, with the inputs that each had. Inputs are compared by identity: facts about an object are the same
// pointer as long as the object's version says nothing new, and so is what was made of the same inputs. A unit that is
// not asked for is forgotten.
type Memo struct {
	units    map[unitKey]unit
	computed map[Unit]int
}

// Unit is a kind of work.
type Unit string

// The kinds of work, in the order in which one depends on another.
const (
	unitOptions   Unit = "options"
	unitFacts     Unit = "facts"     // of one object of Kubernetes
	unitObject    Unit = "object"    // validation of one object of ours
	unitIndex     Unit = "index"     // the Services of a namespace by selector
	unitPolicies  Unit = "policies"  // those of one scope
	unitBinding   Unit = "binding"   // what applies to one pod, and its binding section
	UnitInbound   Unit = "inbound"   // one inbound section
	UnitRoutes    Unit = "routes"    // one routes section
	UnitEndpoints Unit = "endpoints" // the endpoints sections of one service
	UnitMesh      Unit = "mesh"      // the mesh section
)

type unitKey struct {
	unit Unit
	name string
}

type unit struct {
	inputs []any
	value  any
}

// Computed says how many units of a kind the compilation that made this memo had to compute.
func (m *Memo) Computed(u Unit) int { return m.computed[u] }

// work is a compilation in progress: what it may reuse, and what it leaves.
type work struct {
	old, new *Memo
	scratch  []any
}

func newWork(old *Memo) *work {
	if old == nil {
		old = &Memo{}
	}
	return &work{old: old, new: &Memo{
		units:    make(map[unitKey]unit, len(old.units)+len(old.units)/8),
		computed: map[Unit]int{},
	}}
}

// inputs starts a list of inputs. Only one is under construction at a time.
func (w *work) inputs(in ...any) []any { return append(w.scratch[:0], in...) }

// remember returns what compute made of equal inputs in the compilation before, or calls it. compute gets the value of
// the compilation before, or the zero one, so that it can return the same pointer when it makes the same of new inputs.
func remember[V any](w *work, u Unit, name string, inputs []any, compute func(before V) V) V {
	key := unitKey{u, name}
	before, ok := w.old.units[key]
	if ok && slices.Equal(before.inputs, inputs) {
		w.scratch = inputs[:0]
		w.new.units[key] = before
		return before.value.(V) //nolint:forcetypeassert // the unit decides the type
	}
	kept := slices.Clone(inputs)
	w.scratch = inputs[:0]
	var last V
	if ok {
		last = before.value.(V) //nolint:forcetypeassert // the unit decides the type
	}
	value := compute(last)
	w.new.units[key] = unit{kept, value}
	w.new.computed[u]++
	return value
}

// version identifies what is known of an object: by UID and resource version, or by the pointer of an object that has
// none, as in tests.
type version struct {
	object   any
	uid      types.UID
	resource string
}

func versionOf(o metav1.Object) version {
	if o.GetUID() == "" || o.GetResourceVersion() == "" {
		return version{object: o}
	}
	return version{uid: o.GetUID(), resource: o.GetResourceVersion()}
}
