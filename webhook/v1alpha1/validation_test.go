// SPDX-License-Identifier: Apache-2.0

package v1alpha1

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	utilruntime "k8s.io/apimachinery/pkg/util/runtime"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/envtest"
	"sigs.k8s.io/controller-runtime/pkg/webhook"
	"sigs.k8s.io/controller-runtime/pkg/webhook/admission"
	"sigs.k8s.io/yaml"

	"github.com/heddle-mesh/heddle/api/v1alpha1"
)

const operatorNamespace = "heddle-system"

// The webhook as it is installed, on a real API server whose CRDs hold the CEL rules: what is refused here passed those.
func TestWhatCELCannotSayIsRefused(t *testing.T) {
	api, stop := install(t)
	for name, tc := range map[string]struct {
		kind, namespace, spec string
		want                  []string // words of the refusal; none: it is taken
	}{
		"a policy for the mesh where it belongs": {v1alpha1.KindMeshPolicy, operatorNamespace, `{targetRef: {kind: Mesh}, mtls: {mode: Strict}}`, nil},
		"a policy for the mesh elsewhere": {
			v1alpha1.KindMeshPolicy, "default", `{targetRef: {kind: Mesh}, mtls: {mode: Strict}}`,
			[]string{"spec.targetRef.kind", operatorNamespace},
		},
		"a path whose escapes the proxies find too long": {
			v1alpha1.KindServiceProfile, "default",
			`{service: {name: checkout}, routes: [{name: all, matches: [{path: {type: Prefix, value: /` + strings.Repeat("道", 456) + `}}]}]}`,
			[]string{"spec.routes[0].matches[0].path.value", "at most 4096 bytes"},
		},
		"a split":   {v1alpha1.KindTrafficSplit, "default", `{service: {name: checkout}, backends: [{name: v1, service: {name: v1}}]}`, nil},
		"a profile": {v1alpha1.KindServiceProfile, "default", `{service: {name: checkout}, routes: [{name: all}]}`, nil},
	} {
		t.Run(name, func(t *testing.T) {
			err := api.Create(t.Context(), object(t, tc.kind, tc.namespace, tc.spec))
			if len(tc.want) == 0 {
				if err != nil {
					t.Error(err)
				}
				return
			}
			if !apierrors.IsInvalid(err) && !apierrors.IsForbidden(err) || !strings.Contains(err.Error(), "admission webhook") {
				t.Fatalf("got %v: want the webhook's refusal", err)
			}
			for _, words := range tc.want {
				if !strings.Contains(err.Error(), words) {
					t.Errorf("got %v: want it to say %q", err, words)
				}
			}
		})
	}

	stop()
	t.Run("without the operator all pass, and the conditions tell", func(t *testing.T) {
		wrong := object(t, v1alpha1.KindMeshPolicy, "default", `{targetRef: {kind: Mesh}, mtls: {mode: Strict}}`)
		if err := api.Create(t.Context(), wrong); err != nil {
			t.Fatal(err)
		}
	})
}

func TestAnUpdateIsJudgedOnlyIfItChangesTheSpec(t *testing.T) {
	mesh := func() *v1alpha1.MeshPolicy {
		return object(t, v1alpha1.KindMeshPolicy, "default", `{targetRef: {kind: Mesh}, mtls: {mode: Strict}}`).(*v1alpha1.MeshPolicy)
	}
	v := meshPolicies(operatorNamespace)
	labelled := mesh()
	labelled.Labels = map[string]string{"a": "b"}
	if _, err := v.ValidateUpdate(t.Context(), mesh(), labelled); err != nil {
		t.Errorf("a label on a wrong object: %v", err)
	}
	changed := mesh()
	changed.Spec.MTLS.Mode = v1alpha1.MTLSDisabled
	if _, err := v.ValidateUpdate(t.Context(), mesh(), changed); !apierrors.IsInvalid(err) {
		t.Errorf("another wrong spec: %v", err)
	}
	if _, err := v.ValidateDelete(t.Context(), mesh()); err != nil {
		t.Errorf("deletion of a wrong object: %v", err)
	}
}

