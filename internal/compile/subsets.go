// SPDX-License-Identifier: Apache-2.0

package compile

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/labels"

	"github.com/heddle-mesh/heddle/api/v1alpha1"
)

// subset is those pods of a service that have some labels.
type subset struct {
	name     string
	selector map[string]string
}

// subsetName names a subset by its selector, so that equal ones are one.
func subsetName(selector map[string]string) string {
	digest := sha256.Sum256([]byte(labels.Set(selector).String()))
	return hex.EncodeToString(digest[:6])
}

// subsetsOf are the subsets that splits name, each once, by name.
func subsetsOf(splits []*split) []subset {
	var out []subset
	for _, s := range splits {
		for _, b := range s.spec.Backends {
			if b.Service == nil {
				out = append(out, subset{subsetName(b.Selector), b.Selector})
			}
		}
	}
	slices.SortFunc(out, func(a, b subset) int { return cmp.Compare(a.name, b.name) })
	return slices.CompactFunc(out, func(a, b subset) bool { return a.name == b.name })
}

// namesOf stands for subsets among the inputs of a unit.
func namesOf(subsets []subset) string {
	names := make([]string, len(subsets))
	for i, s := range subsets {
		names[i] = s.name
	}
	return strings.Join(names, ",")
}

// subsetsWith are the names of those subsets that a pod is in; nil is in none.
func subsetsWith(subsets []subset, p *pod) []string {
	if p == nil {
		return nil
	}
	var out []string
	for _, s := range subsets {
		if containsAll(p.labels, s.selector) {
			out = append(out, s.name)
		}
	}
	return out
}

// resolveSubsets reports subsets that no endpoint is in.
func (c *compilation) resolveSubsets(s *split, withEndpoints map[string]bool) {
	for i, b := range s.spec.Backends {
		if b.Service == nil && !withEndpoints[subsetName(b.Selector)] {
			c.report.unresolved(s.origin, v1alpha1.ReasonBackendNotFound, "spec.backends[%d].selector: no ready pod of Service %q has the labels %s: correct them, or start such pods; until then the share of backend %q is refused",
				i, s.spec.Service.Name, fmt.Sprint(labels.Set(b.Selector)), b.Name)
		}
	}
}
