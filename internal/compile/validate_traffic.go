// SPDX-License-Identifier: Apache-2.0

package compile

import (
	"fmt"
	"maps"
	"slices"
	"time"

	"k8s.io/apimachinery/pkg/util/sets"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"github.com/heddle-mesh/heddle/api/v1alpha1"
	"github.com/heddle-mesh/heddle/internal/evaluate"
	"github.com/heddle-mesh/heddle/internal/meshconfig"
)

// millionth is the most of what is counted.
const millionth = 1_000_000

func validateNumber(path *field.Path, n *int32, low, high int32) field.ErrorList {
	if n != nil && (*n < low || *n > high) {
		return field.ErrorList{field.Invalid(path, *n, fmt.Sprintf("must be %d to %d", low, high))}
	}
	return nil
}

// validateRange wants a duration of these bounds. A high of 0 is no bound.
func validateRange(path *field.Path, d *v1alpha1.Duration, low, high time.Duration) field.ErrorList {
	errs := validateDuration(path, d)
	if d == nil || len(errs) > 0 {
		return errs
	}
	switch parsed, err := d.Parse(); {
	case err != nil:
	case parsed < low:
		return field.ErrorList{field.Invalid(path, string(*d), fmt.Sprintf("must be %v or more", low))}
	case high > 0 && parsed > high:
		return field.ErrorList{field.Invalid(path, string(*d), fmt.Sprintf("must be %v or less", high))}
	}
	return nil
}

func validateLabels(path *field.Path, selector map[string]string) field.ErrorList {
	var errs field.ErrorList
	if len(selector) > 8 {
		errs = append(errs, field.TooMany(path, len(selector), 8))
	}
	for _, key := range slices.Sorted(maps.Keys(selector)) {
		if value := selector[key]; len(validation.IsQualifiedName(key)) > 0 || len(validation.IsValidLabelValue(value)) > 0 {
			errs = append(errs, field.Invalid(path, truncate(key+"="+value), "must be labels of pods"))
		}
	}
	return errs
}

func validateStickiness(path *field.Path, s *v1alpha1.Stickiness) field.ErrorList {
	if s == nil {
		return nil
	}
	if _, ok := stickyKeys[s.By]; !ok {
		return field.ErrorList{field.NotSupported(path.Child("by"), s.By, []v1alpha1.StickyBy{
			v1alpha1.StickyByCookie, v1alpha1.StickyByHeader, v1alpha1.StickyBySourceIdentity, v1alpha1.StickyBySourceIP,
		})}
	}
	errs := validateDuration(path.Child("ttl"), s.TTL)
	if s.TTL != nil && s.By != v1alpha1.StickyByCookie {
		errs = append(errs, field.Forbidden(path.Child("ttl"), "is the age of a cookie: leave it out otherwise"))
	}
	named := s.By == v1alpha1.StickyByCookie || s.By == v1alpha1.StickyByHeader
	switch {
	case named && (len(s.Name) > 128 || !headerPattern.MatchString(s.Name)):
		errs = append(errs, field.Invalid(path.Child("name"), truncate(s.Name), "must be the name of the cookie or header, at most 128 characters"))
	case !named && s.Name != "":
		errs = append(errs, field.Forbidden(path.Child("name"), "is that of a cookie or header: leave it out otherwise"))
	}
	if len(errs) > 0 {
		return errs
	}
	return lastWord(path.Child("name"), s.Name, &meshconfig.ServicePort{Stickiness: newStickiness(s)})
}

// lastWord gives it to the code that the proxies run, and that keeps a section back which they would refuse. What was
// checked before names its field; this says of the rest what it is about.
func lastWord(path *field.Path, value string, port *meshconfig.ServicePort) field.ErrorList {
	const service = "any.own"
	port.Port, port.Protocol = 80, meshconfig.Protocol_PROTOCOL_HTTP
	port.Backends = []*meshconfig.WeightedBackend{{Name: "any", Service: service, Port: 80, Weight: 1}}
	_, err := evaluate.NewRouter(port)
	if err == nil {
		section := &meshconfig.Routes{Service: service, Ports: []*meshconfig.ServicePort{port}}
		err = meshconfig.Validate(meshconfig.RoutesName(service), section)
	}
	if err != nil {
		return field.ErrorList{field.Invalid(path, truncate(value), err.Error())}
	}
	return nil
}

