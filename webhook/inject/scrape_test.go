// SPDX-License-Identifier: Apache-2.0

package inject

import (
	"testing"

	"github.com/heddle-mesh/heddle/internal/probe"
)

func TestScrapesAreTurnedToTheProxy(t *testing.T) {
	for name, tc := range map[string]struct {
		pod        string
		port, path string // annotations afterwards
		merge      string
		warned     bool
	}{
		"port and path": {
			`metadata: {annotations: {prometheus.io/scrape: "true", prometheus.io/port: "9100", prometheus.io/path: "/stats?x=1&y=2"}}`,
			"15020", "/metrics", `{"port":9100,"path":"/stats?x=1&y=2"}`, false,
		},
		"the only declared port": {
			"metadata: {annotations: {prometheus.io/scrape: \"true\"}}\nspec: {containers: [{name: app, ports: [{containerPort: 9100}, {containerPort: 53, protocol: UDP}]}]}",
			"15020", "/metrics", `{"port":9100,"path":""}`, false,
		},
		"not wanted":   {`metadata: {annotations: {prometheus.io/scrape: "false", prometheus.io/port: "9100"}}`, "9100", "", "", false},
		"not said":     {`metadata: {annotations: {prometheus.io/port: "9100"}}`, "9100", "", "", false},
		"over TLS":     {`metadata: {annotations: {prometheus.io/scrape: "true", prometheus.io/port: "9100", prometheus.io/scheme: https}}`, "9100", "", "", true},
		"which port?":  {`metadata: {annotations: {prometheus.io/scrape: "true"}}`, "", "", "", true},
		"a port name":  {`metadata: {annotations: {prometheus.io/scrape: "true", prometheus.io/port: web}}`, "web", "", "", true},
		"no such port": {`metadata: {annotations: {prometheus.io/scrape: "true", prometheus.io/port: "70000"}}`, "70000", "", "", true},
	} {
		t.Run(name, func(t *testing.T) {
			pod := podOf(t, tc.pod)
			out := injected(t, pod)
			if out.Annotations[scrapePort] != tc.port || out.Annotations[scrapePath] != tc.path {
				t.Errorf("annotations: port %q path %q", out.Annotations[scrapePort], out.Annotations[scrapePath])
			}
			if got := env(container(t, out, ContainerProxy), probe.EnvScrape); got != tc.merge {
				t.Errorf("merged: %s: want %s", got, tc.merge)
			}
			_, warnings, err := testConfig(t).Inject(pod, nil)
			if err != nil || (len(warnings) > 0) != tc.warned {
				t.Errorf("warnings: %q and %v", warnings, err)
			}
		})
	}
}
