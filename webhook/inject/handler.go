// SPDX-License-Identifier: Apache-2.0

package inject

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"

	"github.com/go-logr/logr"
	"github.com/prometheus/client_golang/prometheus"
	admissionv1 "k8s.io/api/admission/v1"
	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/webhook/admission"
)

// Path is where the API server sends pods.
const Path = "/inject-v1-pod"

// Handler answers the API server's admission requests for pods.
type Handler struct {
	config     Config
	namespaces client.Reader
	log        logr.Logger
	pods       *prometheus.CounterVec
}

// The label of the counter.
const (
	resultInjected  = "injected"
	resultUnchanged = "unchanged"
	resultRefused   = "refused"
	resultError     = "error"
)

// NewHandler returns a Handler. namespaces may be a cache; a namespace that it does not have is taken for one without
// labels, as Pod Security Admission refuses by itself what can't run there.
func NewHandler(config Config, namespaces client.Reader, log logr.Logger, metrics prometheus.Registerer) (*Handler, error) {
	if err := config.Validate(); err != nil {
		return nil, err
	}
	h := &Handler{
		config: config, namespaces: namespaces, log: log,
		pods: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "heddle_injections_total",
			Help: "Pods of meshed namespaces that were created, by what injection did with them.",
		}, []string{"result"}),
	}
	for _, result := range []string{resultInjected, resultUnchanged, resultRefused, resultError} {
		h.pods.WithLabelValues(result)
	}
	if err := metrics.Register(h.pods); err != nil {
		return nil, fmt.Errorf("register the metrics of injection: %w", err)
	}
	return h, nil
}

// +kubebuilder:rbac:groups="",resources=namespaces,verbs=get;list;watch

// Handle injects the proxy, or refuses the pod.
func (h *Handler) Handle(ctx context.Context, req admission.Request) admission.Response {
	if req.Operation != admissionv1.Create {
		return admission.Allowed("only new pods are injected")
	}
	pod := &corev1.Pod{}
	if err := json.Unmarshal(req.Object.Raw, pod); err != nil {
		h.pods.WithLabelValues(resultError).Inc()
		return admission.Errored(http.StatusBadRequest, fmt.Errorf("read the pod: %w", err))
	}
	log := h.log.WithValues("namespace", req.Namespace, "pod", name(pod))
	injected, warnings, err := h.config.Inject(pod, h.labels(ctx, req.Namespace, log))
	if err != nil {
		refusal, ok := errors.AsType[*Refusal](err)
		if !ok {
			h.pods.WithLabelValues(resultError).Inc()
			return admission.Errored(http.StatusInternalServerError, err)
		}
		h.pods.WithLabelValues(resultRefused).Inc()
		log.Info("pod refused", "faults", refusal.Faults)
		return admission.Denied(err.Error())
	}
	operations := patch(pod, injected)
	result := resultInjected
	if len(operations) == 0 {
		result = resultUnchanged
	}
	h.pods.WithLabelValues(result).Inc()
	log.V(1).Info("pod admitted", "result", result)
	return admission.Patched("", operations...).WithWarnings(warnings...)
}

func (h *Handler) labels(ctx context.Context, namespace string, log logr.Logger) map[string]string {
	ns := &corev1.Namespace{}
	if err := h.namespaces.Get(ctx, client.ObjectKey{Name: namespace}, ns); err != nil {
		log.Info("namespace not read, its Pod Security level is not checked", "error", err.Error())
		return nil
	}
	return ns.Labels
}

func name(pod *corev1.Pod) string {
	if pod.Name != "" {
		return pod.Name
	}
	return pod.GenerateName + "*"
}
