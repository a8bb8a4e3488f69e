// SPDX-License-Identifier: Apache-2.0

//go:build !race

package signedconfig_test

const raceDetector = false
