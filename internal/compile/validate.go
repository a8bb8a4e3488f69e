// SPDX-License-Identifier: Apache-2.0

package compile

import (
	"fmt"
	"strings"

	"k8s.io/apimachinery/pkg/util/sets"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"github.com/heddle-mesh/heddle/api/v1alpha1"
)

// The rules of the schema are checked here again, since the CRD of the cluster may be older than this operator, and so
// is what CEL cannot say. The webhook calls the same functions.

// Bounds of lists and values, as in the schema.
const (
	maxBackends = 16
	maxRules    = 16
	maxMatches  = 8
	maxHeaders  = 8
	maxHosts    = 8
	maxPorts    = 64
	maxRoutes   = 64
	maxWeight   = 1_000_000
	maxRegex    = 256
	maxValue    = 1024
)

var specPath = field.NewPath("spec")

// ValidateTrafficSplit says what is wrong with a split by itself.
func ValidateTrafficSplit(split *v1alpha1.TrafficSplit) field.ErrorList {
	return validateTrafficSplit(&split.Spec)
}

func validateTrafficSplit(spec *v1alpha1.TrafficSplitSpec) field.ErrorList {
	errs := validateServicePort(specPath.Child("service"), &spec.Service)
	path := specPath.Child("backends")
	errs = append(errs, validateCount(path, len(spec.Backends), 1, maxBackends)...)
	names, total := sets.New[string](), int64(0)
	for i := range spec.Backends {
		b := &spec.Backends[i]
		at := path.Index(i)
		errs = append(errs, validateUniqueLabel(at.Child("name"), b.Name, names)...)
		switch {
		case (b.Service == nil) == (len(b.Selector) == 0):
			errs = append(errs, field.Required(at, "set exactly one of service and selector: a Service takes this share, or those pods of spec.service that have the labels"))
		case b.Service != nil:
			errs = append(errs, validateServicePort(at.Child("service"), b.Service)...)
		default:
			errs = append(errs, validateLabels(at.Child("selector"), b.Selector)...)
		}
		errs = append(errs, validateWeight(at.Child("weight"), b.Weight)...)
		total += int64(weightOf(b.Weight))
	}
	if total <= 0 && len(spec.Backends) > 0 {
		errs = append(errs, field.Invalid(path, total, "one weight at least must be above 0"))
	}
	if spec.Active != "" && !names.Has(spec.Active) {
		errs = append(errs, field.NotFound(specPath.Child("active"), spec.Active))
	}
	errs = append(errs, validateStickiness(specPath.Child("stickiness"), spec.Stickiness)...)
	errs = append(errs, validateSplitRules(spec.Rules, names)...)
	if len(errs) > 0 {
		return errs
	}
	return splitLastWord(spec)
}

func validateSplitRules(rules []v1alpha1.SplitRule, backends sets.Set[string]) field.ErrorList {
	path := specPath.Child("rules")
	errs := validateCount(path, len(rules), 0, maxRules)
	names := sets.New[string]()
	for i := range rules {
		r := &rules[i]
		at := path.Index(i)
		errs = append(errs, validateUniqueLabel(at.Child("name"), r.Name, names)...)
		errs = append(errs, validateMatches(at.Child("matches"), r.Matches, 1)...)
		errs = append(errs, validateCount(at.Child("weights"), len(r.Weights), 1, maxBackends)...)
		named, total := sets.New[string](), int64(0)
		for j := range r.Weights {
			w := &r.Weights[j]
			weight := at.Child("weights").Index(j)
			switch {
			case !backends.Has(w.Backend):
				errs = append(errs, field.NotFound(weight.Child("backend"), w.Backend))
			case named.Has(w.Backend):
				errs = append(errs, field.Duplicate(weight.Child("backend"), w.Backend))
			}
			named.Insert(w.Backend)
			errs = append(errs, validateWeight(weight.Child("weight"), w.Weight)...)
			total += int64(weightOf(w.Weight))
		}
		if total <= 0 && len(r.Weights) > 0 {
			errs = append(errs, field.Invalid(at.Child("weights"), total, "one weight at least must be above 0"))
		}
	}
	return errs
}

// ValidateServiceProfile says what is wrong with a profile by itself.
func ValidateServiceProfile(profile *v1alpha1.ServiceProfile) field.ErrorList {
	return validateServiceProfile(&profile.Spec)
}

