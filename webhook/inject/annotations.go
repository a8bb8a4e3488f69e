// SPDX-License-Identifier: Apache-2.0

package inject

import (
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"k8s.io/apimachinery/pkg/api/resource"

	"github.com/heddle-mesh/heddle/internal/limits"
)

// Annotations that a pod may carry, and those that injection adds.
const (
	AnnotationInject            = "heddle.io/inject" // "disabled" keeps the pod out of the mesh
	AnnotationCPURequest        = "heddle.io/proxy-cpu-request"
	AnnotationCPULimit          = "heddle.io/proxy-cpu-limit"
	AnnotationMemoryRequest     = "heddle.io/proxy-memory-request"
	AnnotationMemoryLimit       = "heddle.io/proxy-memory-limit"
	AnnotationLogLevel          = "heddle.io/proxy-log-level"
	AnnotationAccessLog         = "heddle.io/access-log"
	AnnotationLimits            = "heddle.io/proxy-limits"
	AnnotationSkipInboundPorts  = "heddle.io/skip-inbound-ports"
	AnnotationSkipOutboundPorts = "heddle.io/skip-outbound-ports"
	AnnotationSkipOutboundCIDRs = "heddle.io/skip-outbound-cidrs"

	// Injected is a label as well, for selectors.
	Injected          = "heddle.io/injected"
	AnnotationVersion = "heddle.io/proxy-version"
	// AnnotationDigest tells containers that were added for this pod just now from ones copied from another.
	AnnotationDigest = "heddle.io/injection-digest"
)

const prefix = "heddle.io/"

var known = []string{
	AnnotationInject, AnnotationCPURequest, AnnotationCPULimit, AnnotationMemoryRequest, AnnotationMemoryLimit,
	AnnotationLogLevel, AnnotationAccessLog, AnnotationLimits, AnnotationSkipInboundPorts, AnnotationSkipOutboundPorts,
	AnnotationSkipOutboundCIDRs, Injected, AnnotationVersion, AnnotationDigest,
}

var (
	logLevels  = []string{"debug", "info", "warn", "error"}
	accessLogs = []string{"off", "errors", "json"}
)

const (
	disabled   = "disabled"
	minMemory  = "16Mi"
	maxSkipped = 256
)

// reader collects what is wrong with annotations, so that a pod is told all of it at once.
type reader struct {
	annotations map[string]string
	faults      []string
}

func (r *reader) fault(key, format string, args ...any) {
	r.faults = append(r.faults, fmt.Sprintf("annotation %s=%q: %s", key, r.annotations[key], fmt.Sprintf(format, args...)))
}

// settings returns the defaults with the pod's choices on top.
func (r *reader) settings(defaults Settings) Settings {
	s := defaults
	r.quantity(AnnotationCPURequest, &s.CPURequest)
	r.quantity(AnnotationCPULimit, &s.CPULimit)
	r.quantity(AnnotationMemoryRequest, &s.MemoryRequest)
	r.quantity(AnnotationMemoryLimit, &s.MemoryLimit)
	r.belowLimit(AnnotationCPURequest, AnnotationCPULimit, &s.CPURequest, s.CPULimit)
	r.belowLimit(AnnotationMemoryRequest, AnnotationMemoryLimit, &s.MemoryRequest, s.MemoryLimit)
	if least := resource.MustParse(minMemory); s.MemoryLimit.Cmp(least) < 0 {
		r.fault(AnnotationMemoryLimit, "want at least %s", minMemory)
	}
	r.choice(AnnotationLogLevel, &s.LogLevel, logLevels)
	r.choice(AnnotationAccessLog, &s.AccessLog, accessLogs)
	r.limits(&s.Limits)
	r.list(AnnotationSkipInboundPorts, &s.SkipInboundPorts, inboundPort)
	r.list(AnnotationSkipOutboundPorts, &s.SkipOutboundPorts, port)
	r.list(AnnotationSkipOutboundCIDRs, &s.SkipOutboundCIDRs, cidr)
	return s
}

