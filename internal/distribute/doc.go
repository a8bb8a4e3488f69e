// SPDX-License-Identifier: Apache-2.0

// Package distribute brings signed config to the proxies. It knows sections by name and digest, not what is in them, and
// nothing of Kubernetes.
//
// Every replica of the operator runs a Node: a Hub with the newest envelope of each section, and a server of streams that
// wake when a section changes under a name that they subscribe to. On the leader a Publisher fills the hub: it encodes,
// signs and stores what changed. On the other replicas a relay fills it from the leader, with what their own proxies ask
// for; a relay holds no key.
//
// Nothing is queued for a proxy. A stream has a set of sections that changed, no larger than what it subscribes to, and
// sends the newest version of each; a slow one skips versions. What a proxy says it holds, by serial and digest, is not
// sent again.
//
// A Tracker knows which proxy acked what, and so answers how far a change has come. It also keeps what proxies see of the
// services that they call, for status.
package distribute
