// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"fmt"
	"log/slog"
	"math"
	"net"
	"net/netip"

	"github.com/heddle-mesh/heddle/internal/identity"
	"github.com/heddle-mesh/heddle/internal/limits"
	"github.com/heddle-mesh/heddle/internal/probe"
	"github.com/heddle-mesh/heddle/proxy/capture"
	"github.com/heddle-mesh/heddle/proxy/telemetry"
)

// The environment variables, all set by injection.
const (
	envPodName        = "HEDDLE_POD_NAME"
	envPodNamespace   = "HEDDLE_POD_NAMESPACE"
	envPodUID         = "HEDDLE_POD_UID"
	envServiceAccount = "HEDDLE_SERVICE_ACCOUNT"
	envPodIPs         = "HEDDLE_POD_IPS"
	envHostIPs        = "HEDDLE_HOST_IPS" // of init alone
	envNodeName       = "HEDDLE_NODE_NAME"
	envControlAddress = "HEDDLE_CONTROL_ADDRESS"
	envControlName    = "HEDDLE_CONTROL_SERVER_NAME"
	envMeshID         = "HEDDLE_MESH_ID"
	envTrustDomain    = "HEDDLE_TRUST_DOMAIN"
	envLogLevel       = "HEDDLE_LOG_LEVEL"
	envAccessLog      = "HEDDLE_ACCESS_LOG"
	envStateDir       = "HEDDLE_STATE_DIR"
	envTokenFile      = "HEDDLE_TOKEN_FILE"
	envRootsDir       = "HEDDLE_ROOTS_DIR"
	envLimits         = "HEDDLE_LIMITS"
)

// config is what the environment says.
type config struct {
	podName, podUID, nodeName string
	identity                  identity.ID
	podIPs                    []netip.Addr // at least one

	controlAddress, controlName string
	meshID                      string

	probes    []probe.Spec
	scrape    *probe.Scrape
	logLevel  slog.Level
	accessLog telemetry.Mode
	limits    limits.Set

	stateDir, tokenFile, rootsDir string
	ports                         ports
	fixed                         *fixed // nil: the pod's connections are redirected
}

// ports are fixed by injection; only tests choose others. 0 takes any.
type ports struct{ outbound, inbound, admin uint16 }

// readConfig reads the environment. Its error lists all that is wrong with it.
func readConfig(getenv func(string) string) (*config, error) {
	r := &reader{getenv: getenv}
	c := &config{
		podName:        r.required(envPodName, "metadata.name"),
		podUID:         r.required(envPodUID, "metadata.uid"),
		nodeName:       getenv(envNodeName),
		controlAddress: r.address(envControlAddress),
		controlName:    r.required(envControlName, ""),
		meshID:         r.required(envMeshID, ""),
		identity: identity.ID{
			TrustDomain:    r.required(envTrustDomain, ""),
			Namespace:      r.required(envPodNamespace, "metadata.namespace"),
			ServiceAccount: r.required(envServiceAccount, "spec.serviceAccountName"),
		},
		logLevel:  r.level(envLogLevel),
		stateDir:  r.optional(envStateDir, "/var/run/heddle/state"),
		tokenFile: r.optional(envTokenFile, "/var/run/heddle/token/token"),
		rootsDir:  r.optional(envRootsDir, "/var/run/heddle/roots"),
		ports:     ports{capture.DefaultOutboundPort, capture.DefaultInboundPort, capture.DefaultAdminPort},
	}
	var err error
	c.podIPs, err = parseIPs(getenv, envPodIPs)
	r.note(err)
	if err == nil && len(c.podIPs) == 0 {
		r.missing(envPodIPs, "status.podIPs")
	}
	c.probes, err = probe.Decode(getenv(probe.EnvProbes))
	r.wrong(probe.EnvProbes, err)
	c.scrape, err = probe.DecodeScrape(getenv(probe.EnvScrape))
	r.wrong(probe.EnvScrape, err)
	c.accessLog, err = telemetry.ParseMode(getenv(envAccessLog))
	r.wrong(envAccessLog, err)
	c.limits, err = limits.Parse(getenv(envLimits))
	r.wrong(envLimits, err)
	if err := c.identity.Validate(); err != nil && len(r.errs) == 0 {
		r.note(fmt.Errorf("environment variables %s, %s and %s make no SPIFFE ID: %w", envTrustDomain, envPodNamespace, envServiceAccount, err))
	}
	if err := errors.Join(r.errs...); err != nil {
		return nil, usageError{err}
	}
	return c, nil
}

// reader reads variables and collects what is wrong with them.
type reader struct {
	getenv func(string) string
	errs   []error
}

func (r *reader) note(err error) {
	if err != nil {
		r.errs = append(r.errs, err)
	}
}

func (r *reader) wrong(variable string, err error) {
	if err != nil {
		r.note(fmt.Errorf("environment variable %s: %w", variable, err))
	}
}

func (r *reader) missing(variable, field string) {
	fix := "injection sets it, so let the webhook add the proxy"
	if field != "" {
		fix = "set it by fieldRef " + field
	}
	r.wrong(variable, fmt.Errorf("empty: %s", fix))
}

func (r *reader) required(variable, field string) string {
	value := r.getenv(variable)
	if value == "" {
		r.missing(variable, field)
	}
	return value
}

func (r *reader) optional(variable, otherwise string) string {
	if value := r.getenv(variable); value != "" {
		return value
	}
	return otherwise
}

func (r *reader) address(variable string) string {
	value := r.required(variable, "")
	if value == "" {
		return ""
	}
	if host, port, err := net.SplitHostPort(value); err != nil || host == "" || port == "" {
		r.wrong(variable, fmt.Errorf("%q: want host:port, such as heddle-operator.heddle-system.svc:8443", value))
	}
	return value
}

// level reads a log level. Each step of verbosity of logr is a level below info.
func (r *reader) level(variable string) slog.Level {
	switch value := r.getenv(variable); value {
	case "", "info":
		return slog.LevelInfo
	case "debug":
		return math.MinInt
	case "warn":
		return slog.LevelWarn
	case "error":
		return slog.LevelError
	default:
		r.wrong(variable, fmt.Errorf("%q: want debug, info, warn or error", value))
		return slog.LevelInfo
	}
}
