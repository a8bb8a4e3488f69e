// SPDX-License-Identifier: Apache-2.0

package meshconfig

import "fmt"

// The bounds here are of what a proxy would otherwise keep or go through: how many there are, and how long. What the
// values mean is for those who act on them to judge, who refuse what they cannot act on.

func validateClusters(clusters []*Cluster) error {
	if err := atMost("clusters", len(clusters), maxClusters); err != nil {
		return err
	}
	last := ""
	for i, c := range clusters {
		if err := validateCluster(c); err != nil {
			return fmt.Errorf("clusters[%d]: %w", i, err)
		}
		if c.GetService() <= last {
			return fmt.Errorf("clusters[%d]: %q after %q: want them ascending, each once", i, c.GetService(), last)
		}
		last = c.GetService()
	}
	return nil
}

func validateCluster(c *Cluster) error {
	if err := checkService("service", c.GetService()); err != nil {
		return err
	}
	o := c.GetOutlier()
	if err := checkTimes(
		field[int64]{"connect_timeout", c.GetConnectTimeout()}, field[int64]{"balancing.slow_start", c.GetBalancing().GetSlowStart()},
		field[int64]{"outlier.window", o.GetWindow()}, field[int64]{"outlier.base_ejection", o.GetBaseEjection()},
		field[int64]{"outlier.max_ejection", o.GetMaxEjection()},
	); err != nil {
		return err
	}
	keys := c.GetBalancing().GetHash()
	if err := atMost("balancing.hash", len(keys), maxHashKeys); err != nil {
		return err
	}
	for i, k := range keys {
		if err := checkLengths(maxWord, field[string]{"name", k.GetName()}); err != nil {
			return fmt.Errorf("balancing.hash[%d]: %w", i, err)
		}
	}
	if err := validateHealthCheck(c.GetHealthCheck()); err != nil {
		return fmt.Errorf("health_check: %w", err)
	}
	return nil
}

func validateHealthCheck(h *HealthCheck) error {
	if err := checkTimes(field[int64]{"interval", h.GetInterval()}, field[int64]{"timeout", h.GetTimeout()}); err != nil {
		return err
	}
	if err := checkLengths(MaxValue, field[string]{"path", h.GetPath()}); err != nil {
		return err
	}
	if err := checkLengths(maxWord, field[string]{"host", h.GetHost()}, field[string]{"grpc_service", h.GetGrpcService()}); err != nil {
		return err
	}
	if err := atMost("codes", len(h.GetCodes()), maxCodes); err != nil {
		return err
	}
	if err := atMost("ports", len(h.GetPorts()), maxPorts); err != nil {
		return err
	}
	if err := atMost("http2_ports", len(h.GetHttp2Ports()), maxPorts); err != nil {
		return err
	}
	if err := checkHeaders("headers", h.GetHeaders()); err != nil {
		return err
	}
	if err := checkRegex(h.GetBody()); err != nil {
		return fmt.Errorf("body: %w", err)
	}
	return nil
}

func validateRetry(r *Retry) error {
	if err := atMost("on", len(r.GetOn()), len(RetryCondition_name)); err != nil {
		return err
	}
	if err := atMost("codes", len(r.GetCodes()), maxCodes); err != nil {
		return err
	}
	if err := atMost("grpc_codes", len(r.GetGrpcCodes()), maxCodes); err != nil {
		return err
	}
	return checkTimes(field[int64]{"backoff_base", r.GetBackoffBase()}, field[int64]{"backoff_max", r.GetBackoffMax()})
}

func validateFilters(f *Filters) error {
	for _, h := range []struct {
		what   string
		filter *HeaderFilter
	}{{"request_headers", f.GetRequestHeaders()}, {"response_headers", f.GetResponseHeaders()}} {
		if err := validateHeaderFilter(h.filter); err != nil {
			return fmt.Errorf("%s: %w", h.what, err)
		}
	}
	r := f.GetRedirect()
	if err := checkLengths(
		maxWord, field[string]{"rewrite_host", f.GetRewriteHost()}, field[string]{"redirect.scheme", r.GetScheme()},
		field[string]{"redirect.host", r.GetHost()},
	); err != nil {
		return err
	}
	if err := checkLengths(
		MaxValue, field[string]{"rewrite_path", f.GetRewritePath().GetValue()}, field[string]{"redirect.path", r.GetPath().GetValue()},
	); err != nil {
		return err
	}
	if f.GetMirror() != nil {
		if err := validateBackend(f.GetMirror().GetBackend()); err != nil {
			return fmt.Errorf("mirror.backend: %w", err)
		}
	}
	return nil
}

func validateHeaderFilter(f *HeaderFilter) error {
	if err := atMost("remove", len(f.GetRemove()), maxHeaders); err != nil {
		return err
	}
	for i, name := range f.GetRemove() {
		if !isToken(name) {
			return fmt.Errorf("remove[%d] %.80q: want a token", i, name)
		}
	}
	if err := checkHeaders("set", f.GetSet()); err != nil {
		return err
	}
	return checkHeaders("add", f.GetAdd())
}

func validateFaults(faults []*Fault) error {
	if err := atMost("faults", len(faults), maxFaults); err != nil {
		return err
	}
	for i, f := range faults {
		err := checkText("name", f.GetName())
		if err == nil {
			err = checkTimes(field[int64]{"delay", f.GetDelay()}, field[int64]{"expires_at", f.GetExpiresAt()})
		}
		if err == nil {
			err = validateMatches(f.GetMatches())
		}
		if err != nil {
			return fmt.Errorf("faults[%d]: %w", i, err)
		}
	}
	return nil
}

func validateStickiness(s *Stickiness) error {
	if err := checkLengths(maxWord, field[string]{"stickiness.name", s.GetName()}); err != nil {
		return err
	}
	return checkTimes(field[int64]{"stickiness.ttl", s.GetTtl()})
}

func validateRateLimits(limits []*RateLimit) error {
	if err := atMost("rate_limits", len(limits), maxRateLimits); err != nil {
		return err
	}
	for i, l := range limits {
		err := checkText("name", l.GetName())
		if err == nil {
			err = checkTimes(field[int64]{"interval", l.GetInterval()})
		}
		if err == nil {
			err = validateFromTo(l.GetFrom(), l.GetTo())
		}
		if err != nil {
			return fmt.Errorf("rate_limits[%d] %.80q: %w", i, l.GetName(), err)
		}
	}
	return nil
}

// field is one of a message, with what its errors call it.
type field[T any] struct {
	name  string
	value T
}

// checkTimes bounds dates and durations; 0 is "not set".
func checkTimes(fields ...field[int64]) error {
	for _, f := range fields {
		if err := checkMilliseconds(f.name, f.value); err != nil {
			return err
		}
	}
	return nil
}

// checkLengths bounds strings, which may be empty.
func checkLengths(most int, fields ...field[string]) error {
	for _, f := range fields {
		if len(f.value) > most {
			return fmt.Errorf("%s of %d bytes: at most %d", f.name, len(f.value), most)
		}
	}
	return nil
}

// checkHeaders bounds header lines.
func checkHeaders(what string, headers []*HeaderValue) error {
	if err := atMost(what, len(headers), maxHeaders); err != nil {
		return err
	}
	for i, h := range headers {
		if !isToken(h.GetName()) {
			return fmt.Errorf("%s[%d]: name %.80q: want a token", what, i, h.GetName())
		}
		if err := checkLengths(MaxValue, field[string]{"value", h.GetValue()}); err != nil {
			return fmt.Errorf("%s[%d]: %w", what, i, err)
		}
	}
	return nil
}
