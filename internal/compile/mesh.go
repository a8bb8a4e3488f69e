// SPDX-License-Identifier: Apache-2.0

package compile

import (
	"bytes"
	"cmp"
	"net/netip"
	"slices"

	"github.com/heddle-mesh/heddle/internal/meshconfig"
)

// compileMesh makes the mesh section.
func (c *compilation) compileMesh() {
	now := &meshconfig.Mesh{TrustDomain: c.options.trustDomain, Networks: c.networks()}
	now.WorkloadRoots = slices.Clone(c.snapshot.Options.WorkloadRoots)
	slices.SortFunc(now.WorkloadRoots, bytes.Compare)
	now.WorkloadRoots = slices.CompactFunc(now.WorkloadRoots, bytes.Equal)
	before, ok := c.old.units[UnitMesh][""].value.(*meshconfig.Mesh)
	if now = same(before, now); !ok || now != before {
		c.new.computed[UnitMesh]++
	}
	c.new.units[UnitMesh][""] = unit{value: now}
	c.result.Sections[meshconfig.MeshName] = now
}

// networks are the CIDRs of the mesh: those of the options, of the nodes' pods and of Services, without those that are
// within others.
func (c *compilation) networks() []string {
	texts := slices.Clone(c.snapshot.Options.Networks)
	for _, n := range c.snapshot.Nodes {
		texts = append(append(texts, n.Spec.PodCIDR), n.Spec.PodCIDRs...)
	}
	for _, s := range c.snapshot.ServiceCIDRs {
		texts = append(texts, s.Spec.CIDRs...)
	}
	var prefixes []netip.Prefix
	for _, text := range texts {
		if p, err := netip.ParsePrefix(text); err == nil {
			prefixes = append(prefixes, p.Masked())
		}
	}
	prefixes = aggregate(prefixes)
	for bits := 127; len(prefixes) > maxNetworks; bits-- {
		// Too many to send: cover more, since what is not covered may be dialled in plaintext.
		for i, p := range prefixes {
			if p.Bits() > bits {
				prefixes[i] = netip.PrefixFrom(p.Addr(), bits).Masked()
			}
		}
		prefixes = aggregate(prefixes)
	}
	out := make([]string, len(prefixes))
	for i, p := range prefixes {
		out[i] = p.String()
	}
	slices.Sort(out)
	return out
}

// maxNetworks is how many networks a mesh section may list.
const maxNetworks = 1024

// aggregate leaves out networks that are within others, and joins the halves of a network.
func aggregate(prefixes []netip.Prefix) []netip.Prefix {
	slices.SortFunc(prefixes, func(a, b netip.Prefix) int {
		return cmp.Or(a.Addr().Compare(b.Addr()), cmp.Compare(a.Bits(), b.Bits()))
	})
	var out []netip.Prefix
	for _, p := range prefixes {
		if len(out) > 0 && out[len(out)-1].Overlaps(p) {
			continue // sorted by address, so the one before is the wider
		}
		out = append(out, p)
		for len(out) >= 2 {
			low, high := out[len(out)-2], out[len(out)-1]
			if high.Bits() == 0 || low.Bits() != high.Bits() {
				break
			}
			whole := netip.PrefixFrom(low.Addr(), low.Bits()-1).Masked()
			if whole.Addr() != low.Addr() || !whole.Contains(high.Addr()) {
				break
			}
			out = append(out[:len(out)-2], whole)
		}
	}
	return out
}