func validateServiceProfile(spec *v1alpha1.ServiceProfileSpec) field.ErrorList {
	errs := validateLabel(specPath.Child("service", "name"), spec.Service.Name)
	if len(spec.Ports)+len(spec.Routes)+len(spec.Faults) == 0 && spec.RetryBudget == nil && spec.ConnectTimeout == nil &&
		spec.LoadBalancing == nil && spec.OutlierDetection == nil && spec.CircuitBreaker == nil && spec.HealthCheck == nil {
		errs = append(errs, field.Required(specPath, "say something about the Service: set ports, routes, retryBudget, connectTimeout, loadBalancing, outlierDetection, circuitBreaker, healthCheck or faults"))
	}
	path := specPath.Child("ports")
	errs = append(errs, validateCount(path, len(spec.Ports), 0, maxPorts)...)
	ports := sets.New[int32]()
	for i, p := range spec.Ports {
		errs = append(errs, validatePort(path.Index(i).Child("port"), p.Port)...)
		if ports.Has(p.Port) {
			errs = append(errs, field.Duplicate(path.Index(i).Child("port"), p.Port))
		}
		ports.Insert(p.Port)
		if _, ok := protocols[p.Protocol]; !ok {
			errs = append(errs, field.NotSupported(path.Index(i).Child("protocol"), p.Protocol, protocolNames))
		}
	}
	path = specPath.Child("routes")
	errs = append(errs, validateCount(path, len(spec.Routes), 0, maxRoutes)...)
	names := sets.New[string]()
	for i := range spec.Routes {
		r := &spec.Routes[i]
		errs = append(errs, validateUniqueLabel(path.Index(i).Child("name"), r.Name, names)...)
		if len(r.Matches) == 0 && i < len(spec.Routes)-1 {
			errs = append(errs, field.Required(path.Index(i).Child("matches"), "only the last route may leave out matches, for it takes every request that is left"))
		}
		errs = append(errs, validateMatches(path.Index(i).Child("matches"), r.Matches, 0)...)
		if t := r.Timeouts; t != nil {
			at := path.Index(i).Child("timeouts")
			errs = append(errs, validateDuration(at.Child("request"), t.Request)...)
			errs = append(errs, validateDuration(at.Child("perTry"), t.PerTry)...)
			errs = append(errs, validateDuration(at.Child("idle"), t.Idle)...)
		}
		errs = append(errs, validateRetry(path.Index(i).Child("retry"), r.Retry)...)
		errs = append(errs, validateFilters(path.Index(i).Child("filters"), r)...)
	}
	errs = append(errs, validateClusterSettings(spec)...)
	errs = append(errs, validateFaults(specPath.Child("faults"), spec.Faults)...)
	if len(errs) > 0 {
		return errs
	}
	return profileLastWord(spec)
}

// validateDuration wants whole milliseconds, since that is what the proxies count.
func validateDuration(path *field.Path, d *v1alpha1.Duration) field.ErrorList {
	if d == nil {
		return nil
	}
	parsed, err := d.Parse()
	switch {
	case err != nil:
		return field.ErrorList{field.Invalid(path, string(*d), `must be a duration such as "15s", "1m30s" or "250ms"`)}
	case parsed.Milliseconds() < 1:
		return field.ErrorList{field.Invalid(path, string(*d), "must be 1ms or more: leave the field out for no limit")}
	}
	return nil
}

func validateServicePort(path *field.Path, ref *v1alpha1.ServicePortReference) field.ErrorList {
	errs := validateLabel(path.Child("name"), ref.Name)
	if ref.Port != nil {
		errs = append(errs, validatePort(path.Child("port"), *ref.Port)...)
	}
	return errs
}

func validatePort(path *field.Path, port int32) field.ErrorList {
	if port < 1 || port > 65535 {
		return field.ErrorList{field.Invalid(path, port, "must be 1 to 65535")}
	}
	return nil
}

func validateWeight(path *field.Path, weight *int32) field.ErrorList {
	if w := weightOf(weight); w < 0 || w > maxWeight {
		return field.ErrorList{field.Invalid(path, w, fmt.Sprintf("must be 0 to %d", maxWeight))}
	}
	return nil
}

// weightOf returns a weight, which is 1 if left out.
func weightOf(weight *int32) int32 {
	if weight == nil {
		return 1
	}
	return *weight
}

func validateCount(path *field.Path, n, low, high int) field.ErrorList {
	switch {
	case n < low:
		return field.ErrorList{field.Required(path, fmt.Sprintf("%d at least", low))}
	case n > high:
		return field.ErrorList{field.TooMany(path, n, high)}
	}
	return nil
}

func validateLabel(path *field.Path, s string) field.ErrorList {
	if len(validation.IsDNS1123Label(s)) > 0 {
		return field.ErrorList{field.Invalid(path, truncate(s), "must be a DNS label: at most 63 of a-z, 0-9 and -, a letter or digit at both ends")}
	}
	return nil
}

// validateUniqueLabel checks a name and adds it to those seen.
func validateUniqueLabel(path *field.Path, s string, seen sets.Set[string]) field.ErrorList {
	errs := validateLabel(path, s)
	if seen.Has(s) {
		errs = append(errs, field.Duplicate(path, s))
	}
	seen.Insert(s)
	return errs
}

// truncate keeps what a message quotes short.
func truncate(s string) string {
	const limit = 80
	if len(s) <= limit {
		return s
	}
	return strings.ToValidUTF8(s[:limit], "") + "..."
}
