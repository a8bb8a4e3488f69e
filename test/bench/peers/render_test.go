// SPDX-License-Identifier: Apache-2.0

//go:build linux

package peers

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/yaml"

	"github.com/heddle-mesh/heddle/api/v1alpha1"
	"github.com/heddle-mesh/heddle/test/bench/traffic"
)

func newTestLayout(t *testing.T) *layout {
	t.Helper()
	pki, err := NewPKI(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	l, err := newLayout(&Site{PKI: pki, Origins: traffic.Ports{HTTP1: 9001, HTTP2: 9002, TCP: 9003}})
	if err != nil {
		t.Fatal(err)
	}
	l.Admin = l.ports["client"]
	return l
}

func TestEveryConfigurationRendersWholly(t *testing.T) {
	for peer, sides := range map[string][]string{
		"haproxy": {"plain", "pair-client", "pair-server"},
		"nginx":   {"plain", "pair-client", "pair-server"},
		"envoy":   {"plain", "pair-client", "pair-server"},
		"heddle":  {"plain", "pair"},
	} {
		for _, side := range sides {
			l := newTestLayout(t)
			file, err := l.render(t.TempDir(), peer, side)
			if err != nil {
				t.Errorf("%s %s: %v", peer, side, err)
				continue
			}
			text, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			routes, _ := filepath.Glob(filepath.Join(filepath.Dir(file), "routes.map"))
			for _, more := range routes {
				lines, _ := os.ReadFile(more)
				text = append(text, lines...)
			}
			checkConfiguration(t, peer+" "+side, string(text), l)
		}
	}
}

func checkConfiguration(t *testing.T, name, text string, l *layout) {
	t.Helper()
	for _, wrong := range []string{"<no value>", "{{", "127.0.0.1:0", "port_value: 0", "%!"} {
		if strings.Contains(text, wrong) {
			t.Errorf("%s: holds %q", name, wrong)
		}
	}
	if server := strings.HasSuffix(name, "-server"); !server {
		for i := range traffic.Routes {
			if !strings.Contains(text, fmt.Sprintf("/r%02d", i)) {
				t.Errorf("%s: has no route %d", name, i)
			}
		}
	}
	pair := strings.Contains(name, "pair")
	if secure := strings.Contains(text, l.CA); secure != pair && !strings.HasPrefix(name, "heddle") {
		t.Errorf("%s: mutual TLS is %v", name, secure)
	}
	for _, file := range []string{"envoy", "heddle"} {
		if !strings.HasPrefix(name, file) {
			continue
		}
		for document := range strings.SplitSeq(text, "\n---\n") {
			var v map[string]any
			if err := yaml.Unmarshal([]byte(document), &v); err != nil || len(v) == 0 {
				t.Errorf("%s: %v\n%s", name, err, document)
			}
		}
	}
}

func TestEveryFeatureIsOneOfTheObjects(t *testing.T) {
	kinds := map[string]func() any{
		"ServiceProfile": func() any { return &v1alpha1.ServiceProfile{} }, "TrafficSplit": func() any { return &v1alpha1.TrafficSplit{} },
		"MeshPolicy": func() any { return &v1alpha1.MeshPolicy{} },
	}
	seen := map[string]string{}
	for _, f := range append(slices.Clone(Features), Feature{}, Nothing) {
		l := newTestLayout(t)
		l.Feature = f
		file, err := l.render(t.TempDir(), "heddle", "pair")
		if err != nil {
			t.Fatal(err)
		}
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		said := ""
		for document := range strings.SplitSeq(string(text), "\n---\n") {
			var head metav1.TypeMeta
			if err := yaml.Unmarshal([]byte(document), &head); err != nil {
				t.Fatalf("%s: %v", f.Name, err)
			}
			if of := kinds[head.Kind]; of != nil {
				said += document
				if err := yaml.UnmarshalStrict([]byte(document), of()); err != nil {
					t.Errorf("%s: %v", f.Name, err)
				}
			}
		}
		said += string(f.Under)
		if other, ok := seen[said]; ok {
			t.Errorf("%q says what %q does", f.Name, other)
		}
		seen[said] = f.Name
	}
}

func TestWhatIsNotInForceIsTold(t *testing.T) {
	lines := []string{
		"server endpoint=127.0.0.11:9001 listen=127.0.0.1:8443 pid=12", "ready",
		"objects/pair.yaml ServiceProfile shop/all: Accepted=False, spec.healthCheck: no",
		"objects/pair.yaml ServiceProfile shop/web: Ready=False (1/2, generation 1)",
		"objects/pair.yaml ServiceProfile shop/web: Ready=True (2/2, generation 1)",
	}
	if got := notReady(lines); len(got) != 1 || !strings.HasPrefix(got[0], "objects/pair.yaml ServiceProfile shop/all") {
		t.Error(got)
	}
}

func TestPortsAreNeverTheSame(t *testing.T) {
	l := newTestLayout(t)
	seen := map[int]string{}
	for name, port := range l.ports {
		if other, ok := seen[port]; ok || port == 0 {
			t.Errorf("%s and %s have port %d", name, other, port)
		}
		seen[port] = name
	}
	if got := l.Origin("2", "canary"); got != "127.0.0.12:9002" {
		t.Error(got)
	}
}

func TestTheSandboxSaysWhichProcessesThereAre(t *testing.T) {
	lines := []string{
		"server endpoint=127.0.0.11:9001 listen=127.0.0.1:8443 of=web.shop admin=127.0.0.1:8091 pid=12",
		"server endpoint=127.0.0.12:9001 listen=127.0.0.1:8444 of=web.shop admin=127.0.0.1:8091 pid=12",
		"server endpoint=127.0.0.13:9001 listen=127.0.0.1:8445 of=cart.shop admin=127.0.0.1:8092 pid=13",
		"client service=web.shop:80 listen=127.0.0.1:8080 pid=14",
		"ready", "",
	}
	if got := sandboxPIDs(lines, "server"); !slices.Equal(got, []int{12, 13}) {
		t.Error(got)
	}
	if got := sandboxPIDs(lines, "client"); !slices.Equal(got, []int{14}) {
		t.Error(got)
	}
}
