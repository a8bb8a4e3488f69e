// SPDX-License-Identifier: Apache-2.0

//go:build race

package sandbox

// buildFlags build the binaries as the test is.
var buildFlags = []string{"-race"}
