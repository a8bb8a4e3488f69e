// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"strings"

	"sigs.k8s.io/kustomize/api/krusty"
	"sigs.k8s.io/kustomize/kyaml/filesys"
)

// object is a Kubernetes object as kustomize renders it.
type object map[string]any

// render returns the objects of a kustomization, in the order of `kubectl kustomize`.
func render(dir string) ([]object, error) {
	resources, err := krusty.MakeKustomizer(krusty.MakeDefaultOptions()).Run(filesys.MakeFsOnDisk(), dir)
	if err != nil {
		return nil, err
	}
	objects := make([]object, 0, resources.Size())
	for _, r := range resources.Resources() {
		m, err := r.Map()
		if err != nil {
			return nil, fmt.Errorf("%s %s: %w", r.GetKind(), r.GetName(), err)
		}
		objects = append(objects, m)
	}
	return objects, nil
}

// at returns the value at a path of field names, or the zero value when there is none or of another type.
func at[T any](o map[string]any, path ...string) T {
	var value any = o
	for _, field := range path {
		m, _ := value.(map[string]any)
		value = m[field]
	}
	t, _ := value.(T)
	return t
}

// list returns the objects of the list at a path.
func list(o map[string]any, path ...string) []map[string]any {
	var items []map[string]any
	for _, item := range at[[]any](o, path...) {
		if m, ok := item.(map[string]any); ok {
			items = append(items, m)
		}
	}
	return items
}

func (o object) kind() string { return at[string](o, "kind") }
func (o object) name() string { return at[string](o, "metadata", "name") }
func (o object) id() string   { return o.kind() + " " + o.name() }

// group returns the API group and version of the object; the group is empty for Kubernetes' core.
func (o object) group() (group, version string) {
	group, version, found := strings.Cut(at[string](o, "apiVersion"), "/")
	if !found {
		return "", group
	}
	return group, version
}
