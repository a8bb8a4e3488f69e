// SPDX-License-Identifier: Apache-2.0

package inject

import (
	"math"
	"strconv"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	"k8s.io/apimachinery/pkg/util/intstr"
)

var ourVolumes = []string{VolumeState, VolumeToken, VolumeRoots}

// stateLimit bounds the volume of what the proxy keeps, in memory that counts as the proxy's.
const stateLimit = "64Mi"

// Everything below spells out what the API server would fill in, so that a second pass finds what the first one made.

// initContainer redirects the pod's connections and ends. It is root because a capability that is added to another user
// is not effective, and it can do nothing else: NET_ADMIN is all it has, in the pod's own network.
func (c *Config) initContainer(s *Settings) corev1.Container {
	args := []string{
		"init",
		"--proxy-uid=" + strconv.Itoa(ProxyUID),
		"--inbound-port=" + strconv.Itoa(PortInbound),
		"--outbound-port=" + strconv.Itoa(PortOutbound),
	}
	for _, skip := range []struct{ flag, value string }{
		{"--skip-inbound-ports=", s.SkipInboundPorts},
		{"--skip-outbound-ports=", s.SkipOutboundPorts},
		{"--skip-outbound-cidrs=", s.SkipOutboundCIDRs},
	} {
		if skip.value != "" {
			args = append(args, skip.flag+skip.value)
		}
	}
	security := c.security(0)
	security.RunAsNonRoot = new(false)
	security.Capabilities.Add = []corev1.Capability{"NET_ADMIN"}
	return corev1.Container{
		Name:    ContainerInit,
		Image:   c.Image,
		Command: []string{binary},
		Args:    args,
		Env: []corev1.EnvVar{
			field("HEDDLE_POD_IPS", "status.podIPs"),
			field("HEDDLE_HOST_IPS", "status.hostIPs"),
		},
		Resources:                s.resources(), // the proxy's, so that it adds nothing to what the pod needs
		SecurityContext:          security,
		TerminationMessagePath:   corev1.TerminationMessagePathDefault,
		TerminationMessagePolicy: corev1.TerminationMessageFallbackToLogsOnError,
		ImagePullPolicy:          c.PullPolicy,
	}
}

// proxyContainer is a native sidecar: it starts before and ends after all containers that come behind it.
func (c *Config) proxyContainer(s *Settings) corev1.Container {
	security := c.security(ProxyUID)
	security.RunAsNonRoot = new(true)
	return corev1.Container{
		Name:          ContainerProxy,
		Image:         c.Image,
		Command:       []string{binary},
		RestartPolicy: new(corev1.ContainerRestartPolicyAlways),
		Ports:         []corev1.ContainerPort{{Name: "heddle-metrics", ContainerPort: PortAdmin, Protocol: corev1.ProtocolTCP}},
		Env:           c.proxyEnv(s),
		Resources:     s.resources(),
		VolumeMounts: []corev1.VolumeMount{
			{Name: VolumeState, MountPath: pathState},
			{Name: VolumeToken, MountPath: pathToken, ReadOnly: true},
			{Name: VolumeRoots, MountPath: pathRoots, ReadOnly: true},
		},
		// It waits for the operator as long as it takes: the reason is in its log and on /ready, not in restarts.
		StartupProbe:   own("/ready", 1, 1, math.MaxInt32),
		ReadinessProbe: own("/ready", 2, 5, 3),
		LivenessProbe:  own("/livez", 5, 10, 6),
		// The kubelet stops a sidecar after the application, but runs this at once: new requests go elsewhere from now on.
		Lifecycle:                &corev1.Lifecycle{PreStop: &corev1.LifecycleHandler{Exec: &corev1.ExecAction{Command: []string{binary, "drain"}}}},
		SecurityContext:          security,
		TerminationMessagePath:   corev1.TerminationMessagePathDefault,
		TerminationMessagePolicy: corev1.TerminationMessageFallbackToLogsOnError,
		ImagePullPolicy:          c.PullPolicy,
	}
}

