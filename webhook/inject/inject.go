// SPDX-License-Identifier: Apache-2.0

package inject

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"slices"

	corev1 "k8s.io/api/core/v1"

	"github.com/heddle-mesh/heddle/internal/probe"
)

// mirrorAnnotation marks the API server's image of a static pod, which nobody can change.
const mirrorAnnotation = corev1.MirrorPodAnnotationKey

// Inject returns the pod with its proxy, or the same pod when it takes none. It does not change its input. The second
// result is what the pod's owner should know though the pod works. An error is a Refusal, but for a
// bug of ours.
//
// A second pass finds the first one's work and leaves it alone, with what other admission plugins have added since;
// only containers that have come meanwhile get their probes rewritten.
func (c *Config) Inject(in *corev1.Pod, namespaceLabels map[string]string) (*corev1.Pod, []string, error) {
	if in.Spec.HostNetwork || in.Annotations[AnnotationInject] == disabled || in.Annotations[mirrorAnnotation] != "" {
		return in, nil, nil
	}
	pod := in.DeepCopy()
	if pod.Annotations == nil {
		pod.Annotations = map[string]string{}
	}
	before := takeAway(pod)
	r := &reader{annotations: pod.Annotations}
	if value, ok := pod.Annotations[AnnotationInject]; ok && value != NamespaceEnabled {
		r.fault(AnnotationInject, "want %q to keep the pod out of the mesh", disabled)
	}
	settings := r.settings(c.Defaults)
	faults := append(faultsOf(pod, namespaceLabels), r.faults...)

	t := &table{}
	var err error
	if t.before, err = byID(before.proxy); err != nil {
		faults = append(faults, err.Error()+": remove container "+ContainerProxy)
	}
	for container := range containers(pod) {
		t.rewrite(container)
	}
	faults = append(faults, t.faults...)
	scrape, warning, err := redirectScrape(pod, before.env(probe.EnvScrape))
	if err != nil {
		faults = append(faults, err.Error())
	}
	probes, err := probe.Encode(t.specs)
	if err != nil {
		faults = append(faults, err.Error())
	}
	if len(faults) > 0 {
		return nil, nil, &Refusal{Faults: faults}
	}
	if len(t.specs) == 0 {
		probes = ""
	}
	if err := c.put(pod, before, &settings, map[string]string{probe.EnvProbes: probes, probe.EnvScrape: scrape}); err != nil {
		return nil, nil, err
	}
	return pod, warnings(pod, warning), nil
}

// parts are what an earlier pass added.
type parts struct {
	init, proxy *corev1.Container
	volumes     []corev1.Volume
	all         []corev1.Volume // of the pod, in their order
}

func (p *parts) env(name string) string {
	if p.proxy == nil {
		return ""
	}
	return env(p.proxy, name)
}

// takeAway removes what an earlier pass added and returns it. Containers of our names that no pass added stay, and are
// faults.
func takeAway(pod *corev1.Pod) *parts {
	p := &parts{all: slices.Clone(pod.Spec.Volumes)}
	if pod.Annotations[Injected] != "true" {
		return p
	}
	pod.Spec.InitContainers = slices.DeleteFunc(pod.Spec.InitContainers, func(c corev1.Container) bool {
		switch c.Name {
		case ContainerInit:
			p.init = &c
		case ContainerProxy:
			p.proxy = &c
		default:
			return false
		}
		return true
	})
	pod.Spec.Volumes = slices.DeleteFunc(pod.Spec.Volumes, func(v corev1.Volume) bool {
		if !slices.Contains(ourVolumes, v.Name) {
			return false
		}
		p.volumes = append(p.volumes, v)
		return true
	})
	return p
}

// put adds what belongs in the pod: the earlier pass's parts when they were made from the same settings, else new ones.
func (c *Config) put(pod *corev1.Pod, before *parts, s *Settings, environment map[string]string) error {
	use := &parts{init: new(c.initContainer(s)), proxy: new(c.proxyContainer(s)), volumes: volumes()}
	use.all = append(pod.Spec.Volumes, use.volumes...)
	digest, err := use.digest()
	if err != nil {
		return err
	}
	if before.init != nil && before.proxy != nil && len(before.volumes) == len(ourVolumes) && pod.Annotations[AnnotationDigest] == digest {
		use = before
	}
	for _, name := range []string{probe.EnvProbes, probe.EnvScrape} {
		setEnv(use.proxy, name, environment[name])
	}
	pod.Spec.InitContainers = append([]corev1.Container{*use.init, *use.proxy}, pod.Spec.InitContainers...)
	pod.Spec.Volumes = use.all
	if pod.Labels == nil {
		pod.Labels = map[string]string{}
	}
	pod.Labels[Injected] = "true"
	pod.Annotations[Injected] = "true"
	pod.Annotations[AnnotationVersion] = c.Version
	pod.Annotations[AnnotationDigest] = digest
	return nil
}

// digest tells apart what was made from other settings. The probes are left out: they are the pod's own.
func (p *parts) digest() (string, error) {
	b, err := json.Marshal([]any{p.init, p.proxy, p.volumes})
	if err != nil {
		return "", fmt.Errorf("encode the proxy's containers: %w", err)
	}
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:8]), nil
}

// setEnv sets a variable in place, or removes it when the value is empty.
func setEnv(c *corev1.Container, name, value string) {
	at := slices.IndexFunc(c.Env, func(e corev1.EnvVar) bool { return e.Name == name })
	switch {
	case value == "" && at >= 0:
		c.Env = slices.Delete(slices.Clone(c.Env), at, at+1)
	case value != "" && at >= 0:
		c.Env[at].Value = value
	case value != "":
		c.Env = append(c.Env, corev1.EnvVar{Name: name, Value: value})
	}
}

func warnings(pod *corev1.Pod, more string) []string {
	var all []string
	for _, key := range unknown(pod.Annotations) {
		all = append(all, fmt.Sprintf("annotation %s is not one of Heddle's: is it misspelt?", key))
	}
	if more != "" {
		all = append(all, more)
	}
	return all
}
