// SPDX-License-Identifier: Apache-2.0

package observe

// Defence is something that a proxy does to keep callers from endpoints that are not well, or services from too much.
type Defence uint8

// The defences. But for the last they are counts that grow.
const (
	Ejections       Defence = iota // of endpoints; Kind is why
	CappedEjections                // that the cap on the ejected share forbade
	Trials                         // requests that decided whether an endpoint stays ejected; Kind is how: "passed" or "failed"
	Checks                         // of endpoints; Kind is "passed", "failed", or "skipped" because there are too many
	BreakerRefusals                // of a circuit breaker; Kind is the bound, as its field is called
	ExhaustedBudget                // repetitions that were not made for want of budget
	EndpointsOut                   // ready ones that get no requests at this time; Kind is why: "ejected" or "down", by checks
	Defences                       // how many there are
)

// Tally is how often a defence has acted for one service.
type Tally struct {
	Of      Defence
	Service string // name.namespace; empty: not a Service of the mesh
	Kind    string // from a set that is closed, or empty
	N       uint64
}
