// SPDX-License-Identifier: Apache-2.0

// Package simulation compares what becomes of requests, by each balancing policy with and without its defences, while
// endpoints fail: real pickers and real ejection, endpoints that are queues, and the virtual time of testing/synctest.
// docs/resilience.md has the figures. It is tests alone. One goroutine does all, so there is nothing for the race detector to
// see, and it would take ten times as long.
package simulation
