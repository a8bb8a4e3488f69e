// SPDX-License-Identifier: Apache-2.0

package controllers

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	cmapi "github.com/cert-manager/cert-manager/pkg/apis/certmanager/v1"
	"github.com/go-logr/logr"
	"go.uber.org/goleak"
	"k8s.io/apimachinery/pkg/runtime"
	utilruntime "k8s.io/apimachinery/pkg/util/runtime"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/rest"
	"k8s.io/klog/v2"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/envtest"

	"github.com/heddle-mesh/heddle/api/v1alpha1"
)

// One API server for all tests of the package.
var (
	apiServer *rest.Config
	api       client.Client // without a cache
	scheme    = runtime.NewScheme()
)

func TestMain(m *testing.M) {
	utilruntime.Must(clientgoscheme.AddToScheme(scheme))
	utilruntime.Must(v1alpha1.AddToScheme(scheme))
	utilruntime.Must(cmapi.AddToScheme(scheme))
	ctrl.SetLogger(logr.Discard())
	klog.SetLogger(logr.Discard())
	code, err := run(m)
	if err != nil {
		fmt.Fprintln(os.Stderr, "controllers:", err)
		code = 1
	}
	os.Exit(code)
}

func run(m *testing.M) (int, error) {
	// Skipping would let a broken controller pass unseen, so a missing server fails.
	if os.Getenv("KUBEBUILDER_ASSETS") == "" {
		return 0, fmt.Errorf("KUBEBUILDER_ASSETS names no directory with kube-apiserver and etcd: run `make test-envtest`, which builds them")
	}
	certManager, err := exec.Command("go", "list", "-m", "-f", "{{.Dir}}", "github.com/cert-manager/cert-manager").Output()
	if err != nil {
		return 0, fmt.Errorf("find the CRDs of cert-manager: %w", err)
	}
	env := &envtest.Environment{ErrorIfCRDPathMissing: true, CRDDirectoryPaths: []string{
		filepath.Join("..", "config", "crd", "bases"), filepath.Join(strings.TrimSpace(string(certManager)), "deploy", "crds"),
	}}
	if apiServer, err = env.Start(); err != nil {
		return 0, fmt.Errorf("start the API server: %w", err)
	}
	apiServer.QPS = -1
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
