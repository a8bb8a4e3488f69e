// SPDX-License-Identifier: Apache-2.0

package inject

import (
	"context"
	"encoding/json"
	"errors"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-logr/logr"
	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes/scheme"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/envtest"
	"sigs.k8s.io/controller-runtime/pkg/webhook"
)

// installation is config/default, applied to a real API server as users apply it, with the injector answering.
type installation struct {
	client.Client
	kubeconfig string
	stop       func() // the injector
}

// One test, since there is one cluster and it is installed once.
func TestInjectionAsItIsInstalled(t *testing.T) {
	i := install(t)
	i.serve(t)

	t.Run("the operator's pods meet the restricted Pod Security of their namespace", i.operatorIsRestricted)
	t.Run("a pod of a labelled namespace is injected, and what is stored needs no second pass", i.storedPodIsStable)
	t.Run("a namespace that enforces baseline refuses with the fix", func(t *testing.T) {
		err := i.Create(t.Context(), pod(i.namespace(t, map[string]string{NamespaceLabel: NamespaceEnabled, podSecurityLabel: "baseline"})))
		if err == nil || !strings.Contains(err.Error(), "NET_ADMIN") || !strings.Contains(err.Error(), "privileged") {
			t.Errorf("got %v", err)
		}
	})
	t.Run("a pod of another namespace is left alone", func(t *testing.T) { i.creates(t, pod(i.namespace(t, nil)), false) })

	i.stop()
	labelled := i.namespace(t, map[string]string{NamespaceLabel: NamespaceEnabled})
	t.Run("without the operator", func(t *testing.T) {
		t.Run("no pod of a labelled namespace is created", func(t *testing.T) {
			if err := i.Create(t.Context(), pod(labelled)); !apierrors.IsInternalError(err) {
				t.Errorf("got %v: want the webhook's failure", err)
			}
		})
		t.Run("one that opted out is", func(t *testing.T) {
			p := pod(labelled)
			p.Annotations = map[string]string{AnnotationInject: disabled}
			i.creates(t, p, false)
		})
		t.Run("one on the host's network is", func(t *testing.T) {
			p := pod(labelled)
			p.Spec.HostNetwork = true
			i.creates(t, p, false)
		})
		t.Run("one of another namespace is", func(t *testing.T) { i.creates(t, pod(i.namespace(t, nil)), false) })
		for _, system := range []string{"kube-system", "heddle-system"} {
			t.Run("one of "+system+" is, though that were labelled", func(t *testing.T) {
				i.label(t, system)
				i.creates(t, restricted(pod(system)), false)
			})
		}
	})

	i.kubectl(t, "delete", "--wait=false", "-k", filepath.Join("..", "..", "config", "default"))
	t.Run("after the uninstallation nothing blocks", func(t *testing.T) {
		i.until(t, "a pod is created", func() error { return i.Create(t.Context(), pod(labelled)) })
		for _, kind := range []string{"mutatingwebhookconfigurations", "validatingwebhookconfigurations"} {
			if left := i.kubectl(t, "get", kind, "-o", "name"); left != "" {
				t.Errorf("left: %s", left)
			}
		}
	})
}

func install(t *testing.T) *installation {
	t.Helper()
	if os.Getenv("KUBEBUILDER_ASSETS") == "" {
		t.Fatal("KUBEBUILDER_ASSETS is not set: run make test-envtest")
	}
	module, err := exec.CommandContext(t.Context(), "go", "list", "-m", "-f", "{{.Dir}}", "github.com/cert-manager/cert-manager").Output()
	if err != nil {
		t.Fatalf("find the CRDs of cert-manager: %v", err)
	}
	server := &envtest.Environment{CRDDirectoryPaths: []string{filepath.Join(strings.TrimSpace(string(module)), "deploy", "crds")}}
	config, err := server.Start()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := server.Stop(); err != nil {
			t.Error(err)
		}
	})
	i := &installation{kubeconfig: filepath.Join(t.TempDir(), "kubeconfig")}
	if err := os.WriteFile(i.kubeconfig, server.KubeConfig, 0o600); err != nil {
		t.Fatal(err)
	}
	if i.Client, err = client.New(config, client.Options{Scheme: scheme.Scheme}); err != nil {
		t.Fatal(err)
	}
	i.kubectl(t, "apply", "--server-side", "-k", filepath.Join("..", "..", "config", "default"))
	return i
}

