// SPDX-License-Identifier: Apache-2.0

// Package upstream keeps what lives longer than a table: endpoints, their in-flight counts and their connections.
package upstream

// Registry owns every endpoint that some table names.
type Registry struct{}
