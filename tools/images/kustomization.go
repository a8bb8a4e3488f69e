// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path"
	"strings"

	"go.yaml.in/yaml/v3"
)

// setImage writes where an image was pushed into the `images` of a kustomization, and keeps all else, comments too. The
// entry is the one whose name is the last part of the reference.
func setImage(file, pushed string) error {
	content, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	var doc yaml.Node
	if err := yaml.Unmarshal(content, &doc); err != nil {
		return fmt.Errorf("%s: %w", file, err)
	}
	newName, digest, ok := strings.Cut(pushed, "@")
	if !ok {
		return fmt.Errorf("%q: want name@digest", pushed)
	}
	entry, err := imageEntry(&doc, path.Base(newName))
	if err != nil {
		return fmt.Errorf("%s: %w", file, err)
	}
	set(entry, "newName", newName)
	set(entry, "digest", digest)
	unset(entry, "newTag")
	var out bytes.Buffer
	encoder := yaml.NewEncoder(&out)
	encoder.SetIndent(2)
	if err := encoder.Encode(&doc); err != nil {
		return err
	}
	return os.WriteFile(file, out.Bytes(), 0o644)
}

func imageEntry(doc *yaml.Node, name string) (*yaml.Node, error) {
	if len(doc.Content) == 0 {
		return nil, errors.New("empty")
	}
	images := get(doc.Content[0], "images")
	if images != nil {
		for _, entry := range images.Content {
			if n := get(entry, "name"); n != nil && n.Value == name {
				return entry, nil
			}
		}
	}
	return nil, fmt.Errorf("no entry of images is named %q", name)
}

func get(mapping *yaml.Node, key string) *yaml.Node {
	for i := 0; i+1 < len(mapping.Content); i += 2 {
		if mapping.Content[i].Value == key {
			return mapping.Content[i+1]
		}
	}
	return nil
}

func set(mapping *yaml.Node, key, value string) {
	if node := get(mapping, key); node != nil {
		node.SetString(value)
		return
	}
	var k, v yaml.Node
	k.SetString(key)
	v.SetString(value)
	mapping.Content = append(mapping.Content, &k, &v)
}

func unset(mapping *yaml.Node, key string) {
	for i := 0; i+1 < len(mapping.Content); i += 2 {
		if mapping.Content[i].Value == key {
			mapping.Content = append(mapping.Content[:i], mapping.Content[i+2:]...)
			return
		}
	}
}
