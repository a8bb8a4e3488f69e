// SPDX-License-Identifier: Apache-2.0

// Package collect reads what compile needs from the cluster into a snapshot. It is the only package that lists from the
// cache, and it decides nothing but one thing: when the objects of one of our kinds are gone because their CRD is, and
// not because someone deleted them, what was known stays in the snapshot (see Collector.Take).
//
// It needs get on the three CustomResourceDefinitions of mesh.heddle.io beside get, list and watch on what it lists.
package collect
