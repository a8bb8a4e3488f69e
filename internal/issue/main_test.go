// SPDX-License-Identifier: Apache-2.0

package issue

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
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/envtest"
)

// apiServer is a real one, shared by the tests that need it; nil when KUBEBUILDER_ASSETS names no binaries.
var (
	apiServer  *rest.Config
	kubeconfig []byte
	scheme     = runtime.NewScheme()
)

func TestMain(m *testing.M) {
	utilruntime.Must(clientgoscheme.AddToScheme(scheme))
	utilruntime.Must(cmapi.AddToScheme(scheme))
	ctrl.SetLogger(logr.Discard())
	os.Exit(run(m))
}

func run(m *testing.M) int {
	stop, err := startAPIServer()
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	code := m.Run()
	if err := stop(); err != nil {
		fmt.Fprintln(os.Stderr, "stop the API server:", err)
	}
	if err := goleak.Find(); code == 0 && err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return code
}

func startAPIServer() (stop func() error, err error) {
	if os.Getenv("KUBEBUILDER_ASSETS") == "" {
		return func() error { return nil }, nil
	}
	crds, err := certManagerCRDs()
	if err != nil {
		return nil, err
	}
	env := &envtest.Environment{CRDDirectoryPaths: []string{crds}, ErrorIfCRDPathMissing: true}
	if apiServer, err = env.Start(); err != nil {
		return nil, fmt.Errorf("start the API server: %w", err)
	}
	kubeconfig = env.KubeConfig
	return env.Stop, nil
}

// certManagerCRDs are in the module that the API types come from.
func certManagerCRDs() (string, error) {
	dir, err := exec.Command("go", "list", "-m", "-f", "{{.Dir}}", "github.com/cert-manager/cert-manager").Output()
	if err != nil {
		return "", fmt.Errorf("find the CRDs of cert-manager: %w", err)
	}
	return filepath.Join(strings.TrimSpace(string(dir)), "deploy", "crds"), nil
}
