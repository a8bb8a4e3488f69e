// SPDX-License-Identifier: Apache-2.0

// Package outlier finds the endpoints of a cluster that answer badly, as this proxy sees it, and bounds what the proxy has
// under way and how often it repeats itself: ejection, breaking and the retry budget.
//
// # Ejection
//
// Whoever ends a try tells Cluster.Report how it went. Four detectors, each of which can be off, eject an endpoint:
//
//   - so many failures one after another;
//   - so many connections one after another that could not be made, counted apart: the application has not failed, it is not there;
//   - a rate of success, over a window, below a share of the mean of its peers;
//   - a mean latency, over a window, above a multiple of the median of its peers.
//
// What is no fault of the endpoint counts nothing: a caller that went away, a load that was shed (429, RESOURCE_EXHAUSTED),
// a fault that this proxy injected.
//
// The first ejection takes the base time, each further one twice the one before, up to the maximum, less up to a quarter
// by chance so that proxies do not come back together. One level is forgiven for every maximum that the endpoint is
// in service again. When the time is over one request is its trial: success restores the endpoint, failure ejects it for
// longer. Who is ejected, who gets the trial, how many may be ejected and when there is panic is package balance's to
// say: it is the Gate.
//
// A success costs two loads, and three additions where a window is kept: no lock, no allocation. A window is judged by who
// reports first after its end, over the endpoints that had a request in it; so a cluster that nobody calls costs nothing.
// What is left of a window that ended long ago is dropped unjudged.
//
// # Defaults
//
// They are meshconfig.DefaultOutlier, for the proxy and for the schema of a ServiceProfile. Consecutive failures (5) and
// connect failures (3) are on: they need no peers and little traffic, and find an endpoint that fails a third of its requests
// within some hundreds of them. So is a rate of success below half of the peers', of at least 50 requests in ten seconds: it
// finds what fails half of its requests in turns with good ones, and no fault that all have. Latency is off: it depends on
// what is asked as much as on who answers, the pickers avoid slow endpoints already without taking their capacity away, and
// under overload an ejection makes the next endpoint slow.
//
// A tenth of the endpoints, and always one of several, may be ejected: a fault of one route, or an overload, looks like a
// fault of each endpoint, and must not take the capacity away that is needed then. More is for those who know that a part can
// carry the load; a third, to take a lost zone out.
//
// # Breaking
//
// A Breaker counts what a proxy has under way towards a service, and a Load what towards one endpoint of it, and refuses
// what is over a bound. An Adaptive lowers the bound of an endpoint as its latency grows. A RetryBudget bounds repetitions.
// All are of one proxy: with n proxies a service sees up to n times as much.
//
// Times are Unix nanoseconds and given by the caller, as is randomness.
package outlier