func TestFaultsThatAreHardlyMeantAreWarnedOf(t *testing.T) {
	now := time.Now()
	for what, tc := range map[string]struct {
		in   time.Duration
		want string // words of the warning; "": none
	}{
		"it is over":                    {-time.Hour, "so that it injects nothing: set a later date, or take it out"},
		"it ends soon":                  {time.Hour, ""},
		"it ends within the month":      {29 * 24 * time.Hour, ""},
		"its year has a typing mistake": {100 * 365 * 24 * time.Hour, "more than 30 days from now: set an earlier date"},
	} {
		t.Run(what, func(t *testing.T) {
			end := now.Add(tc.in).UTC().Format(time.RFC3339)
			profile := func(percent int) *v1alpha1.ServiceProfile {
				return object(t, "", "default", fmt.Sprintf(`{service: {name: web}, faults: [{name: slow, percent: %d, delay: 1s, expiresAt: %q}]}`,
					percent, end)).(*v1alpha1.ServiceProfile)
			}
			v := serviceProfiles()
			created, err := v.ValidateCreate(t.Context(), profile(1))
			if err != nil {
				t.Fatal(err)
			}
			updated, err := v.ValidateUpdate(t.Context(), profile(1), profile(2))
			if err != nil {
				t.Fatal(err)
			}
			for _, got := range []admission.Warnings{created, updated} {
				text := strings.Join(got, "\n")
				if tc.want == "" {
					if text != "" {
						t.Errorf("warned of it: %s", text)
					}
					continue
				}
				for _, words := range []string{"spec.faults[0].expiresAt: fault slow", end, tc.want} {
					if len(got) != 1 || !strings.Contains(text, words) || len(text) > 256 {
						t.Errorf("warnings %q: want one of at most 256 bytes that says %q", got, words)
					}
				}
			}
			labelled := profile(1)
			labelled.Labels = map[string]string{"a": "b"}
			if got, err := v.ValidateUpdate(t.Context(), profile(1), labelled); err != nil || len(got) > 0 {
				t.Errorf("a label alone: %q, %v", got, err)
			}
		})
	}
}

// install serves the webhooks and has the API server call them as config/webhook says. The second result ends them.
func install(t *testing.T) (client.Client, func()) {
	t.Helper()
	if os.Getenv("KUBEBUILDER_ASSETS") == "" {
		t.Fatal("KUBEBUILDER_ASSETS is not set: run make test-envtest")
	}
	scheme := runtime.NewScheme()
	utilruntime.Must(clientgoscheme.AddToScheme(scheme))
	utilruntime.Must(v1alpha1.AddToScheme(scheme))
	config := filepath.Join("..", "..", "config")
	env := &envtest.Environment{
		CRDDirectoryPaths:     []string{filepath.Join(config, "crd", "bases")},
		ErrorIfCRDPathMissing: true,
		WebhookInstallOptions: envtest.WebhookInstallOptions{Paths: []string{filepath.Join(config, "webhook", "validator.yaml")}},
	}
	rest, err := env.Start()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := env.Stop(); err != nil {
			t.Error(err)
		}
	})
	options := env.WebhookInstallOptions
	server := webhook.NewServer(webhook.Options{Host: options.LocalServingHost, Port: options.LocalServingPort, CertDir: options.LocalServingCertDir})
	Register(server, scheme, operatorNamespace)
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	var group sync.WaitGroup
	group.Go(func() {
		if err := server.Start(ctx); err != nil {
			t.Errorf("serve the webhooks: %v", err)
		}
	})
	stop := sync.OnceFunc(func() {
		cancel()
		group.Wait()
	})
	t.Cleanup(stop)
	api, err := client.New(rest, client.Options{Scheme: scheme})
	if err != nil {
		t.Fatal(err)
	}
	if err := api.Create(t.Context(), &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: operatorNamespace}}); err != nil {
		t.Fatal(err)
	}
	untilCalled(t, api)
	return api, stop
}

// untilCalled waits until the API server calls the webhook: it takes a configuration in a moment later, and fails open.
func untilCalled(t *testing.T, api client.Client) {
	t.Helper()
	deadline := time.NewTimer(30 * time.Second)
	defer deadline.Stop()
	ticker := time.NewTicker(50 * time.Millisecond)
	defer ticker.Stop()
	for {
		elsewhere := object(t, v1alpha1.KindMeshPolicy, "default", `{targetRef: {kind: Mesh}, mtls: {mode: Strict}}`)
		if err := api.Create(t.Context(), elsewhere, client.DryRunAll); err != nil && strings.Contains(err.Error(), operatorNamespace) {
			return
		}
		select {
		case <-ticker.C:
		case <-deadline.C:
			t.Fatal("the API server does not call the webhook within 30 s")
		}
	}
}

func object(t *testing.T, kind, namespace, spec string) client.Object {
	t.Helper()
	meta := metav1.ObjectMeta{Namespace: namespace, Name: "case"}
	var into any
	var out client.Object
	switch kind {
	case v1alpha1.KindMeshPolicy:
		o := &v1alpha1.MeshPolicy{ObjectMeta: meta}
		into, out = &o.Spec, o
	case v1alpha1.KindTrafficSplit:
		o := &v1alpha1.TrafficSplit{ObjectMeta: meta}
		into, out = &o.Spec, o
	default:
		o := &v1alpha1.ServiceProfile{ObjectMeta: meta}
		into, out = &o.Spec, o
	}
	if err := yaml.UnmarshalStrict([]byte(spec), into); err != nil {
		t.Fatalf("%v in %s", err, spec)
	}
	return out
}
