// SPDX-License-Identifier: Apache-2.0

package v1alpha1

// The schema's defaults, for objects that did not come from an API server: files
// that the CLI reads, and tests. OLM refuses an upgrade that changes a default in
// a CRD, so these never change within v1alpha1.
const (
	DefaultWeight          int32           = 1
	DefaultPathMatchType   PathMatchType   = PathMatchPrefix
	DefaultHeaderMatchType HeaderMatchType = HeaderMatchExact
)

// EffectiveWeight is the weight with its default.
func (b SplitBackend) EffectiveWeight() int32 { return orDefault(b.Weight, DefaultWeight) }

// EffectiveWeight is the weight with its default.
func (w SplitWeight) EffectiveWeight() int32 { return orDefault(w.Weight, DefaultWeight) }

// EffectiveType is the type with its default.
func (m PathMatch) EffectiveType() PathMatchType {
	if m.Type == "" {
		return DefaultPathMatchType
	}
	return m.Type
}

// EffectiveType is the type with its default.
func (m HeaderMatch) EffectiveType() HeaderMatchType {
	if m.Type == "" {
		return DefaultHeaderMatchType
	}
	return m.Type
}

func orDefault[T any](p *T, def T) T {
	if p == nil {
		return def
	}
	return *p
}