func (r *reader) quantity(key string, into *resource.Quantity) {
	value, ok := r.annotations[key]
	if !ok {
		return
	}
	q, err := resource.ParseQuantity(value)
	if err != nil || q.Sign() <= 0 {
		r.fault(key, "want a quantity above 0, such as 100m of processor or 64Mi of memory")
		return
	}
	*into = q
}

// belowLimit lowers a default request to a limit that the pod chose; a request that it chose as well is its mistake.
func (r *reader) belowLimit(requestKey, limitKey string, request *resource.Quantity, limit resource.Quantity) {
	if limit.IsZero() || request.Cmp(limit) <= 0 {
		return
	}
	if _, chosen := r.annotations[requestKey]; chosen {
		r.fault(requestKey, "it is above the limit %s: lower it, or raise %s", limit.String(), limitKey)
		return
	}
	*request = limit
}

func (r *reader) choice(key string, into *string, choices []string) {
	value, ok := r.annotations[key]
	if !ok {
		return
	}
	if !slices.Contains(choices, value) {
		r.fault(key, "want one of %s", strings.Join(choices, ", "))
		return
	}
	*into = value
}

func (r *reader) limits(into *string) {
	value, ok := r.annotations[AnnotationLimits]
	if !ok {
		return
	}
	if _, err := limits.Parse(value); err != nil {
		r.fault(AnnotationLimits, "%s", strings.ReplaceAll(err.Error(), "\n", ", ")) // one line for each thing that is wrong
		return
	}
	*into = value
}

func (r *reader) list(key string, into *string, check func(string) error) {
	value, ok := r.annotations[key]
	if !ok {
		return
	}
	var items []string
	for item := range strings.SplitSeq(value, ",") {
		item = strings.TrimSpace(item)
		if item == "" {
			continue
		}
		if err := check(item); err != nil {
			r.fault(key, "%v", err)
			return
		}
		items = append(items, item)
	}
	if len(items) > maxSkipped {
		r.fault(key, "%d items: at most %d, join them into ranges", len(items), maxSkipped)
		return
	}
	*into = strings.Join(items, ",")
}

// port takes "80" and "8000-8100", as the redirect does.
func port(item string) error {
	_, _, err := portRange(item)
	return err
}

// inboundPort is a port that may stay open beside the proxy: not one of its own, or callers could pass it by.
func inboundPort(item string) error {
	first, last, err := portRange(item)
	if err != nil {
		return err
	}
	for _, own := range []uint64{PortOutbound, PortInbound} {
		if first <= own && own <= last {
			return fmt.Errorf("%q holds %d, the proxy's own port: leave it out", item, own)
		}
	}
	return nil
}

func portRange(item string) (first, last uint64, err error) {
	low, high, isRange := strings.Cut(item, "-")
	if !isRange {
		high = low
	}
	first, errLow := strconv.ParseUint(low, 10, 16)
	last, errHigh := strconv.ParseUint(high, 10, 16)
	if errLow != nil || errHigh != nil || first == 0 || first > last {
		return 0, 0, fmt.Errorf("port %q: want a number from 1 to 65535, or a range such as 8000-8100", item)
	}
	return first, last, nil
}

func cidr(item string) error {
	if prefix, err := netip.ParsePrefix(item); err == nil && !prefix.Addr().Is4In6() {
		return nil
	}
	if ip, err := netip.ParseAddr(item); err == nil && ip.Zone() == "" && !ip.Is4In6() {
		return nil
	}
	return fmt.Errorf("CIDR %q: want one such as 10.0.0.0/8 or 2001:db8::/32, or an address", item)
}

// unknown lists annotations that look like ours and are not, in order: most are misspelt.
func unknown(annotations map[string]string) []string {
	var keys []string
	for key := range annotations {
		if strings.HasPrefix(key, prefix) && !slices.Contains(known, key) {
			keys = append(keys, key)
		}
	}
	slices.Sort(keys)
	return keys
}
