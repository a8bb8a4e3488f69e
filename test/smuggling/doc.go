// SPDX-License-Identifier: Apache-2.0

// Package smuggling holds the table of messages that two implementations of HTTP could read in two ways, each with its one
// outcome: it reaches the application as exactly one request, or it is refused and the connection closed. The outcomes
// are those of RFC 9110, 9112 and 9113 and of the rule that every ambiguity is refused; they are not what an engine
// happens to do.
//
// What is tested is a client-side and a server-side proxy, joined by mutual TLS, with raw sockets on both ends. The
// application is a strict origin of ours: it compares what it reads byte for byte, and records whatever is not a request
// as a breach. Behind each attack, in the same write, comes a canary: a request that must be answered as itself if the
// connection goes on, and must reach nobody if it does not; and then another on a connection of its own. Every attack is
// sent at once and in single bytes, to the client-side proxy and, as a mesh caller that lies, to the server-side one.
package smuggling
