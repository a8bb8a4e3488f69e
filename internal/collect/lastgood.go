// SPDX-License-Identifier: Apache-2.0

package collect

import (
	"encoding/json"
	"errors"
	"fmt"

	appsv1 "k8s.io/api/apps/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"

	"github.com/heddle-mesh/heddle/api/v1alpha1"
	"github.com/heddle-mesh/heddle/internal/snapshot"
)

// LastGoodLabel marks the ControllerRevisions that hold the last good spec of an object; its value is the object's UID.
const LastGoodLabel = "heddle.io/last-good"

// kept is what a ControllerRevision holds in its data: the parts of an object that its last good version is made of.
type kept struct {
	metav1.TypeMeta `json:",inline"`
	Metadata        keptMeta        `json:"metadata"`
	Spec            json.RawMessage `json:"spec"`
}

type keptMeta struct {
	Namespace         string      `json:"namespace"`
	Name              string      `json:"name"`
	UID               types.UID   `json:"uid"`
	Generation        int64       `json:"generation"`
	CreationTimestamp metav1.Time `json:"creationTimestamp"`
}

// Revision makes the ControllerRevision of an object's spec. Its name tells object and generation, because the data of a
// ControllerRevision cannot be changed; its owner is the object, so that it goes with it.
func Revision(object metav1.Object) (*appsv1.ControllerRevision, error) {
	kind, spec := specOf(object)
	if kind == "" {
		return nil, fmt.Errorf("%T has no last good spec", object)
	}
	raw, err := json.Marshal(spec)
	if err != nil {
		return nil, fmt.Errorf("encode the spec: %w", err)
	}
	typeMeta := metav1.TypeMeta{APIVersion: v1alpha1.GroupVersion.String(), Kind: kind}
	data, err := json.Marshal(kept{TypeMeta: typeMeta, Spec: raw, Metadata: keptMeta{
		Namespace: object.GetNamespace(), Name: object.GetName(), UID: object.GetUID(), Generation: object.GetGeneration(),
		CreationTimestamp: object.GetCreationTimestamp(),
	}})
	if err != nil {
		return nil, fmt.Errorf("encode the last good spec: %w", err)
	}
	return &appsv1.ControllerRevision{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: object.GetNamespace(),
			Name:      fmt.Sprintf("heddle-%s-%d", object.GetUID(), object.GetGeneration()),
			Labels:    map[string]string{LastGoodLabel: string(object.GetUID())},
			OwnerReferences: []metav1.OwnerReference{{
				APIVersion: typeMeta.APIVersion, Kind: kind, Name: object.GetName(), UID: object.GetUID(),
			}},
		},
		Revision: object.GetGeneration(),
		Data:     runtime.RawExtension{Raw: data},
	}, nil
}

func specOf(object metav1.Object) (kind string, spec any) {
	switch o := object.(type) {
	case *v1alpha1.TrafficSplit:
		return v1alpha1.KindTrafficSplit, &o.Spec
	case *v1alpha1.ServiceProfile:
		return v1alpha1.KindServiceProfile, &o.Spec
	case *v1alpha1.MeshPolicy:
		return v1alpha1.KindMeshPolicy, &o.Spec
	default:
		return "", nil
	}
}

// ParseRevision reads what Revision made.
func ParseRevision(r *appsv1.ControllerRevision) (snapshot.ObjectKey, *snapshot.LastGood, error) {
	fail := func(err error) (snapshot.ObjectKey, *snapshot.LastGood, error) {
		return snapshot.ObjectKey{}, nil, fmt.Errorf("ControllerRevision %s/%s: %w", r.Namespace, r.Name, err)
	}
	var k kept
	if err := json.Unmarshal(r.Data.Raw, &k); err != nil {
		return fail(err)
	}
	key := snapshot.ObjectKey{Kind: k.Kind, Namespace: k.Metadata.Namespace, Name: k.Metadata.Name}
	good := &snapshot.LastGood{UID: k.Metadata.UID, Generation: k.Metadata.Generation, Created: k.Metadata.CreationTimestamp}
	var spec any
	switch k.Kind {
	case v1alpha1.KindTrafficSplit:
		good.TrafficSplit = &v1alpha1.TrafficSplitSpec{}
		spec = good.TrafficSplit
	case v1alpha1.KindServiceProfile:
		good.ServiceProfile = &v1alpha1.ServiceProfileSpec{}
		spec = good.ServiceProfile
	case v1alpha1.KindMeshPolicy:
		good.MeshPolicy = &v1alpha1.MeshPolicySpec{}
		spec = good.MeshPolicy
	default:
		return fail(fmt.Errorf("kind %q has no last good spec", k.Kind))
	}
	switch {
	case k.APIVersion != v1alpha1.GroupVersion.String():
		return fail(fmt.Errorf("apiVersion %q: want %q", k.APIVersion, v1alpha1.GroupVersion))
	case key.Namespace != r.Namespace || string(good.UID) != r.Labels[LastGoodLabel] || good.Generation != r.Revision:
		return fail(errors.New("it says another object than its labels do"))
	}
	if err := json.Unmarshal(k.Spec, spec); err != nil {
		return fail(fmt.Errorf("spec: %w", err))
	}
	return key, good, nil
}
