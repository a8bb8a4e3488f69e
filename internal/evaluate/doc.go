// SPDX-License-Identifier: Apache-2.0

// Package evaluate decides about requests and connections: which route and split they take, which backend gets them, who
// may make them and which limits count them, what filters and faults do to them, and whether and when they are sent again.
// The proxy, the operator's validation, the CLI and the tests call the same code.
//
// Everything is built once from a section, may then be used by many goroutines at once, and decides without allocation,
// I/O, clock or randomness: the time and random bits are arguments. What makes new text allocates that text alone: a
// rewritten path, a Location, a Set-Cookie. Paths are compared as NormalizePath returns them, and must be forwarded like that too.
package evaluate
