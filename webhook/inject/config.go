// SPDX-License-Identifier: Apache-2.0

// Package inject puts the proxy into pods of meshed namespaces as they are created: a container that redirects the
// pod's connections, the proxy as a native sidecar, its volumes, and the pod's probes and scrapes turned to the proxy.
// A pod that could not work with it is refused with the reason and the fix.
package inject

import (
	"errors"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"

	"github.com/heddle-mesh/heddle/internal/probe"
)

// Names of what is added. A pod that has its own of them is refused.
const (
	ContainerProxy = "heddle-proxy"
	ContainerInit  = "heddle-init"
	VolumeState    = "heddle-state"
	VolumeToken    = "heddle-token"
	VolumeRoots    = "heddle-roots"
	RootsConfigMap = "heddle-roots" // in every meshed namespace
)

// Numbers that the proxy and its redirect agree on.
const (
	ProxyUID     = 1337
	PortOutbound = 15001
	PortInbound  = 15006
	PortAdmin    = probe.Port
)

const (
	binary       = "/heddle-proxy"
	pathState    = "/var/run/heddle/state"
	pathToken    = "/var/run/heddle/token"
	pathRoots    = "/var/run/heddle/roots"
	fileToken    = "token"
	audience     = "heddle.io/identity"
	tokenSeconds = 3600
)

// NamespaceLabel and its value mark the namespaces whose pods are injected.
const (
	NamespaceLabel   = "heddle.io/inject"
	NamespaceEnabled = "enabled"
)

// Config is what the operator knows about every proxy. All but Defaults and PullPolicy are required.
type Config struct {
	Image      string
	PullPolicy corev1.PullPolicy
	Version    string

	ControlAddress    string // host:port of the config and identity server
	ControlServerName string // the DNS name in its certificate
	MeshID            string
	TrustDomain       string

	Defaults Settings
}

// Settings are what a pod may choose by annotation.
type Settings struct {
	CPURequest, CPULimit       resource.Quantity // a zero limit is none
	MemoryRequest, MemoryLimit resource.Quantity
	LogLevel                   string
	AccessLog                  string
	Limits                     string // as internal/limits reads it; empty: the defaults
	SkipInboundPorts           string
	SkipOutboundPorts          string
	SkipOutboundCIDRs          string
}

// DefaultSettings is a proxy that costs next to nothing idle and may use one processor. There is no processor limit: a
// throttled proxy is a slow application.
func DefaultSettings() Settings {
	return Settings{
		CPURequest:    resource.MustParse("10m"),
		MemoryRequest: resource.MustParse("32Mi"),
		MemoryLimit:   resource.MustParse("256Mi"),
		LogLevel:      "info",
		AccessLog:     "off",
	}
}

// Validate says what is missing, and fills in what has a default.
func (c *Config) Validate() error {
	for name, value := range map[string]string{
		"image": c.Image, "version": c.Version, "control address": c.ControlAddress,
		"control server name": c.ControlServerName, "mesh ID": c.MeshID, "trust domain": c.TrustDomain,
	} {
		if value == "" {
			return fmt.Errorf("injection: the proxy's %s is not set", name)
		}
	}
	if c.PullPolicy == "" {
		c.PullPolicy = corev1.PullIfNotPresent
	}
	if c.Defaults == (Settings{}) {
		c.Defaults = DefaultSettings()
	}
	if c.Defaults.MemoryLimit.IsZero() {
		return errors.New("injection: the proxy's default memory limit is not set")
	}
	return nil
}
