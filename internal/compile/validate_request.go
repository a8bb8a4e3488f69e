// SPDX-License-Identifier: Apache-2.0

package compile

import (
	"regexp"
	"slices"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/util/sets"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"github.com/heddle-mesh/heddle/api/v1alpha1"
	"github.com/heddle-mesh/heddle/internal/evaluate"
)

// targetPattern is of paths with or without a query that can be asked for as they are.
var targetPattern = regexp.MustCompile(`^/[!-"$-~]*$`)

func validateRetry(path *field.Path, r *v1alpha1.Retry) field.ErrorList {
	if r == nil {
		return nil
	}
	errs := validateNumber(path.Child("attempts"), r.Attempts, 0, 10)
	errs = append(errs, validateCount(path.Child("conditions"), len(r.Conditions), 0, len(retryConditions))...)
	for i, c := range r.Conditions {
		if _, ok := retryConditions[c]; !ok {
			errs = append(errs, field.NotSupported(path.Child("conditions").Index(i), c, []v1alpha1.RetryCondition{
				v1alpha1.RetryConnectFailure, v1alpha1.RetryRefusedStream, v1alpha1.RetryReset, v1alpha1.RetryTimeout,
				v1alpha1.RetryGatewayError, v1alpha1.RetryServerError, v1alpha1.RetryThrottled,
			}))
		}
	}
	errs = append(errs, validateCodes(path.Child("codes"), r.Codes, 400, 599)...)
	errs = append(errs, validateCodes(path.Child("grpcCodes"), r.GRPCCodes, 1, 16)...)
	if r.Backoff != nil {
		errs = append(errs, validateRange(path.Child("backoff", "base"), r.Backoff.Base, 0, time.Minute)...)
		errs = append(errs, validateRange(path.Child("backoff", "max"), r.Backoff.Max, 0, time.Minute)...)
		if out := newRetry(r); len(errs) == 0 && out.GetBackoffMax() < out.GetBackoffBase() {
			errs = append(errs, field.Invalid(path.Child("backoff", "max"), string(*r.Backoff.Max), "must be at least base"))
		}
	}
	if _, ok := idempotencies[r.Idempotent]; !ok {
		errs = append(errs, field.NotSupported(path.Child("idempotent"), r.Idempotent, []v1alpha1.Idempotency{
			v1alpha1.IdempotencyAuto, v1alpha1.IdempotencyAlways, v1alpha1.IdempotencyNever,
		}))
	}
	return errs
}

func validateFilters(path *field.Path, r *v1alpha1.ProfileRoute) field.ErrorList {
	f := r.Filters
	if f == nil {
		return nil
	}
	errs := validateHeaderFilter(path.Child("requestHeaders"), f.RequestHeaders)
	errs = append(errs, validateHeaderFilter(path.Child("responseHeaders"), f.ResponseHeaders)...)
	if f.Redirect != nil && (f.RequestHeaders != nil || f.Rewrite != nil || f.Mirror != nil) {
		errs = append(errs, field.Forbidden(path.Child("redirect"), "cannot be set beside requestHeaders, rewrite or mirror: a redirected request goes nowhere"))
	}
	if f.Rewrite != nil {
		at := path.Child("rewrite")
		if f.Rewrite.Host == "" && f.Rewrite.Path == nil {
			errs = append(errs, field.Required(at, "set at least one of host and path"))
		}
		errs = append(errs, validateAuthority(at.Child("host"), f.Rewrite.Host)...)
		errs = append(errs, validatePathRewrite(at.Child("path"), f.Rewrite.Path, r.Matches)...)
	}
	errs = append(errs, validateRedirect(path.Child("redirect"), f.Redirect, r.Matches)...)
	if f.Mirror != nil {
		errs = append(errs, validateServicePort(path.Child("mirror", "service"), &f.Mirror.Service)...)
		errs = append(errs, validateNumber(path.Child("mirror", "percent"), f.Mirror.Percent, 1, 100)...)
	}
	return errs
}

func validateAuthority(path *field.Path, authority string) field.ErrorList {
	if authority == "" {
		return nil
	}
	host, _, _ := strings.Cut(authority, ":")
	if errs := validateHost(path, host); errs != nil {
		return errs
	}
	if err := evaluate.CheckAuthority(authority); err != nil {
		return field.ErrorList{field.Invalid(path, truncate(authority), err.Error())}
	}
	return nil
}

func validateRedirect(path *field.Path, r *v1alpha1.Redirect, matches []v1alpha1.RequestMatch) field.ErrorList {
	if r == nil {
		return nil
	}
	var errs field.ErrorList
	if r.Scheme == "" && r.Host == "" && r.Port == nil && r.Path == nil {
		errs = append(errs, field.Required(path, "set at least one of scheme, host, port and path"))
	}
	if schemes := []string{"http", "https"}; r.Scheme != "" && !slices.Contains(schemes, r.Scheme) {
		errs = append(errs, field.NotSupported(path.Child("scheme"), r.Scheme, schemes))
	}
	if r.Host != "" {
		errs = append(errs, validateHost(path.Child("host"), r.Host)...)
	}
	errs = append(errs, validateNumber(path.Child("port"), r.Port, 1, 65535)...)
	if !slices.Contains([]int32{0, 301, 302, 303, 307, 308}, r.Status) {
		errs = append(errs, field.Invalid(path.Child("status"), r.Status, "must be 301, 302, 303, 307 or 308"))
	}
	return append(errs, validatePathRewrite(path.Child("path"), r.Path, matches)...)
}

