// SPDX-License-Identifier: Apache-2.0

package inject

import (
	"context"
	"errors"
	"strings"
	"testing"

	"github.com/go-logr/logr/funcr"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	admissionv1 "k8s.io/api/admission/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/webhook/admission"
)

// namespaces has one, which enforces Pod Security baseline.
type namespaces struct{ client.Reader }

func (namespaces) Get(_ context.Context, key client.ObjectKey, into client.Object, _ ...client.GetOption) error {
	ns, ok := into.(*corev1.Namespace)
	if !ok || key.Name != "baseline" {
		return errors.New("not found")
	}
	ns.Labels = map[string]string{podSecurityLabel: "baseline"}
	return nil
}

func TestEveryVerdictIsCountedAndARefusalLogged(t *testing.T) {
	for name, tc := range map[string]struct {
		namespace, pod string
		operation      admissionv1.Operation
		result         string // of the counter, if it counts
		allowed        bool
		says, logs     string
	}{
		"a pod that is injected":        {"shop", `{"spec":{"containers":[{"name":"app"}]}}`, admissionv1.Create, resultInjected, true, "", ""},
		"a pod that takes none":         {"shop", `{"spec":{"hostNetwork":true}}`, admissionv1.Create, resultUnchanged, true, "", ""},
		"a pod that can't work":         {"shop", `{"spec":{"shareProcessNamespace":true}}`, admissionv1.Create, resultRefused, false, "unset it", "pod refused"},
		"a namespace that forbids it":   {"baseline", `{"spec":{}}`, admissionv1.Create, resultRefused, false, "NET_ADMIN", "pod refused"},
		"something that is no pod":      {"shop", `{"spec":7}`, admissionv1.Create, resultError, false, "read the pod", ""},
		"what is not a pod's beginning": {"shop", `{"spec":{}}`, admissionv1.Update, "", true, "only new pods", ""},
	} {
		t.Run(name, func(t *testing.T) {
			var logged strings.Builder
			log := funcr.New(func(_, args string) { logged.WriteString(args) }, funcr.Options{})
			h, err := NewHandler(*testConfig(t), namespaces{}, log, prometheus.NewRegistry())
			if err != nil {
				t.Fatal(err)
			}
			got := h.Handle(t.Context(), admission.Request{AdmissionRequest: admissionv1.AdmissionRequest{
				Operation: tc.operation, Namespace: tc.namespace, Object: runtime.RawExtension{Raw: []byte(tc.pod)},
			}})
			if got.Allowed != tc.allowed || !strings.Contains(got.Result.Message, tc.says) {
				t.Errorf("allowed %t, %q: want %t, %q", got.Allowed, got.Result.Message, tc.allowed, tc.says)
			}
			for _, result := range []string{resultInjected, resultUnchanged, resultRefused, resultError} {
				want := 0.0
				if result == tc.result {
					want = 1
				}
				if n := testutil.ToFloat64(h.pods.WithLabelValues(result)); n != want {
					t.Errorf("counted %v as %s: want %v", n, result, want)
				}
			}
			if !strings.Contains(logged.String(), tc.logs) {
				t.Errorf("the log has %q: want %q", logged.String(), tc.logs)
			}
		})
	}
}
