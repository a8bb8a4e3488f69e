// SPDX-License-Identifier: Apache-2.0

// Package evaluate decides about requests and connections: which route and split they take, which backend gets them and
// who may make them. The proxy, the operator's validation, the CLI and the tests call the same code.
//
// Everything is built once from a section, may then be used by many goroutines at once, and decides without allocation,
// I/O or clock. Paths are compared as NormalizePath returns them, and must be forwarded like that too.
package evaluate
