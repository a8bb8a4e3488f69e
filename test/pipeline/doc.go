// SPDX-License-Identifier: Apache-2.0

// Package pipeline tests the whole mesh in one process: Kubernetes objects go in, and a request comes out at an
// application, over real sockets, TLS and mutual TLS on loopback.
//
// All of what runs is what ships: compile, the publisher, nodes and relays of package distribute, agents with their state
// directories, tables, listeners and both directions of forward. The cluster stands in for three things: the API server
// is a map of objects, cert-manager a CA of the test, and the redirect and the pod network a table of addresses. The rest
// of the operator (controllers, webhooks, the identity service) has its tests beside it and in test/e2e.
//
// The leader compiles after a hold-off at random, so that several changes may come as one or apart and a dependence on
// their order shows. A test that fails prints the seed.
package pipeline
