// SPDX-License-Identifier: Apache-2.0

// Package sandbox tests `heddle sandbox` as people use it: both binaries as processes, over real sockets on loopback.
package sandbox
