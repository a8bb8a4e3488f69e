// SPDX-License-Identifier: Apache-2.0

// Package e2e tests Heddle as a user meets it: on a real cluster, with real cert-manager, by kubectl. Its tests carry
// the build tag e2e and run inside the network of the local cluster: see run.sh.
package e2e
