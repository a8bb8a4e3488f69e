// SPDX-License-Identifier: Apache-2.0

package main

import (
	_ "embed"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
)

const (
	packageName    = "heddle"
	channel        = "candidate-v0"
	repository     = "https://github.com/heddle-mesh/heddle"
	minKubeVersion = "1.29.0" // native sidecars are on from here
)

var (
	//go:embed description.md
	description string
	//go:embed icon.svg
	icon []byte
)

// clusterServiceVersion returns the object that tells OLM how to install this version.
func clusterServiceVersion(o options, c *contents, samples []object) (object, error) {
	almExamples, err := examples(c.crds, samples)
	if err != nil {
		return nil, err
	}
	images := relatedImages(c.deployments)
	if len(images) == 0 {
		return nil, errors.New("no container of a Deployment has an image")
	}
	annotations := map[string]any{
		"alm-examples":   almExamples,
		"capabilities":   "Basic Install",
		"categories":     "Networking, Security",
		"containerImage": images[0]["image"],
		"description":    "A service mesh: mutual TLS, traffic splits and policies by a slim proxy that takes signed config only.",
		"operatorframework.io/suggested-namespace": c.namespace,
		"repository": repository,
		"support":    "Heddle maintainers",
	}
	if o.createdAt != "" {
		annotations["createdAt"] = o.createdAt
	}
	return object{
		"apiVersion": "operators.coreos.com/v1alpha1",
		"kind":       "ClusterServiceVersion",
		"metadata": map[string]any{
			"name":        packageName + ".v" + o.version,
			"annotations": annotations,
			"labels": map[string]any{
				"operatorframework.io/arch.amd64": "supported",
				"operatorframework.io/os.linux":   "supported",
			},
		},
		"spec": spec(o.version, c, images),
	}, nil
}

func spec(version string, c *contents, images []map[string]any) map[string]any {
	deployments := make([]any, 0, len(c.deployments))
	for _, d := range c.deployments {
		deployments = append(deployments, map[string]any{
			"name":  d.name(),
			"label": at[map[string]any](d, "metadata", "labels"),
			"spec":  d["spec"],
		})
	}
	owned := make([]any, 0, len(c.crds))
	for _, crd := range c.crds {
		owned = append(owned, describe(crd))
	}
	modes := make([]any, 0, 4)
	for _, mode := range []string{"OwnNamespace", "SingleNamespace", "MultiNamespace", "AllNamespaces"} {
		modes = append(modes, map[string]any{"type": mode, "supported": mode == "AllNamespaces"})
	}
	return map[string]any{
		"displayName":               "Heddle",
		"description":               description,
		"version":                   version,
		"maturity":                  "alpha",
		"minKubeVersion":            minKubeVersion,
		"icon":                      []any{map[string]any{"base64data": base64.StdEncoding.EncodeToString(icon), "mediatype": "image/svg+xml"}},
		"keywords":                  []any{"service mesh", "mtls", "canary", "traffic splitting", "authorization", "cert-manager", "spiffe"},
		"provider":                  map[string]any{"name": "Heddle", "url": repository},
		"maintainers":               []any{map[string]any{"name": "Heddle maintainers", "email": "maintainers@heddle.io"}},
		"links":                     links("Source", "", "Install with OLM", "/blob/main/docs/olm.md", "Reference", "/tree/main/docs/spec/v1alpha1"),
		"customresourcedefinitions": map[string]any{"owned": owned},
		"install": map[string]any{
			"strategy": "deployment",
			"spec":     map[string]any{"clusterPermissions": c.permissions, "deployments": deployments},
		},
		"installModes":  modes,
		"relatedImages": images,
	}
}

// links takes pairs of a name and a path below the repository.
func links(pairs ...string) []any {
	var list []any
	for pair := range slices.Chunk(pairs, 2) {
		list = append(list, map[string]any{"name": pair[0], "url": repository + pair[1]})
	}
	return list
}

// examples are the samples as JSON. Every kind must have one.
func examples(crds, samples []object) (string, error) {
	for _, crd := range crds {
		kind := at[string](crd, "spec", "names", "kind")
		if !slices.ContainsFunc(samples, func(o object) bool { return o.kind() == kind }) {
			return "", fmt.Errorf("config/samples has no %s", kind)
		}
	}
	b, err := json.MarshalIndent(samples, "", "  ")
	return string(b), err
}

// relatedImages are all images that an install pulls: of the containers, first, then those that the operator gives to
// others, which it reads from variables *_IMAGE. Mirrors of registries go by this list.
func relatedImages(deployments []object) []map[string]any {
	var own, given []map[string]any
	for _, d := range deployments {
		for _, container := range list(d, "spec", "template", "spec", "containers") {
			own = append(own, map[string]any{"name": d.name(), "image": at[string](container, "image")})
			for _, v := range list(container, "env") {
				if name, ok := strings.CutSuffix(at[string](v, "name"), "_IMAGE"); ok {
					name = strings.ReplaceAll(strings.ToLower(name), "_", "-")
					given = append(given, map[string]any{"name": name, "image": at[string](v, "value")})
				}
			}
		}
	}
	return append(own, given...)
}
