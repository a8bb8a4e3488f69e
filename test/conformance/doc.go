// SPDX-License-Identifier: Apache-2.0

// Package conformance runs the test suites of others, and tests of wire formats of our own, against a pair of proxies that
// are real processes, started by `heddle sandbox`: `make conformance`. Every suite gets one attempt, and any deviation
// from its full count fails.
//
// The tools are pinned in tools/conformance, but for slowhttptest, which is a Debian package. Without it its suite is
// printed as unmeasured; with -require, as CI has it, that fails.
package conformance
