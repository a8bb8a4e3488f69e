// SPDX-License-Identifier: Apache-2.0

// Package envtest holds the tests of the API against a real API server: what the
// schemas accept and refuse, what they default, what `kubectl get` prints, and
// how status is applied. All tests share one API server and one etcd.
package envtest

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/envtest"
	"sigs.k8s.io/yaml"

	"github.com/heddle-mesh/heddle/api/v1alpha1"
)

const crdDir = "../../config/crd/bases"

var (
	config *rest.Config
	api    client.Client
)

func TestMain(m *testing.M) {
	code, err := run(m)
	if err != nil {
		fmt.Fprintln(os.Stderr, "envtest:", err)
		code = 1
	}
	os.Exit(code)
}

func run(m *testing.M) (code int, err error) {
	// Skipping would let a broken schema pass unseen, so a missing server fails.
	if os.Getenv("KUBEBUILDER_ASSETS") == "" {
		return 0, fmt.Errorf("KUBEBUILDER_ASSETS names no directory with kube-apiserver and etcd: run `make test-envtest`, which builds them")
	}
	env := &envtest.Environment{CRDDirectoryPaths: []string{crdDir}, ErrorIfCRDPathMissing: true}
	if config, err = env.Start(); err != nil {
		return 0, fmt.Errorf("start the API server: %w", err)
	}
	defer func() {
		if stopErr := env.Stop(); stopErr != nil && err == nil {
			err = fmt.Errorf("stop the API server: %w", stopErr)
		}
	}()
	// The tests below are many small requests, which client-side throttling would
	// turn into minutes.
	config.QPS = -1
	scheme := runtime.NewScheme()
	if err := corev1.AddToScheme(scheme); err != nil {
		return 0, err
	}
	if err := v1alpha1.AddToScheme(scheme); err != nil {
		return 0, err
	}
	if api, err = client.New(config, client.Options{Scheme: scheme}); err != nil {
		return 0, fmt.Errorf("make a client: %w", err)
	}
	return m.Run(), nil
}

// object makes an object of the mesh from the YAML of its spec. It is
// unstructured, because the Go types leave out what is empty.
func object(t *testing.T, kind, name, spec string) *unstructured.Unstructured {
	t.Helper()
	obj := &unstructured.Unstructured{Object: map[string]any{}}
	var fields map[string]any
	if err := yaml.Unmarshal([]byte(spec), &fields); err != nil {
		t.Fatalf("the case is not YAML: %v\n%s", err, spec)
	}
	obj.SetGroupVersionKind(v1alpha1.GroupVersion.WithKind(kind))
	obj.SetNamespace(metav1.NamespaceDefault)
	obj.SetName(name)
	obj.Object["spec"] = fields
	return obj
}

// tryCreate asks the API server to create an object without keeping it, as
// `kubectl apply --dry-run=server` does: unknown fields are errors.
func tryCreate(t *testing.T, obj *unstructured.Unstructured) error {
	t.Helper()
	return api.Create(t.Context(), obj, client.DryRunAll, client.FieldValidation(metav1.FieldValidationStrict))
}

// accepts runs a table of specs that the API server must take, keyed by what they
// show.
func accepts(t *testing.T, kind string, cases map[string]string) {
	t.Helper()
	for name, spec := range cases {
		t.Run(name, func(t *testing.T) {
			if err := tryCreate(t, object(t, kind, "case", spec)); err != nil {
				t.Errorf("refused: %v", err)
			}
		})
	}
}

// refusal is a spec that the API server must refuse, with the field that the
// error must point at and a part of its message.
type refusal struct {
	spec, field, message string
}

// refuses runs a table of specs that the API server must refuse.
func refuses(t *testing.T, kind string, cases map[string]refusal) {
	t.Helper()
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			err := tryCreate(t, object(t, kind, "case", tc.spec))
			if err == nil {
				t.Fatal("accepted")
			}
			if !hasCause(err, tc.field, tc.message) {
				t.Errorf("no error at %s that says %q in:\n%s", tc.field, tc.message, causes(err))
			}
		})
	}
}

func hasCause(err error, field, message string) bool {
	for _, cause := range causesOf(err) {
		if cause.Field == field && strings.Contains(cause.Message, message) {
			return true
		}
	}
	return false
}

// causes is an error of the API server, one field a line.
func causes(err error) string {
	list := causesOf(err)
	if len(list) == 0 {
		return err.Error()
	}
	var s strings.Builder
	for _, cause := range list {
		fmt.Fprintf(&s, "%s: %s\n", cause.Field, cause.Message)
	}
	return s.String()
}

func causesOf(err error) []metav1.StatusCause {
	var status apierrors.APIStatus
	if !errors.As(err, &status) || status.Status().Details == nil {
		return nil
	}
	return status.Status().Details.Causes
}
