// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"fmt"
	"maps"
	"slices"
	"strings"

	"sigs.k8s.io/yaml"
)

const (
	generated      = "# Written by `make bundle` from config/: do not edit.\n"
	scorecardImage = "quay.io/operator-framework/scorecard-test:v1.42.0"
)

// annotations tell OLM and scorecard what is where; metadata/annotations.yaml and the labels of the image both carry them.
var annotations = map[string]string{
	"operators.operatorframework.io.bundle.mediatype.v1":       "registry+v1",
	"operators.operatorframework.io.bundle.manifests.v1":       "manifests/",
	"operators.operatorframework.io.bundle.metadata.v1":        "metadata/",
	"operators.operatorframework.io.bundle.package.v1":         packageName,
	"operators.operatorframework.io.bundle.channels.v1":        channel,
	"operators.operatorframework.io.bundle.channel.default.v1": channel,
	"operators.operatorframework.io.test.mediatype.v1":         "scorecard+v1",
	"operators.operatorframework.io.test.config.v1":            "tests/scorecard/",
}

// files returns all files of the bundle.
func files(csv object, c *contents) (map[string][]byte, error) {
	written := map[string]any{
		"manifests/" + packageName + ".clusterserviceversion.yaml": csv,
		"metadata/annotations.yaml":                                map[string]any{"annotations": annotations},
		"tests/scorecard/config.yaml":                              scorecard(),
	}
	for _, o := range slices.Concat(c.crds, c.manifests) {
		name := "manifests/" + fileName(o)
		if _, ok := written[name]; ok {
			return nil, fmt.Errorf("%s: two objects would be %s", o.id(), name)
		}
		written[name] = o
	}
	out := map[string][]byte{"bundle.Dockerfile": dockerfile()}
	for name, content := range written {
		b, err := yaml.Marshal(content)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
		out[name] = append([]byte(generated), b...)
	}
	return out, nil
}

// fileName names files as operator-sdk does: mesh.heddle.io_trafficsplits.yaml, NAME_GROUP_VERSION_KIND.yaml.
func fileName(o object) string {
	if o.kind() == "CustomResourceDefinition" {
		return at[string](o, "spec", "group") + "_" + at[string](o, "spec", "names", "plural") + ".yaml"
	}
	group, version := o.group()
	parts := []string{o.name(), group, version, strings.ToLower(o.kind())}
	return strings.Join(slices.DeleteFunc(parts, func(s string) bool { return s == "" }), "_") + ".yaml"
}

// dockerfile is the image of the bundle, built in the folder bundle/.
func dockerfile() []byte {
	var b bytes.Buffer
	b.WriteString("# SPDX-License-Identifier: Apache-2.0\n" + generated)
	b.WriteString("# docker build -f bundle/bundle.Dockerfile bundle\n\nFROM scratch\n\n")
	for _, key := range slices.Sorted(maps.Keys(annotations)) {
		fmt.Fprintf(&b, "LABEL %s=%s\n", key, annotations[key])
	}
	b.WriteString("\nCOPY manifests /manifests/\nCOPY metadata /metadata/\nCOPY tests/scorecard /tests/scorecard/\n")
	return b.Bytes()
}

// scorecard configures `operator-sdk scorecard bundle`: its own tests of bundles.
func scorecard() map[string]any {
	var tests []any
	for _, t := range [][2]string{
		{"basic", "basic-check-spec"},
		{"olm", "olm-bundle-validation"},
		{"olm", "olm-crds-have-validation"},
		{"olm", "olm-crds-have-resources"},
		{"olm", "olm-spec-descriptors"},
		{"olm", "olm-status-descriptors"},
	} {
		tests = append(tests, map[string]any{
			"image":      scorecardImage,
			"entrypoint": []any{"scorecard-test", t[1]},
			"labels":     map[string]any{"suite": t[0], "test": t[1] + "-test"},
		})
	}
	return map[string]any{
		"apiVersion": "scorecard.operatorframework.io/v1alpha3",
		"kind":       "Configuration",
		"metadata":   map[string]any{"name": "config"},
		"stages":     []any{map[string]any{"parallel": true, "tests": tests}},
	}
}
