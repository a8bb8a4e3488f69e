// SPDX-License-Identifier: Apache-2.0

package inject

import (
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"

	"gomodules.xyz/jsonpatch/v2"
	corev1 "k8s.io/api/core/v1"
)

// patch returns the JSON patch (RFC 6902) from one pod to the other. It touches only what injection changes, so fields
// that this program's version of the API does not know stay, and the same change is the same patch, byte for byte,
// which a general difference of two documents does not promise.
func patch(from, to *corev1.Pod) []jsonpatch.Operation {
	p := &patcher{}
	p.stringMap("/metadata/labels", from.Labels, to.Labels)
	p.stringMap("/metadata/annotations", from.Annotations, to.Annotations)
	p.volumes(from.Spec.Volumes, to.Spec.Volumes)
	p.handlers("/spec/containers", from.Spec.Containers, to.Spec.Containers)
	p.initContainers(from.Spec.InitContainers, to.Spec.InitContainers)
	return p.operations
}

type patcher struct{ operations []jsonpatch.Operation }

func (p *patcher) add(path string, value any) {
	p.operations = append(p.operations, jsonpatch.NewOperation("add", path, value))
}

func (p *patcher) replace(path string, value any) {
	p.operations = append(p.operations, jsonpatch.NewOperation("replace", path, value))
}

func (p *patcher) remove(path string) {
	p.operations = append(p.operations, jsonpatch.NewOperation("remove", path, nil))
}

// pointer escapes a key (RFC 6901 3).
var pointer = strings.NewReplacer("~", "~0", "/", "~1")

// stringMap sets keys; injection removes none.
func (p *patcher) stringMap(path string, from, to map[string]string) {
	if len(from) == 0 {
		if len(to) > 0 {
			p.add(path, to)
		}
		return
	}
	for _, key := range slices.Sorted(maps.Keys(to)) {
		if old, ok := from[key]; !ok || old != to[key] {
			p.add(path+"/"+pointer.Replace(key), to[key]) // replaces an old value as well
		}
	}
}

// volumes removes ours where they differ and appends them anew.
func (p *patcher) volumes(from, to []corev1.Volume) {
	const path = "/spec/volumes"
	if reflect.DeepEqual(from, to) {
		return
	}
	if len(from) == 0 {
		p.add(path, to)
		return
	}
	for i := len(from) - 1; i >= 0; i-- {
		if slices.Contains(ourVolumes, from[i].Name) {
			p.remove(fmt.Sprintf("%s/%d", path, i))
		}
	}
	for _, volume := range to {
		if slices.Contains(ourVolumes, volume.Name) {
			p.add(path+"/-", volume)
		}
	}
}

// initContainers has ours first. Those of the pod keep their order.
func (p *patcher) initContainers(from, to []corev1.Container) {
	const path = "/spec/initContainers"
	if len(from) == 0 {
		if len(to) > 0 {
			p.add(path, to)
		}
		return
	}
	theirs := slices.DeleteFunc(slices.Clone(to), isOurs)
	at := 0
	for i := range from {
		if !isOurs(from[i]) {
			p.handlersOf(fmt.Sprintf("%s/%d", path, i), &from[i], &theirs[at])
			at++
		}
	}
	if len(from) > 1 && reflect.DeepEqual(from[:2], to[:2]) {
		return
	}
	for i := len(from) - 1; i >= 0; i-- {
		if isOurs(from[i]) {
			p.remove(fmt.Sprintf("%s/%d", path, i))
		}
	}
	for i := range to {
		if isOurs(to[i]) {
			p.add(fmt.Sprintf("%s/%d", path, i), to[i])
		}
	}
}

func isOurs(c corev1.Container) bool { return c.Name == ContainerInit || c.Name == ContainerProxy }

func (p *patcher) handlers(path string, from, to []corev1.Container) {
	for i := range from {
		p.handlersOf(fmt.Sprintf("%s/%d", path, i), &from[i], &to[i])
	}
}

func (p *patcher) handlersOf(path string, from, to *corev1.Container) {
	p.probe(path+"/livenessProbe", from.LivenessProbe, to.LivenessProbe)
	p.probe(path+"/readinessProbe", from.ReadinessProbe, to.ReadinessProbe)
	p.probe(path+"/startupProbe", from.StartupProbe, to.StartupProbe)
	if from.Lifecycle == nil {
		return
	}
	p.hook(path+"/lifecycle/postStart", from.Lifecycle.PostStart, to.Lifecycle.PostStart)
	p.hook(path+"/lifecycle/preStop", from.Lifecycle.PreStop, to.Lifecycle.PreStop)
}

func (p *patcher) probe(path string, from, to *corev1.Probe) {
	if from == nil || reflect.DeepEqual(from.ProbeHandler, to.ProbeHandler) {
		return
	}
	switch {
	case from.HTTPGet != nil:
		p.replace(path+"/httpGet", to.HTTPGet)
		return
	case from.TCPSocket != nil:
		p.remove(path + "/tcpSocket")
	case from.GRPC != nil:
		p.remove(path + "/grpc")
	}
	p.add(path+"/httpGet", to.HTTPGet)
}

func (p *patcher) hook(path string, from, to *corev1.LifecycleHandler) {
	if from != nil && !reflect.DeepEqual(from, to) {
		p.replace(path+"/httpGet", to.HTTPGet)
	}
}
