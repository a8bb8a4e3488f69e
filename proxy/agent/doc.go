// SPDX-License-Identifier: Apache-2.0

// Package agent is the proxy's side of the control plane: it gets the pod's certificate and its signed config.
//
// Config comes over one stream. Each envelope is verified (signature, mesh, audience, that it was asked for, that it is
// not older than what was accepted before), decoded, validated and applied; then it is acked, and kept in the state
// directory. Whatever is wrong with one is nacked, counted and logged, and what was in force stays in force.
//
// The state directory is a volume in memory that only the proxy's container mounts. It outlives the container, not the
// pod: a proxy that restarts while the operator is away is back with what it had.
//
// The private key is made here and never leaves the pod.
package agent
