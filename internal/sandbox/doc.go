// SPDX-License-Identifier: Apache-2.0

// Package sandbox runs the mesh on one machine, without a cluster: `heddle sandbox`.
//
// What shapes traffic is what ships: collect, compile, the publisher and its streams, the identity service with its
// roots, and the proxy's own binary. Three things are stood in for. The API server is a set of objects that a directory of
// YAML fills (cluster), cert-manager a CA in memory (authority), and the redirect of the pods' network the listeners and
// paths that the proxies are told (plan).
package sandbox
