// SPDX-License-Identifier: Apache-2.0

package inject

import (
	"fmt"
	"strconv"

	corev1 "k8s.io/api/core/v1"

	"github.com/heddle-mesh/heddle/internal/probe"
)

// The annotations by which many a Prometheus finds what to scrape.
const (
	scrapeWanted = "prometheus.io/scrape"
	scrapePort   = "prometheus.io/port"
	scrapePath   = "prometheus.io/path"
	scrapeScheme = "prometheus.io/scheme"
	metricsPath  = "/metrics"
)

// redirectScrape turns the pod's scrape annotations to the proxy, which merges the application's metrics into its own,
// and returns the value of probe.EnvScrape. before is that value from an earlier pass.
func redirectScrape(pod *corev1.Pod, before string) (value, warning string, err error) {
	a := pod.Annotations
	if a[scrapeWanted] != "true" {
		return "", "", nil
	}
	if a[scrapePort] == strconv.Itoa(PortAdmin) {
		return before, "", nil
	}
	if scheme := a[scrapeScheme]; scheme != "" && scheme != "http" {
		return "", fmt.Sprintf("annotation %s=%q: the proxy merges metrics over http only, so they stay where they are and "+
			"a scraper outside the mesh needs a port-level exemption from mTLS", scrapeScheme, scheme), nil
	}
	port, ok := applicationPort(pod)
	if !ok {
		return "", fmt.Sprintf("annotation %s: without a number in %s the proxy can't tell where the application's metrics are, "+
			"so it does not merge them", scrapeWanted, scrapePort), nil
	}
	value, err = probe.EncodeScrape(probe.Scrape{Port: port, Path: a[scrapePath]})
	if err != nil {
		return "", "", fmt.Errorf("annotation %s: %w", scrapePort, err)
	}
	a[scrapePort], a[scrapePath] = strconv.Itoa(PortAdmin), metricsPath
	return value, "", nil
}

// applicationPort is the annotated port, or the only one that the pod declares.
func applicationPort(pod *corev1.Pod) (uint16, bool) {
	if text, annotated := pod.Annotations[scrapePort]; annotated {
		number, err := strconv.ParseUint(text, 10, 16)
		return uint16(number), err == nil && number != 0
	}
	var found []int32
	for i := range pod.Spec.Containers {
		for _, p := range pod.Spec.Containers[i].Ports {
			if p.Protocol == corev1.ProtocolTCP || p.Protocol == "" {
				found = append(found, p.ContainerPort)
			}
		}
	}
	if len(found) != 1 {
		return 0, false
	}
	return uint16(found[0]), true //nolint:gosec // the API server has checked it
}
