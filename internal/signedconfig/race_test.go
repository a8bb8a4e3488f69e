// SPDX-License-Identifier: Apache-2.0

//go:build race

package signedconfig_test

// raceDetector makes a signature cost ten times as much, so the longest sweep is thinned out under it.
const raceDetector = true
