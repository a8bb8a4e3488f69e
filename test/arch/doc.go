// SPDX-License-Identifier: Apache-2.0

// Package arch holds the shape of the repository: who may import whom over the full dependency graph, how large the
// proxy is, and how large a file and a package name may be. Its tests are the third of three fences; Go's internal/ and
// depguard, in .golangci.yml, come first because they answer at the line.
package arch
