// SPDX-License-Identifier: Apache-2.0

package inject

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"strconv"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/heddle-mesh/heddle/internal/probe"
)

// table is the probes and hooks of a pod that the proxy answers.
type table struct {
	before map[string]probe.Spec // what an earlier pass rewrote, by ID
	specs  []probe.Spec
	faults []string
}

// rewrite points the probes and HTTP hooks of a container to the proxy. What asks another machine, runs a command or
// sleeps stays as it is.
func (t *table) rewrite(c *corev1.Container) {
	for _, p := range []struct {
		kind  string
		probe *corev1.Probe
	}{{"liveness", c.LivenessProbe}, {"readiness", c.ReadinessProbe}, {"startup", c.StartupProbe}} {
		if p.probe != nil {
			t.rewriteProbe(c, p.kind, p.probe)
		}
	}
	if c.Lifecycle == nil {
		return
	}
	for _, h := range []struct {
		kind    string
		handler *corev1.LifecycleHandler
	}{{"postStart", c.Lifecycle.PostStart}, {"preStop", c.Lifecycle.PreStop}} {
		if h.handler == nil || h.handler.HTTPGet == nil || h.handler.HTTPGet.Host != "" {
			continue
		}
		if t.keep(c, h.kind, h.handler.HTTPGet, 0) {
			continue
		}
		spec, ok := t.http(c, h.kind, h.handler.HTTPGet)
		if ok {
			spec.Kind = probe.Hook
			h.handler.HTTPGet = t.add(c, h.kind, spec)
		}
	}
}

func (t *table) rewriteProbe(c *corev1.Container, kind string, p *corev1.Probe) {
	timeout := int64(p.TimeoutSeconds) * 1000
	var spec probe.Spec
	ok := false
	switch {
	case p.HTTPGet != nil && p.HTTPGet.Host == "":
		if t.keep(c, kind, p.HTTPGet, timeout) {
			return
		}
		spec, ok = t.http(c, kind, p.HTTPGet)
	case p.TCPSocket != nil && p.TCPSocket.Host == "":
		spec.Kind = probe.TCP
		spec.Port, ok = t.port(c, kind, p.TCPSocket.Port)
	case p.GRPC != nil:
		spec.Kind = probe.GRPC
		if p.GRPC.Service != nil {
			spec.Service = *p.GRPC.Service
		}
		spec.Port, ok = t.port(c, kind, intstr.FromInt32(p.GRPC.Port))
	}
	if !ok {
		return
	}
	spec.TimeoutMillis = timeout
	p.ProbeHandler = corev1.ProbeHandler{HTTPGet: t.add(c, kind, spec)}
}

func (t *table) http(c *corev1.Container, kind string, get *corev1.HTTPGetAction) (probe.Spec, bool) {
	number, ok := t.port(c, kind, get.Port)
	spec := probe.Spec{Kind: probe.HTTP, Port: number, Path: get.Path, HTTPS: get.Scheme == corev1.URISchemeHTTPS}
	for _, h := range get.HTTPHeaders {
		spec.Headers = append(spec.Headers, probe.Header{Name: h.Name, Value: h.Value})
	}
	return spec, ok
}

// add enters a probe and returns what the kubelet asks in its place.
func (t *table) add(c *corev1.Container, kind string, spec probe.Spec) *corev1.HTTPGetAction {
	spec.ID, spec.Name = probeID(c.Name, kind), c.Name+"/"+kind
	t.specs = append(t.specs, spec)
	return &corev1.HTTPGetAction{Path: probe.Path(spec.ID), Port: intstr.FromInt32(probe.Port), Scheme: corev1.URISchemeHTTP}
}

// keep says whether the probe needs no rewriting: an earlier pass did it, or it can't be done.
func (t *table) keep(c *corev1.Container, kind string, get *corev1.HTTPGetAction, timeout int64) bool {
	if get.Port.String() != strconv.Itoa(probe.Port) {
		return false
	}
	id, ours := strings.CutPrefix(get.Path, probe.PathPrefix)
	spec, known := t.before[id]
	if !ours || !known || id != probeID(c.Name, kind) {
		t.faults = append(t.faults, fmt.Sprintf("container %q: its %s asks port %d, the proxy's: write the application's port and path", c.Name, kind, probe.Port))
		return true
	}
	spec.TimeoutMillis = timeout
	t.specs = append(t.specs, spec)
	return true
}

// port resolves a port as the kubelet does: by name among the container's own, else as a number.
func (t *table) port(c *corev1.Container, kind string, port intstr.IntOrString) (uint16, bool) {
	if port.Type == intstr.String {
		for _, p := range c.Ports {
			if p.Name == port.StrVal {
				return uint16(p.ContainerPort), true //nolint:gosec // the API server has checked it
			}
		}
	}
	number, err := strconv.ParseUint(port.String(), 10, 16)
	switch {
	case err != nil || number == 0:
		t.faults = append(t.faults, fmt.Sprintf("container %q: its %s names port %q, which the container does not declare: name one of its ports or give a number",
			c.Name, kind, port.String()))
		return 0, false
	case number == PortInbound || number == PortOutbound || number == PortAdmin:
		t.faults = append(t.faults, fmt.Sprintf("container %q: its %s asks port %d, the proxy's: write the application's port", c.Name, kind, number))
		return 0, false
	}
	return uint16(number), true
}

// probeID is the same for the same probe of the same pod, and tells a stranger nothing.
func probeID(container, kind string) string {
	sum := sha256.Sum256([]byte(container + "/" + kind))
	return hex.EncodeToString(sum[:6])
}

// byID reads what an earlier pass left in the proxy's environment.
func byID(proxy *corev1.Container) (map[string]probe.Spec, error) {
	if proxy == nil {
		return nil, nil
	}
	specs, err := probe.Decode(env(proxy, probe.EnvProbes))
	if err != nil {
		return nil, err
	}
	before := make(map[string]probe.Spec, len(specs))
	for _, spec := range specs {
		before[spec.ID] = spec
	}
	return before, nil
}

func env(c *corev1.Container, name string) string {
	for _, e := range c.Env {
		if e.Name == name {
			return e.Value
		}
	}
	return ""
}
