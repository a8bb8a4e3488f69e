// SPDX-License-Identifier: Apache-2.0

package compile

import (
	"regexp"
	"strings"
	"unicode/utf8"

	"k8s.io/apimachinery/pkg/util/sets"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"github.com/heddle-mesh/heddle/api/v1alpha1"
	"github.com/heddle-mesh/heddle/internal/evaluate"
	"github.com/heddle-mesh/heddle/internal/meshconfig"
)

var (
	methodPattern = regexp.MustCompile(`^[A-Z][A-Z0-9_-]*$`)
	headerPattern = regexp.MustCompile("^[A-Za-z0-9!#$%&'*+.^_`|~-]+$")
	valuePattern  = regexp.MustCompile(`^[^\x00-\x08\x0a-\x1f\x7f]*$`)
)

// compileMatches turns matches that are valid into those of a section. Paths go in as requests are compared.
func compileMatches(matches []v1alpha1.RequestMatch) []*meshconfig.Match {
	out := make([]*meshconfig.Match, 0, len(matches))
	for i := range matches {
		m := &matches[i]
		compiled := &meshconfig.Match{Method: m.Method}
		if m.Path != nil {
			compiled.Path = compilePath(m.Path)
		}
		for j := range m.Headers {
			compiled.Headers = append(compiled.Headers, compileHeader(&m.Headers[j]))
		}
		out = append(out, compiled)
	}
	return out
}

func compilePath(p *v1alpha1.PathMatch) *meshconfig.PathMatch {
	compiled := &meshconfig.PathMatch{Type: pathTypes[p.Type], Value: p.Value}
	if normal, ok := evaluate.NormalizePath(p.Value); ok && p.Type != v1alpha1.PathMatchRegex {
		compiled.Value = normal
	}
	return compiled
}

func compileHeader(h *v1alpha1.HeaderMatch) *meshconfig.HeaderMatch {
	return &meshconfig.HeaderMatch{Type: headerTypes[h.Type], Name: strings.ToLower(h.Name), Value: h.Value}
}

// The types of matches; the empty one is the schema's default.
var (
	pathTypes = map[v1alpha1.PathMatchType]meshconfig.PathMatch_Type{
		"":                       meshconfig.PathMatch_TYPE_PREFIX,
		v1alpha1.PathMatchExact:  meshconfig.PathMatch_TYPE_EXACT,
		v1alpha1.PathMatchPrefix: meshconfig.PathMatch_TYPE_PREFIX,
		v1alpha1.PathMatchRegex:  meshconfig.PathMatch_TYPE_REGEX,
	}
	headerTypes = map[v1alpha1.HeaderMatchType]meshconfig.HeaderMatch_Type{
		"":                        meshconfig.HeaderMatch_TYPE_EXACT,
		v1alpha1.HeaderMatchExact: meshconfig.HeaderMatch_TYPE_EXACT,
		v1alpha1.HeaderMatchRegex: meshconfig.HeaderMatch_TYPE_REGEX,
	}
)

func validateMatches(path *field.Path, matches []v1alpha1.RequestMatch, atLeast int) field.ErrorList {
	errs := validateCount(path, len(matches), atLeast, maxMatches)
	for i := range matches {
		m := &matches[i]
		at := path.Index(i)
		if m.Path == nil && m.Method == "" && len(m.Headers) == 0 {
			errs = append(errs, field.Required(at, "set at least one of path, method and headers; for every request use path {type: Prefix, value: /}"))
		}
		if m.Path != nil {
			errs = append(errs, validatePath(at.Child("path"), m.Path)...)
		}
		if m.Method != "" && (len(m.Method) > 32 || !methodPattern.MatchString(m.Method)) {
			errs = append(errs, field.Invalid(at.Child("method"), truncate(m.Method), "must be a method in capitals, such as GET"))
		}
		errs = append(errs, validateHeaders(at.Child("headers"), m.Headers)...)
	}
	return errs
}

func validatePath(path *field.Path, p *v1alpha1.PathMatch) field.ErrorList {
	if _, ok := pathTypes[p.Type]; !ok {
		return field.ErrorList{field.NotSupported(path.Child("type"), p.Type, []v1alpha1.PathMatchType{
			v1alpha1.PathMatchExact, v1alpha1.PathMatchPrefix, v1alpha1.PathMatchRegex,
		})}
	}
	if errs := validateLength(path.Child("value"), p.Value, p.Type == v1alpha1.PathMatchRegex); errs != nil {
		return errs
	}
	// The code that the proxies run has the last word.
	if err := evaluate.CheckPath(compilePath(p)); err != nil {
		return field.ErrorList{field.Invalid(path.Child("value"), truncate(p.Value), err.Error())}
	}
	return nil
}

func validateHeaders(path *field.Path, headers []v1alpha1.HeaderMatch) field.ErrorList {
	errs := validateCount(path, len(headers), 0, maxHeaders)
	names := sets.New[string]()
	for i := range headers {
		h := &headers[i]
		at := path.Index(i)
		name := strings.ToLower(h.Name)
		if len(h.Name) > 128 || !headerPattern.MatchString(h.Name) {
			errs = append(errs, field.Invalid(at.Child("name"), truncate(h.Name), "must be the name of a header: letters, digits and !#$%&'*+.^_`|~-, at most 128"))
		}
		if names.Has(name) {
			errs = append(errs, field.Duplicate(at.Child("name"), h.Name))
		}
		names.Insert(name)
		if _, ok := headerTypes[h.Type]; !ok {
			errs = append(errs, field.NotSupported(at.Child("type"), h.Type, []v1alpha1.HeaderMatchType{
				v1alpha1.HeaderMatchExact, v1alpha1.HeaderMatchRegex,
			}))
			continue
		}
		if bad := validateLength(at.Child("value"), h.Value, h.Type == v1alpha1.HeaderMatchRegex); bad != nil {
			errs = append(errs, bad...)
			continue
		}
		if !valuePattern.MatchString(h.Value) {
			errs = append(errs, field.Invalid(at.Child("value"), truncate(h.Value), "must not hold control characters"))
		}
		if err := evaluate.CheckHeader(compileHeader(h)); err != nil && h.Name != "" {
			errs = append(errs, field.Invalid(at.Child("value"), truncate(h.Value), err.Error()))
		}
	}
	return errs
}

func validateLength(path *field.Path, value string, isRegex bool) field.ErrorList {
	switch {
	case value == "":
		return field.ErrorList{field.Required(path, "must not be empty")}
	case !utf8.ValidString(value):
		return field.ErrorList{field.Invalid(path, "", "must be UTF-8")}
	case isRegex && len([]rune(value)) > maxRegex:
		return field.ErrorList{field.TooLong(path, "", maxRegex)}
	case len([]rune(value)) > maxValue:
		return field.ErrorList{field.TooLong(path, "", maxValue)}
	}
	return nil
}
