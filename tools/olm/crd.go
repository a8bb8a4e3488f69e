// SPDX-License-Identifier: Apache-2.0

package main

import (
	"maps"
	"slices"
	"strings"
	"unicode"
)

// written are the names of fields that are not read as they are spelled.
var written = map[string]string{"mtls": "mTLS", "targetRef": "Target"}

// describe says what a CRD is for, in the words of its schema.
func describe(crd object) map[string]any {
	kind := at[string](crd, "spec", "names", "kind")
	d := map[string]any{
		"name":        crd.name(),
		"kind":        kind,
		"displayName": title(kind),
		// Whoever looks into an object of ours goes on to these.
		"resources": []any{
			map[string]any{"kind": "Pod", "name": "", "version": "v1"},
			map[string]any{"kind": "Service", "name": "", "version": "v1"},
		},
	}
	for _, version := range list(crd, "spec", "versions") {
		if at[bool](version, "storage") {
			schema := at[map[string]any](version, "schema", "openAPIV3Schema")
			d["version"] = at[string](version, "name")
			d["description"] = line(at[string](schema, "description"))
			d["specDescriptors"] = descriptors(schema, "spec")
			d["statusDescriptors"] = descriptors(schema, "status")
		}
	}
	return d
}

// descriptors describe the fields right below spec or status, sorted by name.
func descriptors(schema map[string]any, part string) []any {
	properties := at[map[string]any](schema, "properties", part, "properties")
	var fields []any
	for _, name := range slices.Sorted(maps.Keys(properties)) {
		field := map[string]any{
			"path":        name,
			"displayName": title(name),
			"description": line(at[string](properties, name, "description")),
		}
		if part == "status" && name == "conditions" {
			field["x-descriptors"] = []any{"urn:alm:descriptor:io.kubernetes.conditions"}
		}
		fields = append(fields, field)
	}
	return fields
}

// title makes words of a name: trafficSplit and TrafficSplit are Traffic Split.
func title(name string) string {
	if t, ok := written[name]; ok {
		return t
	}
	var b strings.Builder
	for i, r := range name {
		switch {
		case i == 0:
			r = unicode.ToUpper(r)
		case unicode.IsUpper(r):
			b.WriteByte(' ')
		}
		b.WriteRune(r)
	}
	return b.String()
}

// line is a wrapped text without its line breaks.
func line(text string) string { return strings.Join(strings.Fields(text), " ") }
