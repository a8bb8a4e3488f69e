// SPDX-License-Identifier: Apache-2.0

// Package health checks the endpoints of clusters from the proxy: by HTTP, of the version that the port is declared as, by gRPC
// (grpc.health.v1) or by connecting.
//
// A check goes the way of requests: over the endpoint's own connections, as mesh TLS with the proxy's identity where they
// are, so the endpoint's MeshPolicy must allow that identity on the path. An endpoint is taken out of balancing after so
// many failed checks one after another and comes back after so many good ones; nobody is out before it was checked. This is
// independent of ejection, which package outlier does by what it sees of requests.
//
// # What it costs
//
// Nobody is checked who is not in use: a cluster that had no request for three intervals rests, forgets what it has found
// (old news must keep nobody out) and has neither timer nor traffic until its next request. In an interval a proxy checks
//
//   - at most eight endpoints of a cluster, however many there are: those of which a check or a request has failed
//     lately, and of the others a subset that stays the same and that each proxy draws for itself, so that together they
//     cover all;
//   - no more endpoints than it has sent requests in the interval before, but for one, so that the checks that a service
//     gets grow with the requests that it gets and not with the proxies that might send some;
//   - and at most 50 a second of all clusters together, by a Pace. What is over that is left out and counted.
//
// Checks of a cluster are spread over the interval, and begin after a part of it by chance, so that proxies which were
// started together do not check together. A cluster has one goroutine, and one more for each check that is under way; an
// interval is at least a second and a timeout at most an interval, so those are at most sixteen.
package health
