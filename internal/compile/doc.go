// SPDX-License-Identifier: Apache-2.0

// Package compile turns a snapshot of the cluster into sections of config and findings about the objects that shaped
// them. It is a function: no clock, no randomness, no I/O and no logger; the order of its input does not matter, it
// changes nothing of it, and it is total: a bad object has a finding and never stops the rest.
//
// What is in force when something is wrong:
//   - An object that its own validation refuses keeps its last good spec in force, if there is one for the same object.
//     Without one nothing of it is in force: what it was to shape stays as the other objects have it, in the end the
//     defaults (Strict mTLS, default action Allow).
//   - A reference to what does not exist leaves the rest of the object in force. A backend that does not exist keeps its
//     share, which is refused for want of endpoints. A change that has a TrafficSplit send to a subset without a pod waits
//     for one: the last good spec stays in force until then.
//   - Of two objects that want the same thing the one that had it last keeps it, by its last good spec; else the older has
//     it (of equal age the first by namespace and name). A TrafficSplit or ServiceProfile that was changed and does not get
//     what it wants keeps its last good spec in force. Of policies the older decides, section by section.
//
// CompileWith reuses what a Memo remembers of the compilation before; the result is the same as without.
package compile
