// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/go-logr/logr"
	"go.uber.org/goleak"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	"k8s.io/apimachinery/pkg/runtime"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/rest"
	"k8s.io/klog/v2"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/envtest"

	"github.com/heddle-mesh/heddle/api/v1alpha1"
)

// crds are ours.
var crds = filepath.Join("..", "..", "config", "crd", "bases")

// A real API server, shared by the tests that need it; nil when KUBEBUILDER_ASSETS names no binaries.
var (
	apiServer *rest.Config
	api       client.Client
)

func TestMain(m *testing.M) {
	ctrl.SetLogger(logr.Discard())
	klog.SetLogger(logr.Discard())
	code, err := runTests(m)
	if err != nil {
		fmt.Fprintln(os.Stderr, "operator:", err)
		code = 1
	}
	os.Exit(code)
}

func runTests(m *testing.M) (int, error) {
	if os.Getenv("KUBEBUILDER_ASSETS") == "" {
		return m.Run(), nil
	}
	certManager, err := exec.Command("go", "list", "-m", "-f", "{{.Dir}}", "github.com/cert-manager/cert-manager").Output()
	if err != nil {
		return 0, fmt.Errorf("find the CRDs of cert-manager: %w", err)
	}
	env := &envtest.Environment{ErrorIfCRDPathMissing: true, CRDDirectoryPaths: []string{
		crds, filepath.Join(strings.TrimSpace(string(certManager)), "deploy", "crds"),
	}}
	if apiServer, err = env.Start(); err != nil {
		return 0, fmt.Errorf("start the API server: %w", err)
	}
	scheme := runtime.NewScheme()
	for _, add := range []func(*runtime.Scheme) error{clientgoscheme.AddToScheme, v1alpha1.AddToScheme, apiextensionsv1.AddToScheme} {
		if err := add(scheme); err != nil {
			return 0, err
		}
	}
	if api, err = client.New(apiServer, client.Options{Scheme: scheme}); err != nil {
		return 0, err
	}
	code := m.Run()
	if err := env.Stop(); err != nil {
		return code, fmt.Errorf("stop the API server: %w", err)
	}
	if code == 0 {
		err = goleak.Find()
	}
	return code, err
}