// splitLastWord asks for it about the rules of a split that is valid otherwise.
func splitLastWord(spec *v1alpha1.TrafficSplitSpec) field.ErrorList {
	var errs field.ErrorList
	s := &split{spec: spec, origin: Origin{Namespace: "own"}}
	for i, rule := range splitRules(s, backendsOf(s, 80), &naming{"own", "mesh"}) {
		port := &meshconfig.ServicePort{Rules: []*meshconfig.SplitRule{rule}}
		errs = append(errs, lastWord(specPath.Child("rules").Index(i), rule.GetName(), port)...)
	}
	return errs
}

// profileLastWord asks for it about the routes and faults of a profile that is valid otherwise.
func profileLastWord(spec *v1alpha1.ServiceProfileSpec) field.ErrorList {
	var errs field.ErrorList
	p, names := &profile{spec: spec, origin: Origin{Namespace: "own", Name: "any"}}, &naming{"own", "mesh"}
	for i := range spec.Routes {
		port := &meshconfig.ServicePort{Routes: []*meshconfig.Route{newRoute(p, &spec.Routes[i], 80, names)}}
		errs = append(errs, lastWord(specPath.Child("routes").Index(i), spec.Routes[i].Name, port)...)
	}
	for i := range spec.Faults {
		port := &meshconfig.ServicePort{Faults: []*meshconfig.Fault{newFault(p, &spec.Faults[i], spec.Faults[i].Matches, names)}}
		errs = append(errs, lastWord(specPath.Child("faults").Index(i), spec.Faults[i].Name, port)...)
	}
	return errs
}

// validateClusterSettings checks what a profile says of how endpoints are called.
func validateClusterSettings(spec *v1alpha1.ServiceProfileSpec) field.ErrorList {
	errs := validateRange(specPath.Child("connectTimeout"), spec.ConnectTimeout, 0, time.Minute)
	if b := spec.RetryBudget; b != nil {
		errs = append(errs, validateNumber(specPath.Child("retryBudget", "percent"), b.Percent, 0, 100)...)
		errs = append(errs, validateNumber(specPath.Child("retryBudget", "minPerSecond"), b.MinPerSecond, 0, 1000)...)
	}
	errs = append(errs, validateLoadBalancing(specPath.Child("loadBalancing"), spec.LoadBalancing)...)
	errs = append(errs, validateOutlier(specPath.Child("outlierDetection"), spec.OutlierDetection)...)
	errs = append(errs, validateBreaker(specPath.Child("circuitBreaker"), spec.CircuitBreaker)...)
	return append(errs, validateHealthCheck(specPath.Child("healthCheck"), spec.HealthCheck)...)
}

// validateDefaults checks what a policy says of how endpoints are called.
func validateDefaults(spec *v1alpha1.MeshPolicySpec) field.ErrorList {
	var errs field.ErrorList
	if spec.LoadBalancing == nil && spec.OutlierDetection == nil {
		return nil
	}
	if spec.TargetRef.Kind == v1alpha1.TargetWorkload || spec.TargetRef.Port != nil {
		errs = append(errs, field.Forbidden(targetPath, "loadBalancing and outlierDetection are about all endpoints of Services: use kind Mesh, Namespace or Service, without a port"))
	}
	errs = append(errs, validateLoadBalancing(specPath.Child("loadBalancing"), spec.LoadBalancing)...)
	return append(errs, validateOutlier(specPath.Child("outlierDetection"), spec.OutlierDetection)...)
}

