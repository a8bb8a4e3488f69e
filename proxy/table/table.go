// SPDX-License-Identifier: Apache-2.0

// Package table turns sections of signed config into immutable tables that the data path reads without locks.
package table

// Store holds the newest table of everything that the proxy subscribes to.
type Store struct{}
