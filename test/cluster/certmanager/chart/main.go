// SPDX-License-Identifier: Apache-2.0

// The chart program prints what `helm install cert-manager` would apply: the official chart, which cert-manager's
// module carries, rendered by Helm's own engine with images that are on the node.
//
// It is Helm 3's library because Helm 4's asks for newer golang.org/x modules than Kubernetes has, and with those none
// of the packages built for the cluster could be shared. It is in this module, not in the command's, so that the
// command stays small.
package main

import (
	"fmt"
	"log"
	"os"
	"path"
	"strings"

	"helm.sh/helm/v3/pkg/chart/loader"
	"helm.sh/helm/v3/pkg/chartutil"
	"helm.sh/helm/v3/pkg/engine"
	"helm.sh/helm/v3/pkg/releaseutil"
)

const namespace = "cert-manager"

func main() {
	log.SetFlags(0)
	log.SetPrefix("chart: ")
	if len(os.Args) != 3 {
		log.Fatal("usage: chart CHART-FOLDER VERSION")
	}
	manifests, err := render(os.Args[1], os.Args[2])
	if err != nil {
		log.Fatal(err)
	}
	fmt.Print(manifests)
}

// values are what a user would pass to helm install, and the images.
func values() map[string]any {
	image := func(name string) map[string]any {
		return map[string]any{"image": map[string]any{"repository": "localhost/cert-manager-" + name}}
	}
	webhook := image("webhook")
	webhook["readinessProbe"] = map[string]any{"initialDelaySeconds": 1, "periodSeconds": 1} // `up` waits for it
	return map[string]any{
		"image":           image("controller")["image"],
		"webhook":         webhook,
		"cainjector":      image("cainjector"),
		"acmesolver":      image("acmesolver"), // named by a flag, never pulled
		"crds":            map[string]any{"enabled": true},
		"global":          map[string]any{"leaderElection": map[string]any{"namespace": namespace}},
		"startupapicheck": map[string]any{"enabled": false}, // `up` asks the webhook itself
	}
}

func render(folder, version string) (string, error) {
	chart, err := loader.Load(folder)
	if err != nil {
		return "", fmt.Errorf("reading the chart %s: %w", folder, err)
	}
	// In the module both are v0.0.0; upstream's release tool writes them, and images and labels follow them.
	chart.Metadata.Version, chart.Metadata.AppVersion = version, version
	release := chartutil.ReleaseOptions{Name: "cert-manager", Namespace: namespace, Revision: 1, IsInstall: true}
	merged, err := chartutil.ToRenderValues(chart, values(), release, chartutil.DefaultCapabilities)
	if err != nil {
		return "", fmt.Errorf("merging values: %w", err)
	}
	files, err := engine.Render(chart, merged)
	if err != nil {
		return "", err
	}
	for name := range files {
		if path.Ext(name) != ".yaml" {
			delete(files, name)
		}
	}
	_, sorted, err := releaseutil.SortManifests(files, nil, releaseutil.InstallOrder)
	if err != nil {
		return "", fmt.Errorf("sorting manifests: %w", err)
	}
	var out strings.Builder
	fmt.Fprintf(&out, "apiVersion: v1\nkind: Namespace\nmetadata: {name: %s}\n", namespace)
	for _, m := range sorted {
		fmt.Fprintf(&out, "---\n%s\n", m.Content)
	}
	return out.String(), nil
}
