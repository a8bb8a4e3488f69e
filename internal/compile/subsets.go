// SPDX-License-Identifier: Apache-2.0

package compile

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"maps"
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
			c.reportSubset(s, i, fmt.Sprintf("the share of backend %q is refused", b.Name))
		}
	}
}

func (c *compilation) reportSubset(s *split, i int, until string) {
	c.report.unresolved(s.origin, v1alpha1.ReasonBackendNotFound, "spec.backends[%d].selector: no ready pod of Service %q has the labels %s: correct them, or start such pods; until then %s",
		i, s.spec.Service.Name, fmt.Sprint(labels.Set(s.spec.Backends[i].Selector)), until)
}

// feed has a changed split wait, with its last good spec in force, while a subset that newly gets requests of it has no
// pod: it would refuse what is answered now. What the last good spec sends to is no reason to wait: its requests are
// refused already, and the change may be what takes them away from there. A new split has nothing to wait with, and one
// that was in force once is as it is: its pods may be gone for good reason.
func (c *compilation) feed(x *choice[v1alpha1.TrafficSplitSpec]) {
	if x.good == x.live || x.chosen != x.live {
		return
	}
	for i, b := range x.live.spec.Backends {
		if b.Service != nil || !getsRequests(x.live.spec, b.Name) || sendsTo(x.good, x.live, b.Selector) || c.hasPod(x.live, b.Selector) {
			continue
		}
		if x.starved = true; x.good != nil {
			c.reportSubset(x.live, i, fmt.Sprintf("the last good spec, of generation %d, stays in force", x.good.lastGood))
		}
	}
	if x.starved && x.good != nil {
		x.chosen = x.good
	}
}

// getsRequests says whether a split sends anything to a backend.
func getsRequests(s *v1alpha1.TrafficSplitSpec, backend string) bool {
	if s.Active != "" {
		return s.Active == backend
	}
	for _, b := range s.Backends {
		if b.Name == backend && weightOf(b.Weight) > 0 {
			return true
		}
	}
	return slices.ContainsFunc(s.Rules, func(r v1alpha1.SplitRule) bool {
		return slices.ContainsFunc(r.Weights, func(w v1alpha1.SplitWeight) bool { return w.Backend == backend && weightOf(w.Weight) > 0 })
	})
}

// sendsTo says whether the last good spec of a split sends anything to pods of the same Service as the live one, by the
// same selector; good is nil if there is none.
func sendsTo(good, live *split, selector map[string]string) bool {
	return good != nil && good.spec.Service.Name == live.spec.Service.Name && slices.ContainsFunc(good.spec.Backends, func(b v1alpha1.SplitBackend) bool {
		return b.Service == nil && maps.Equal(b.Selector, selector) && getsRequests(good.spec, b.Name)
	})
}

// hasPod says whether an endpoint of the root of a split has these labels.
func (c *compilation) hasPod(s *split, selector map[string]string) bool {
	root := c.serviceByKey[s.service(s.spec.Service.Name)]
	if root == nil {
		return false
	}
	for _, x := range ofFamily(root, c.slices[root.key]) {
		for i := range x.endpoints {
			e := &x.endpoints[i]
			if p, _ := c.podOf(e); p != nil && usable(root, e, p) && containsAll(p.labels, selector) {
				return true
			}
		}
	}
	return false
}
