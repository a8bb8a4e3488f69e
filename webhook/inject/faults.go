// SPDX-License-Identifier: Apache-2.0

package inject

import (
	"fmt"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
)

// Refusal is why a pod cannot be in the mesh, every reason with its fix.
type Refusal struct{ Faults []string }

func (r *Refusal) Error() string {
	return "pod can't join the mesh: " + strings.Join(r.Faults, "; ") +
		" (or keep the pod out of it with annotation " + AnnotationInject + "=" + disabled + ")"
}

// podSecurityLabel is what Pod Security Admission enforces in a namespace.
const podSecurityLabel = "pod-security.kubernetes.io/enforce"

// faultsOf lists why the pod, without what injection added, cannot work with a proxy.
func faultsOf(pod *corev1.Pod, namespaceLabels map[string]string) []string {
	var faults []string
	fault := func(format string, args ...any) { faults = append(faults, fmt.Sprintf(format, args...)) }
	if level := namespaceLabels[podSecurityLabel]; level == "baseline" || level == "restricted" {
		fault("its namespace enforces Pod Security %q, which forbids the capability NET_ADMIN that %s needs for the redirect: "+
			"label the namespace %s=privileged (its warn and audit labels may stay)", level, ContainerInit, podSecurityLabel)
	}
	spec := &pod.Spec
	if spec.OS != nil && spec.OS.Name == corev1.Windows || spec.NodeSelector[corev1.LabelOSStable] == "windows" {
		fault("it is for Windows: the proxy runs on Linux only")
	}
	if spec.ShareProcessNamespace != nil && *spec.ShareProcessNamespace {
		fault("spec.shareProcessNamespace lets its containers read the proxy's key: unset it")
	}
	for _, volume := range spec.Volumes {
		if slices.Contains(ourVolumes, volume.Name) {
			fault("volume name %q is the proxy's: choose another", volume.Name)
		}
		if hasOurAudience(&volume) {
			fault("volume %q asks for a token with audience %q, which is the proxy's: choose another audience", volume.Name, audience)
		}
	}
	for container := range containers(pod) {
		faults = append(faults, containerFaults(container, spec.SecurityContext)...)
	}
	return faults
}

func containerFaults(c *corev1.Container, pod *corev1.PodSecurityContext) []string {
	var faults []string
	fault := func(format string, args ...any) { faults = append(faults, fmt.Sprintf(format, args...)) }
	if c.Name == ContainerProxy || c.Name == ContainerInit {
		fault("container name %q is the mesh's: choose another", c.Name)
	}
	if uid := effectiveUID(c, pod); uid != nil && *uid == ProxyUID {
		fault("container %q runs as user %d, the proxy's, whose connections are not redirected: choose another runAsUser", c.Name, ProxyUID)
	}
	for _, mount := range c.VolumeMounts {
		if slices.Contains(ourVolumes, mount.Name) {
			fault("container %q mounts %q, which only the proxy may: remove the mount", c.Name, mount.Name)
		}
	}
	for _, p := range c.Ports {
		switch {
		case p.Protocol == corev1.ProtocolUDP || p.Protocol == corev1.ProtocolSCTP:
		case p.ContainerPort == PortInbound || p.ContainerPort == PortOutbound || p.ContainerPort == PortAdmin:
			fault("container %q listens on port %d, the proxy's: choose another", c.Name, p.ContainerPort)
		}
	}
	return faults
}

func effectiveUID(c *corev1.Container, pod *corev1.PodSecurityContext) *int64 {
	if c.SecurityContext != nil && c.SecurityContext.RunAsUser != nil {
		return c.SecurityContext.RunAsUser
	}
	if pod != nil {
		return pod.RunAsUser
	}
	return nil
}

func hasOurAudience(volume *corev1.Volume) bool {
	if volume.Projected == nil {
		return false
	}
	return slices.ContainsFunc(volume.Projected.Sources, func(s corev1.VolumeProjection) bool {
		return s.ServiceAccountToken != nil && s.ServiceAccountToken.Audience == audience
	})
}

// containers ranges over init containers, sidecars among them, and then containers.
func containers(pod *corev1.Pod) func(yield func(*corev1.Container) bool) {
	return func(yield func(*corev1.Container) bool) {
		for _, list := range [][]corev1.Container{pod.Spec.InitContainers, pod.Spec.Containers} {
			for i := range list {
				if !yield(&list[i]) {
					return
				}
			}
		}
	}
}