func validateLoadBalancing(path *field.Path, b *v1alpha1.LoadBalancing) field.ErrorList {
	if b == nil {
		return nil
	}
	errs := validateRange(path.Child("slowStart"), b.SlowStart, 0, 15*time.Minute)
	if _, ok := balancingPolicies[b.Policy]; !ok {
		errs = append(errs, field.NotSupported(path.Child("policy"), b.Policy, []v1alpha1.BalancingPolicy{
			v1alpha1.BalancingLeastRequest, v1alpha1.BalancingRoundRobin, v1alpha1.BalancingPeakEWMA, v1alpha1.BalancingRandom, v1alpha1.BalancingConsistentHash,
		}))
	}
	if (b.Policy == v1alpha1.BalancingConsistentHash) != (len(b.Hash) > 0) {
		errs = append(errs, field.Invalid(path.Child("hash"), len(b.Hash), "must be set for policy ConsistentHash, and for no other"))
	}
	if b.Locality != "" && b.Locality != "PreferZone" && b.Locality != "Ignore" {
		errs = append(errs, field.NotSupported(path.Child("locality"), b.Locality, []string{"PreferZone", "Ignore"}))
	}
	errs = append(errs, validateCount(path.Child("hash"), len(b.Hash), 0, 4)...)
	for i, k := range b.Hash {
		at := path.Child("hash").Index(i)
		by, ok := hashKeys[k.By]
		switch {
		case !ok:
			errs = append(errs, field.NotSupported(at.Child("by"), k.By, []string{"Header", "Cookie", "Query", "Source"}))
		case by == meshconfig.HashKey_BY_SOURCE_IP && k.Name != "":
			errs = append(errs, field.Forbidden(at.Child("name"), "must be left out for Source"))
		case by != meshconfig.HashKey_BY_SOURCE_IP && (len(k.Name) > 128 || !headerPattern.MatchString(k.Name)):
			errs = append(errs, field.Invalid(at.Child("name"), truncate(k.Name), "must be the name of the header, cookie or parameter, at most 128 characters"))
		}
	}
	return errs
}

func validateOutlier(path *field.Path, o *v1alpha1.OutlierDetection) field.ErrorList {
	if o == nil {
		return nil
	}
	var errs field.ErrorList
	for _, n := range []struct {
		name      string
		value     *int32
		low, high int32
	}{
		{"consecutiveFailures", o.ConsecutiveFailures, 0, 1000},
		{"consecutiveConnectFailures", o.ConsecutiveConnectFailures, 0, 1000},
		{"successRatePercent", o.SuccessRatePercent, 0, 99},
		{"latencyFactor", o.LatencyFactor, 0, 100},
		{"minRequests", o.MinRequests, 1, 10_000},
		{"maxEjectedPercent", o.MaxEjectedPercent, 0, 100},
		{"panicPercent", o.PanicPercent, 0, 100},
	} {
		errs = append(errs, validateNumber(path.Child(n.name), n.value, n.low, n.high)...)
	}
	if o.LatencyFactor != nil && *o.LatencyFactor == 1 {
		errs = append(errs, field.Invalid(path.Child("latencyFactor"), 1, "must be 0, for never, or 2 and more"))
	}
	errs = append(errs, validateRange(path.Child("window"), o.Window, time.Second, 10*time.Minute)...)
	errs = append(errs, validateRange(path.Child("baseEjection"), o.BaseEjection, 0, 24*time.Hour)...)
	errs = append(errs, validateRange(path.Child("maxEjection"), o.MaxEjection, 0, 24*time.Hour)...)
	if out := newOutlier(o); len(errs) == 0 && out.GetMaxEjection() < out.GetBaseEjection() {
		errs = append(errs, field.Invalid(path.Child("maxEjection"), string(*o.MaxEjection), "must be at least baseEjection"))
	}
	return errs
}

func validateBreaker(path *field.Path, b *v1alpha1.CircuitBreaker) field.ErrorList {
	if b == nil {
		return nil
	}
	errs := validateNumber(path.Child("maxConnections"), b.MaxConnections, 1, millionth)
	errs = append(errs, validateNumber(path.Child("maxPending"), b.MaxPending, 1, millionth)...)
	errs = append(errs, validateNumber(path.Child("maxRequests"), b.MaxRequests, 1, millionth)...)
	errs = append(errs, validateNumber(path.Child("maxRetries"), b.MaxRetries, 1, millionth)...)
	if e := b.Endpoint; e != nil {
		errs = append(errs, validateNumber(path.Child("endpoint", "maxConnections"), e.MaxConnections, 1, millionth)...)
		errs = append(errs, validateNumber(path.Child("endpoint", "maxRequests"), e.MaxRequests, 1, millionth)...)
	}
	return errs
}

