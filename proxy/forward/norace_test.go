// SPDX-License-Identifier: Apache-2.0

//go:build !race

package forward_test

const raceEnabled = false
