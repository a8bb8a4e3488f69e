// SPDX-License-Identifier: Apache-2.0

// Package soak runs proxies for a long time, `make soak DURATION=30m`, under a mixed load of HTTP/1.1, HTTP/2, gRPC and
// TCP, while the config changes ten times a second and endpoints come and go every second. No request may fail, and in the
// end no proxy may hold more goroutines, descriptors or live memory than after the first two minutes, but for 5 %. In runs
// of less than ten minutes the first third of the time stands for those two minutes.
//
// Both times the load has stopped and its connections are closed, and every endpoint has left once, so that what is
// compared is what a proxy holds when it has nothing to do: 5 % of that is little.
package soak
