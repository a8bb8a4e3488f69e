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
	units    [unitCount]map[string]unit
	computed [unitCount]int
	pods     []podMemo // sorted as the pods are
	podByKey map[string]int
}

// Unit is a kind of work.
type Unit int

// The kinds of work, in the order in which one depends on another.
const (
	unitOptions    Unit = iota
	unitService         // facts of one Service
	unitSlice           // facts of one EndpointSlice
	unitPod             // facts of one pod
	unitObject          // validation of one object of ours
	unitIndex           // the Services of a namespace by selector
	unitPolicies        // those of one scope
	unitBinding         // what applies to one pod, and its binding section
	UnitMesh            // the mesh section
	UnitInbound         // one inbound section
	unitCluster         // how the endpoints of one service are called
	unitBareRoutes      // one routes section without its clusters
	UnitRoutes          // one routes section
	UnitEndpoints       // the endpoints sections of one service
	unitCount
)

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
	w := &work{old: old, new: &Memo{}}
	for u := range w.new.units {
		w.new.units[u] = make(map[string]unit, len(old.units[u]))
	}
	return w
}

// inputs starts a list of inputs. Only one is under construction at a time.
func (w *work) inputs(in ...any) []any { return append(w.scratch[:0], in...) }

// remember returns what compute made of equal inputs in the compilation before, or calls it. compute gets the value of
// the compilation before, or the zero one, so that it can return the same pointer when it makes the same of new inputs.
func remember[V any](w *work, u Unit, name string, inputs []any, compute func(before V) V) V {
	w.scratch = inputs[:0]
	before, ok := w.old.units[u][name]
	if ok && slices.Equal(before.inputs, inputs) {
		w.new.units[u][name] = before
		return before.value.(V) //nolint:forcetypeassert // the unit decides the type
	}
	kept := slices.Clone(inputs)
	var last V
	if ok {
		last = before.value.(V) //nolint:forcetypeassert // the unit decides the type
	}
	value := compute(last)
	w.new.units[u][name] = unit{kept, value}
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