// validatePathRewrite wants a prefix to be replaced only where each match has one.
func validatePathRewrite(path *field.Path, r *v1alpha1.PathRewrite, matches []v1alpha1.RequestMatch) field.ErrorList {
	if r == nil {
		return nil
	}
	var errs field.ErrorList
	if _, ok := evaluate.NormalizePath(r.Value); !ok {
		errs = append(errs, field.Invalid(path.Child("value"), truncate(r.Value), `must be a path: start it with "/", and escape spaces, control characters, "\", "?" and "#" as %XX`))
	}
	switch r.Type {
	case v1alpha1.PathRewriteFull:
	case v1alpha1.PathRewritePrefix:
		hasPrefix := func(m v1alpha1.RequestMatch) bool {
			return m.Path != nil && m.Path.EffectiveType() == v1alpha1.PathMatchPrefix
		}
		if len(matches) == 0 || slices.ContainsFunc(matches, func(m v1alpha1.RequestMatch) bool { return !hasPrefix(m) }) {
			errs = append(errs, field.Invalid(path.Child("type"), r.Type, "needs a path of type Prefix in each match of the route, since that is what it replaces"))
		}
	default:
		errs = append(errs, field.NotSupported(path.Child("type"), r.Type, []v1alpha1.PathRewriteType{v1alpha1.PathRewriteFull, v1alpha1.PathRewritePrefix}))
	}
	return errs
}

func validateHeaderFilter(path *field.Path, f *v1alpha1.HeaderFilter) field.ErrorList {
	if f == nil {
		return nil
	}
	if len(f.Set)+len(f.Add)+len(f.Remove) == 0 {
		return field.ErrorList{field.Required(path, "set at least one of set, add and remove")}
	}
	errs := validateHeaderValues(path.Child("set"), f.Set, maxEntries)
	errs = append(errs, validateHeaderValues(path.Child("add"), f.Add, maxEntries)...)
	errs = append(errs, validateCount(path.Child("remove"), len(f.Remove), 0, maxEntries)...)
	for i, name := range f.Remove {
		errs = append(errs, validateHeaderName(path.Child("remove").Index(i), name)...)
	}
	return errs
}

func validateHeaderName(path *field.Path, name string) field.ErrorList {
	if len(name) > 128 || !headerPattern.MatchString(name) {
		return field.ErrorList{field.Invalid(path, truncate(name), "must be the name of a header: letters, digits and !#$%&'*+.^_`|~-, at most 128")}
	}
	if err := evaluate.CheckField(name, ""); err != nil {
		return field.ErrorList{field.Forbidden(path, err.Error())}
	}
	return nil
}

func validateHeaderValues(path *field.Path, headers []v1alpha1.Header, most int) field.ErrorList {
	errs := validateCount(path, len(headers), 0, most)
	for i, h := range headers {
		bad := validateHeaderName(path.Index(i).Child("name"), h.Name)
		errs = append(errs, bad...)
		if len(h.Value) > maxValue || !valuePattern.MatchString(h.Value) {
			errs = append(errs, field.Invalid(path.Index(i).Child("value"), truncate(h.Value), "must be at most 1024 characters without control characters"))
		} else if err := evaluate.CheckField(h.Name, h.Value); err != nil && bad == nil {
			errs = append(errs, field.Invalid(path.Index(i).Child("value"), truncate(h.Value), err.Error()))
		}
	}
	return errs
}

// validateCheckPath wants a path, maybe with a query.
func validateCheckPath(path *field.Path, value string) field.ErrorList {
	if errs := validateLength(path, value, false); errs != nil {
		return errs
	}
	before, _, _ := strings.Cut(value, "?")
	if _, ok := evaluate.NormalizePath(before); !ok || !targetPattern.MatchString(value) {
		return field.ErrorList{field.Invalid(path, truncate(value), `must be a path, such as "/healthz", that can be sent as it is: escape what is not ASCII as %XX`)}
	}
	return nil
}

func validateFaults(path *field.Path, faults []v1alpha1.Fault) field.ErrorList {
	errs := validateCount(path, len(faults), 0, maxEntries)
	names := sets.New[string]()
	for i := range faults {
		f := &faults[i]
		at := path.Index(i)
		errs = append(errs, validateUniqueLabel(at.Child("name"), f.Name, names)...)
		errs = append(errs, validateMatches(at.Child("matches"), f.Matches, 0)...)
		errs = append(errs, validateNumber(at.Child("percent"), &f.Percent, 1, 100)...)
		errs = append(errs, validateRange(at.Child("delay"), f.Delay, 0, 5*time.Minute)...)
		if f.Delay == nil && f.Abort == nil {
			errs = append(errs, field.Required(at, "set at least one of delay and abort"))
		}
		if f.ExpiresAt.IsZero() {
			errs = append(errs, field.Required(at.Child("expiresAt"), "say when the fault ends: it is forgotten otherwise"))
		}
		errs = append(errs, validateAbort(at.Child("abort"), f.Abort)...)
	}
	return errs
}

func validateAbort(path *field.Path, a *v1alpha1.Abort) field.ErrorList {
	if a == nil {
		return nil
	}
	set := 0
	for _, is := range []bool{a.HTTPStatus != nil, a.GRPCStatus != nil, a.Reset != nil} {
		if is {
			set++
		}
	}
	if set != 1 || a.Reset != nil && !*a.Reset {
		return field.ErrorList{field.Required(path, "set exactly one of httpStatus, grpcStatus and reset: true")}
	}
	errs := validateNumber(path.Child("httpStatus"), a.HTTPStatus, 400, 599)
	return append(errs, validateNumber(path.Child("grpcStatus"), a.GRPCStatus, 1, 16)...)
}