func validateHealthCheck(path *field.Path, h *v1alpha1.HealthCheck) field.ErrorList {
	if h == nil {
		return nil
	}
	set := 0
	for _, is := range []bool{h.HTTP != nil, h.GRPC != nil, h.TCP != nil} {
		if is {
			set++
		}
	}
	if set != 1 {
		return field.ErrorList{field.Required(path, "set exactly one of http, grpc and tcp")}
	}
	errs := validateCount(path.Child("ports"), len(h.Ports), 0, maxPorts)
	for i, port := range h.Ports {
		errs = append(errs, validatePort(path.Child("ports").Index(i), port)...)
	}
	errs = append(errs, validateRange(path.Child("interval"), h.Interval, time.Second, time.Hour)...)
	errs = append(errs, validateDuration(path.Child("timeout"), h.Timeout)...)
	check := newHealthCheck(h, "service")
	if len(errs) == 0 && check.GetTimeout() > check.GetInterval() {
		errs = append(errs, field.Invalid(path.Child("timeout"), check.GetTimeout(), fmt.Sprintf("must be at most the interval, %d ms", check.GetInterval())))
	}
	errs = append(errs, validateNumber(path.Child("healthyThreshold"), h.HealthyThreshold, 1, 10)...)
	errs = append(errs, validateNumber(path.Child("unhealthyThreshold"), h.UnhealthyThreshold, 1, 10)...)
	if h.GRPC != nil && h.GRPC.Service != "" && (len(h.GRPC.Service) > 512 || !grpcServicePattern.MatchString(h.GRPC.Service)) {
		errs = append(errs, field.Invalid(path.Child("grpc", "service"), truncate(h.GRPC.Service), "must be a service with its package, such as shop.Payments"))
	}
	return append(errs, validateHTTPCheck(path.Child("http"), h.HTTP)...)
}

func validateHTTPCheck(path *field.Path, h *v1alpha1.HTTPHealthCheck) field.ErrorList {
	if h == nil {
		return nil
	}
	errs := validateCheckPath(path.Child("path"), h.Path)
	if h.Host != "" {
		errs = append(errs, validateHost(path.Child("host"), h.Host)...)
	}
	errs = append(errs, validateHeaderValues(path.Child("headers"), h.Headers, 8)...)
	errs = append(errs, validateCodes(path.Child("codes"), h.Codes, 200, 599)...)
	if h.Body != "" {
		errs = append(errs, validateRegex(path.Child("body"), h.Body)...)
	}
	return errs
}

func validateRegex(path *field.Path, expression string) field.ErrorList {
	if errs := validateLength(path, expression, true); errs != nil {
		return errs
	}
	match := &meshconfig.HeaderMatch{Type: meshconfig.HeaderMatch_TYPE_REGEX, Name: "x", Value: expression}
	if err := evaluate.CheckHeader(match); err != nil {
		return field.ErrorList{field.Invalid(path, truncate(expression), err.Error())}
	}
	return nil
}

func validateCodes(path *field.Path, codes []int32, low, high int32) field.ErrorList {
	errs := validateCount(path, len(codes), 0, 16)
	for i, code := range codes {
		errs = append(errs, validateNumber(path.Index(i), &code, low, high)...)
	}
	return errs
}

func validateRateLimits(path *field.Path, limits []v1alpha1.RateLimit, hasPort bool) field.ErrorList {
	errs := validateCount(path, len(limits), 0, maxEntries)
	names := sets.New[string]()
	for i := range limits {
		l := &limits[i]
		at := path.Index(i)
		errs = append(errs, validateUniqueLabel(at.Child("name"), l.Name, names)...)
		errs = append(errs, validateNumber(at.Child("requests"), &l.Requests, 1, millionth)...)
		errs = append(errs, validateNumber(at.Child("burst"), l.Burst, 1, millionth)...)
		errs = append(errs, validateRange(at.Child("interval"), l.Interval, 100*time.Millisecond, time.Hour)...)
		if l.Per != "" && l.Per != "Pod" && l.Per != "Caller" {
			errs = append(errs, field.NotSupported(at.Child("per"), l.Per, []string{"Pod", "Caller"}))
		}
		errs = append(errs, validateCount(at.Child("from"), len(l.From), 0, maxEntries)...)
		for j := range l.From {
			errs = append(errs, validateSource(at.Child("from").Index(j), &l.From[j])...)
		}
		errs = append(errs, validateCount(at.Child("to"), len(l.To), 0, maxEntries)...)
		for j := range l.To {
			errs = append(errs, validateOperation(at.Child("to").Index(j), &l.To[j], hasPort)...)
		}
	}
	return errs
}