func (c *Config) proxyEnv(s *Settings) []corev1.EnvVar {
	env := []corev1.EnvVar{
		field("HEDDLE_POD_NAME", "metadata.name"),
		field("HEDDLE_POD_NAMESPACE", "metadata.namespace"),
		field("HEDDLE_POD_UID", "metadata.uid"),
		field("HEDDLE_SERVICE_ACCOUNT", "spec.serviceAccountName"),
		field("HEDDLE_POD_IPS", "status.podIPs"),
		field("HEDDLE_NODE_NAME", "spec.nodeName"),
		{Name: "HEDDLE_CONTROL_ADDRESS", Value: c.ControlAddress},
		{Name: "HEDDLE_CONTROL_SERVER_NAME", Value: c.ControlServerName},
		{Name: "HEDDLE_MESH_ID", Value: c.MeshID},
		{Name: "HEDDLE_TRUST_DOMAIN", Value: c.TrustDomain},
		{Name: "HEDDLE_LOG_LEVEL", Value: s.LogLevel},
		{Name: "HEDDLE_ACCESS_LOG", Value: s.AccessLog},
		{Name: "GOMAXPROCS", Value: strconv.FormatInt(s.processors(), 10)},
		{Name: "GOMEMLIMIT", Value: strconv.FormatInt(s.goMemory(), 10) + "B"},
	}
	if s.Limits != "" {
		env = append(env, corev1.EnvVar{Name: "HEDDLE_LIMITS", Value: s.Limits})
	}
	return env
}

func (c *Config) security(uid int64) *corev1.SecurityContext {
	return &corev1.SecurityContext{
		RunAsUser:                &uid,
		RunAsGroup:               &uid,
		Privileged:               new(false),
		AllowPrivilegeEscalation: new(false),
		ReadOnlyRootFilesystem:   new(true),
		Capabilities:             &corev1.Capabilities{Drop: []corev1.Capability{"ALL"}},
		SeccompProfile:           &corev1.SeccompProfile{Type: corev1.SeccompProfileTypeRuntimeDefault},
	}
}

func volumes() []corev1.Volume {
	limit := resource.MustParse(stateLimit)
	return []corev1.Volume{
		{Name: VolumeState, VolumeSource: corev1.VolumeSource{
			EmptyDir: &corev1.EmptyDirVolumeSource{Medium: corev1.StorageMediumMemory, SizeLimit: &limit},
		}},
		{Name: VolumeToken, VolumeSource: corev1.VolumeSource{
			Projected: &corev1.ProjectedVolumeSource{
				DefaultMode: new(corev1.ProjectedVolumeSourceDefaultMode),
				Sources: []corev1.VolumeProjection{{ServiceAccountToken: &corev1.ServiceAccountTokenProjection{
					Audience: audience, ExpirationSeconds: new(int64(tokenSeconds)), Path: fileToken,
				}}},
			},
		}},
		{Name: VolumeRoots, VolumeSource: corev1.VolumeSource{
			ConfigMap: &corev1.ConfigMapVolumeSource{
				LocalObjectReference: corev1.LocalObjectReference{Name: RootsConfigMap},
				DefaultMode:          new(corev1.ConfigMapVolumeSourceDefaultMode),
			},
		}},
	}
}

// own is a probe of the proxy itself; times in seconds.
func own(path string, timeout, period, failures int32) *corev1.Probe {
	return &corev1.Probe{
		ProbeHandler: corev1.ProbeHandler{HTTPGet: &corev1.HTTPGetAction{
			Path: path, Port: intstr.FromInt32(PortAdmin), Scheme: corev1.URISchemeHTTP,
		}},
		TimeoutSeconds: timeout, PeriodSeconds: period, SuccessThreshold: 1, FailureThreshold: failures,
	}
}

func field(name, path string) corev1.EnvVar {
	return corev1.EnvVar{Name: name, ValueFrom: &corev1.EnvVarSource{
		FieldRef: &corev1.ObjectFieldSelector{APIVersion: "v1", FieldPath: path},
	}}
}

func (s *Settings) resources() corev1.ResourceRequirements {
	r := corev1.ResourceRequirements{
		Requests: corev1.ResourceList{corev1.ResourceCPU: s.CPURequest, corev1.ResourceMemory: s.MemoryRequest},
		Limits:   corev1.ResourceList{corev1.ResourceMemory: s.MemoryLimit},
	}
	if !s.CPULimit.IsZero() {
		r.Limits[corev1.ResourceCPU] = s.CPULimit
	}
	return r
}

// processors is the limit rounded up; without one, one: Go itself would take all of the node's.
func (s *Settings) processors() int64 {
	return max(1, (s.CPULimit.MilliValue()+999)/1000)
}

// goMemory leaves a fifth of the limit to the kept state and to the kernel's socket buffers, which count as well.
func (s *Settings) goMemory() int64 {
	return s.MemoryLimit.Value() / 5 * 4
}
