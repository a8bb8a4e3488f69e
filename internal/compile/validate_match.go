// SPDX-License-Identifier: Apache-2.0

package compile

import (
	"fmt"
	"regexp"
	"strings"
	"unicode/utf8"

	"k8s.io/apimachinery/pkg/util/sets"
	"k8s.io/apimachinery/pkg/util/validation"
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

func validateMatches(path *field.Path, matches []v1alpha1.RequestMatch, atLeast int) field.ErrorList {
	errs := validateCount(path, len(matches), atLeast, maxMatches)
	for i := range matches {
		m := &matches[i]
		at := path.Index(i)
		if m.Path == nil && m.Method == "" && m.GRPC == nil && len(m.Headers)+len(m.Query)+len(m.Hosts)+len(m.Callers) == 0 {
			errs = append(errs, field.Required(at, "set at least one of path, method, headers, query, hosts, grpc and callers; for every request use path {type: Prefix, value: /}"))
		}
		if m.GRPC != nil && (m.Path != nil || m.Method != "") {
			errs = append(errs, field.Forbidden(at.Child("grpc"), "cannot be set beside path or method: a gRPC method is a path, and always POST"))
		}
		if m.Path != nil {
			errs = append(errs, validatePath(at.Child("path"), m.Path)...)
		}
		if m.Method != "" && (len(m.Method) > 32 || !methodPattern.MatchString(m.Method)) {
			errs = append(errs, field.Invalid(at.Child("method"), truncate(m.Method), "must be a method in capitals, such as GET"))
		}
		errs = append(errs, validateHeaders(at.Child("headers"), m.Headers)...)
		errs = append(errs, validateQuery(at.Child("query"), m.Query)...)
		errs = append(errs, validateCount(at.Child("hosts"), len(m.Hosts), 0, maxHosts)...)
		for j, host := range m.Hosts {
			errs = append(errs, validateHost(at.Child("hosts").Index(j), strings.TrimPrefix(host, "*."))...)
		}
		errs = append(errs, validateGRPC(at.Child("grpc"), m.GRPC)...)
		errs = append(errs, validateCallers(at.Child("callers"), m.Callers)...)
	}
	return errs
}

var (
	grpcServicePattern = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]*(\.[A-Za-z_][A-Za-z0-9_]*)*$`)
	grpcMethodPattern  = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]*$`)
)

func validateGRPC(path *field.Path, m *v1alpha1.GRPCMatch) field.ErrorList {
	if m == nil {
		return nil
	}
	var errs field.ErrorList
	if len(m.Service) > 512 || !grpcServicePattern.MatchString(m.Service) {
		errs = append(errs, field.Invalid(path.Child("service"), truncate(m.Service), "must be a service with its package, such as shop.Payments"))
	}
	if m.Method != "" && (len(m.Method) > 256 || !grpcMethodPattern.MatchString(m.Method)) {
		errs = append(errs, field.Invalid(path.Child("method"), truncate(m.Method), "must be the name of a method, such as Charge"))
	}
	return errs
}

func validateHost(path *field.Path, host string) field.ErrorList {
	if len(validation.IsDNS1123Subdomain(host)) > 0 {
		return field.ErrorList{field.Invalid(path, truncate(host), "must be a DNS name in lower case, without port")}
	}
	return nil
}

func validateCallers(path *field.Path, callers []v1alpha1.CallerMatch) field.ErrorList {
	errs := validateCount(path, len(callers), 0, maxMatches)
	for i := range callers {
		c := &callers[i]
		at := path.Index(i)
		if len(c.ServiceAccounts)+len(c.Namespaces) == 0 {
			errs = append(errs, field.Required(at, "set at least one of serviceAccounts and namespaces"))
		}
		errs = append(errs, validateCount(at.Child("serviceAccounts"), len(c.ServiceAccounts), 0, maxEntries)...)
		for j, name := range c.ServiceAccounts {
			if serviceAccountID(name, "own", "mesh").Validate() != nil {
				errs = append(errs, field.Invalid(at.Child("serviceAccounts").Index(j), truncate(name), `must be "name" or "namespace/name"`))
			}
		}
		errs = append(errs, validateCount(at.Child("namespaces"), len(c.Namespaces), 0, maxEntries)...)
		for j, name := range c.Namespaces {
			errs = append(errs, validateLabel(at.Child("namespaces").Index(j), name)...)
		}
	}
	return errs
}

func validateQuery(path *field.Path, query []v1alpha1.QueryMatch) field.ErrorList {
	errs := validateCount(path, len(query), 0, maxHeaders)
	names := sets.New[string]()
	for i := range query {
		q := &query[i]
		at := path.Index(i)
		if q.Name == "" || len(q.Name) > 128 {
			errs = append(errs, field.Invalid(at.Child("name"), truncate(q.Name), "must be the name of a parameter, 1 to 128 bytes"))
		}
		if names.Has(q.Name) {
			errs = append(errs, field.Duplicate(at.Child("name"), q.Name))
		}
		names.Insert(q.Name)
		if _, ok := headerTypes[q.Type]; !ok {
			errs = append(errs, field.NotSupported(at.Child("type"), q.Type, []v1alpha1.HeaderMatchType{
				v1alpha1.HeaderMatchExact, v1alpha1.HeaderMatchRegex,
			}))
			continue
		}
		isRegex := q.Type == v1alpha1.HeaderMatchRegex
		if q.Value == "" && !isRegex {
			continue
		}
		if bad := validateLength(at.Child("value"), q.Value, isRegex); bad != nil {
			errs = append(errs, bad...)
		} else if err := evaluate.CheckHeader(compileQuery(q)); err != nil && q.Name != "" {
			errs = append(errs, field.Invalid(at.Child("value"), truncate(q.Value), err.Error()))
		}
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
	compiled := compilePath(p)
	if err := evaluate.CheckPath(compiled); err != nil {
		return field.ErrorList{field.Invalid(path.Child("value"), truncate(p.Value), err.Error())}
	}
	if n := len(compiled.GetValue()); n > meshconfig.MaxValue {
		return field.ErrorList{field.Invalid(path.Child("value"), truncate(p.Value), fmt.Sprintf(
			"must be at most %d bytes once escaped as in requests: this is %d, for each byte of what is not ASCII turns into %%XX", meshconfig.MaxValue, n))}
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