func (i *installation) kubectl(t *testing.T, args ...string) string {
	t.Helper()
	kubectl := exec.CommandContext(t.Context(), filepath.Join(os.Getenv("KUBEBUILDER_ASSETS"), "kubectl"), args...) //nolint:gosec // a test's
	kubectl.Env = append(os.Environ(), "KUBECONFIG="+i.kubeconfig)
	out, err := kubectl.CombinedOutput()
	if err != nil {
		t.Fatalf("kubectl %s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return strings.TrimSpace(string(out))
}

// serve answers in the operator's place, on this machine, and does what cert-manager does: it fills in the CA.
func (i *installation) serve(t *testing.T) {
	t.Helper()
	options := &envtest.WebhookInstallOptions{}
	if err := options.PrepWithoutInstalling(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := options.Cleanup(); err != nil {
			t.Error(err)
		}
	})
	server := webhook.NewServer(webhook.Options{Host: options.LocalServingHost, Port: options.LocalServingPort, CertDir: options.LocalServingCertDir})
	handler, err := NewHandler(*testConfig(t), i.Client, logr.Discard(), prometheus.NewRegistry())
	if err != nil {
		t.Fatal(err)
	}
	server.Register(Path, &webhook.Admission{Handler: handler})
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	var group sync.WaitGroup
	group.Go(func() {
		if err := server.Start(ctx); err != nil {
			t.Errorf("serve the webhook: %v", err)
		}
	})
	i.stop = sync.OnceFunc(func() {
		cancel()
		group.Wait()
	})
	t.Cleanup(i.stop)

	configuration := &admissionregistrationv1.MutatingWebhookConfiguration{}
	if err := i.Get(t.Context(), client.ObjectKey{Name: "heddle-injector"}, configuration); err != nil {
		t.Fatal(err)
	}
	for at := range configuration.Webhooks {
		to := &configuration.Webhooks[at].ClientConfig
		url := "https://" + net.JoinHostPort(options.LocalServingHost, strconv.Itoa(options.LocalServingPort)) + *to.Service.Path
		*to = admissionregistrationv1.WebhookClientConfig{URL: &url, CABundle: options.LocalServingCAData}
	}
	if err := i.Update(t.Context(), configuration); err != nil {
		t.Fatal(err)
	}
	i.untilInjected(t)
}

// untilInjected waits until the API server has taken the configuration in, which it does a moment later.
func (i *installation) untilInjected(t *testing.T) {
	t.Helper()
	namespace := i.namespace(t, map[string]string{NamespaceLabel: NamespaceEnabled})
	i.until(t, "a pod is injected", func() error {
		p := pod(namespace)
		if err := i.Create(t.Context(), p, client.DryRunAll); err != nil {
			return err
		}
		if p.Annotations[Injected] != "true" {
			return errors.New("it has no proxy")
		}
		return nil
	})
}

// until tries for 30 s at most.
func (i *installation) until(t *testing.T, what string, try func() error) {
	t.Helper()
	deadline := time.NewTimer(30 * time.Second)
	defer deadline.Stop()
	ticker := time.NewTicker(50 * time.Millisecond)
	defer ticker.Stop()
	for {
		err := try()
		if err == nil {
			return
		}
		select {
		case <-ticker.C:
		case <-deadline.C:
			t.Fatalf("not within 30 s: %s: %v", what, err)
		}
	}
}

func (i *installation) operatorIsRestricted(t *testing.T) {
	deployment := &appsv1.Deployment{}
	if err := i.Get(t.Context(), client.ObjectKey{Namespace: "heddle-system", Name: "heddle-operator"}, deployment); err != nil {
		t.Fatal(err)
	}
	p := &corev1.Pod{ObjectMeta: deployment.Spec.Template.ObjectMeta, Spec: deployment.Spec.Template.Spec}
	p.Namespace, p.Name = deployment.Namespace, "operator"
	i.creates(t, p, false)
	if got := p.Spec.Containers[0].Env[0].Value; got != "localhost/heddle-proxy:dev" {
		t.Errorf("the proxy's image is %q", got)
	}
}

// storedPodIsStable takes the pod of the goldens through the API server, which fills in its defaults.
func (i *installation) storedPodIsStable(t *testing.T) {
	namespace := i.namespace(t, map[string]string{NamespaceLabel: NamespaceEnabled})
	text, err := os.ReadFile(filepath.Join("testdata", "shop.in.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	p := podOf(t, string(text))
	p.Namespace = namespace
	i.creates(t, p, true)

	again, _, err := testConfig(t).Inject(p, nil)
	if err != nil {
		t.Fatal(err)
	}
	if operations := patch(p, again); len(operations) != 0 {
		t.Errorf("a second pass over what is stored: %v", operations)
	}
	settings := (&reader{annotations: p.Annotations}).settings(DefaultSettings())
	for at, want := range []corev1.Container{testConfig(t).initContainer(&settings), testConfig(t).proxyContainer(&settings)} {
		got := p.Spec.InitContainers[at]
		got.Env = got.Env[:len(want.Env)] // the probes come behind
		if diff := cmp.Diff(encoded(t, want), encoded(t, got)); diff != "" {
			t.Errorf("%s as it is stored differs from as it was made: %s", want.Name, diff)
		}
	}
}

func encoded(t *testing.T, c corev1.Container) string {
	t.Helper()
	b, err := json.Marshal(c)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// creates says that the pod is created, and whether with a proxy.
func (i *installation) creates(t *testing.T, p *corev1.Pod, wantProxy bool) {
	t.Helper()
	if err := i.Create(t.Context(), p); err != nil {
		t.Error(err)
		return
	}
	if got := p.Annotations[Injected] == "true"; got != wantProxy {
		t.Errorf("with a proxy: %t: want %t", got, wantProxy)
	}
}

func (i *installation) namespace(t *testing.T, labels map[string]string) string {
	t.Helper()
	ns := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{GenerateName: "test-", Labels: labels}}
	if err := i.Create(t.Context(), ns); err != nil {
		t.Fatal(err)
	}
	return ns.Name
}

func (i *installation) label(t *testing.T, namespace string) {
	t.Helper()
	i.kubectl(t, "label", "namespace", namespace, NamespaceLabel+"="+NamespaceEnabled)
}

func pod(namespace string) *corev1.Pod {
	return &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Namespace: namespace, GenerateName: "app-"},
		// envtest has no plugin that fills in the service account.
		Spec: corev1.PodSpec{ServiceAccountName: "default", Containers: []corev1.Container{{Name: "app", Image: "app"}}},
	}
}

// restricted makes a pod that Pod Security's strictest level admits.
func restricted(p *corev1.Pod) *corev1.Pod {
	p.Spec.Containers[0].SecurityContext = &corev1.SecurityContext{
		RunAsNonRoot: new(true), AllowPrivilegeEscalation: new(false),
		Capabilities:   &corev1.Capabilities{Drop: []corev1.Capability{"ALL"}},
		SeccompProfile: &corev1.SeccompProfile{Type: corev1.SeccompProfileTypeRuntimeDefault},
	}
	return p
}
