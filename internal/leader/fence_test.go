// SPDX-License-Identifier: Apache-2.0

package leader_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/kubernetes/fake"
	clienttesting "k8s.io/client-go/testing"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/heddle-mesh/heddle/internal/leader"
)

func TestTermsNeverComeTwice(t *testing.T) {
	t.Parallel()
	cluster := fake.NewClientset()
	fence := &leader.Fence{ConfigMaps: cluster.CoreV1(), Namespace: "heddle-system"}
	for i, c := range []struct {
		transitions uint64
		epoch       uint32
		wantEpoch   uint32
		wantTerm    uint64
	}{
		{0, 0, 0, 0},
		{3, 0, 0, 3},
		{4, 0, 0, 4},
		{4, 0, 0, 5}, // the same transitions again
		{0, 0, 0, 6}, // somebody deleted the Lease
		{1, 2, 2, 7}, // etcd was restored, and the flag raised
		{9, 0, 2, 9}, // the flag was taken back: the epoch stays
	} {
		fence.Epoch = c.epoch
		epoch, term, err := fence.Next(t.Context(), c.transitions)
		if err != nil || epoch != c.wantEpoch || term != c.wantTerm {
			t.Errorf("leader %d: epoch %d, term %d, %v; want %d and %d", i, epoch, term, err, c.wantEpoch, c.wantTerm)
		}
	}
}

func TestFenceTriesAgainOnConflict(t *testing.T) {
	t.Parallel()
	cluster := fake.NewClientset(&corev1.ConfigMap{
		ObjectMeta: metav1.ObjectMeta{Namespace: "heddle-system", Name: leader.FenceName, ResourceVersion: "7"},
		Data:       map[string]string{"epoch": "1", "term": "41"},
	})
	conflicts := 2
	cluster.PrependReactor("update", "configmaps", func(clienttesting.Action) (bool, runtime.Object, error) {
		conflicts--
		if conflicts >= 0 {
			return true, nil, apierrors.NewConflict(schema.GroupResource{Resource: "configmaps"}, leader.FenceName, errors.New("changed"))
		}
		return false, nil, nil
	})
	fence := &leader.Fence{ConfigMaps: cluster.CoreV1(), Namespace: "heddle-system"}
	if epoch, term, err := fence.Next(t.Context(), 5); err != nil || epoch != 1 || term != 42 {
		t.Errorf("epoch %d, term %d, %v", epoch, term, err)
	}
}

func TestFenceRefusesWhatItCannotRead(t *testing.T) {
	t.Parallel()
	for name, data := range map[string]map[string]string{
		"a term that is no number": {"term": "many"},
		"an epoch below 0":         {"epoch": "-1"},
		"an epoch of 33 bits":      {"epoch": "4294967296"},
	} {
		cluster := fake.NewClientset(&corev1.ConfigMap{
			ObjectMeta: metav1.ObjectMeta{Namespace: "heddle-system", Name: leader.FenceName}, Data: data,
		})
		fence := &leader.Fence{ConfigMaps: cluster.CoreV1(), Namespace: "heddle-system"}
		if _, _, err := fence.Next(t.Context(), 5); err == nil || !strings.Contains(err.Error(), leader.FenceName) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// reader is a cache or an API server that holds pods, by name and resource version.
type reader struct {
	client.Reader

	version string
	pods    func() map[string]string
}

func (r reader) List(_ context.Context, list client.ObjectList, _ ...client.ListOption) error {
	list.SetResourceVersion(r.version)
	for name, version := range r.pods() {
		m := metav1.ObjectMeta{Namespace: "shop", Name: name, ResourceVersion: version}
		switch list := list.(type) {
		case *corev1.PodList:
			list.Items = append(list.Items, corev1.Pod{ObjectMeta: m})
		case *metav1.PartialObjectMetadataList:
			list.Items = append(list.Items, metav1.PartialObjectMetadata{ObjectMeta: m})
		}
	}
	return nil
}

func TestCatchUpWaitsForTheCache(t *testing.T) {
	t.Parallel()
	scheme := runtime.NewScheme()
	if err := corev1.AddToScheme(scheme); err != nil {
		t.Fatal(err)
	}
	live := map[string]string{"a": "10", "b": "12"} // as of 20
	cases := map[string]struct {
		cache map[string]string
		ok    bool
	}{
		"the same":                          {map[string]string{"a": "10", "b": "12"}, true},
		"one that is newer":                 {map[string]string{"a": "10", "b": "120"}, true},
		"one that was made since":           {map[string]string{"a": "10", "b": "12", "c": "21"}, true},
		"one that is older":                 {map[string]string{"a": "9", "b": "12"}, false},
		"one that is missing":               {map[string]string{"a": "10"}, false},
		"one that was deleted":              {map[string]string{"a": "10", "b": "12", "c": "13"}, false},
		"a version that cannot be compared": {map[string]string{"a": "x", "b": "12"}, false},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				start := time.Now()
				catchUp := &leader.CatchUp{
					Lists: []leader.KindList{{List: &corev1.PodList{}}},
					Live:  reader{version: "20", pods: func() map[string]string { return live }},
					Cache: reader{version: "1", pods: func() map[string]string {
						if time.Since(start) > 3*time.Second {
							return live
						}
						return c.cache
					}},
				}
				if err := catchUp.Wait(t.Context(), scheme); err != nil {
					t.Fatal(err)
				}
				if waited := time.Since(start) > 0; waited == c.ok {
					t.Errorf("waited %s, want to wait: %t", time.Since(start), !c.ok)
				}
				ctx, cancel := context.WithTimeout(t.Context(), time.Second)
				defer cancel()
				start = time.Now()
				if err := catchUp.Wait(ctx, scheme); (err == nil) != c.ok || err != nil && !strings.Contains(err.Error(), "shop/") {
					t.Errorf("within a second: %v, want ok %t", err, c.ok)
				}
			})
		})
	}
}
