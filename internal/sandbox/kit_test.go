// SPDX-License-Identifier: Apache-2.0

package sandbox

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/go-logr/logr"
	"go.uber.org/goleak"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func check(tb testing.TB, err error) {
	tb.Helper()
	if err != nil {
		tb.Fatal(err)
	}
}

// objects decodes YAML.
func objects(tb testing.TB, text string) []client.Object {
	tb.Helper()
	f, err := newFiles(nil)
	check(tb, err)
	out, err := f.decode([]byte(text))
	check(tb, err)
	return out
}

// service is a Service with one port, http.
func service(name, more string) string {
	return fmt.Sprintf("apiVersion: v1\nkind: Service\nmetadata: {name: %s, namespace: shop}\nspec: {ports: [{name: http, port: 80}]%s}\n---\n", name, more)
}

// slice is an EndpointSlice of a Service with one endpoint.
func slice(service, ip string, port int, more string) string {
	return fmt.Sprintf("apiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\n"+
		"metadata: {name: %s-%d, namespace: shop, labels: {kubernetes.io/service-name: %s}}\n"+
		"ports: [{name: http, port: %d}]\nendpoints: [{addresses: [%q]%s}]\n---\n", service, port, service, port, ip, more)
}

// plan plans for objects.
func plan(tb testing.TB, p *planner, w *world, text string) []*side {
	tb.Helper()
	sides, err := p.plan(w.complete(objects(tb, text)))
	check(tb, err)
	return sides
}

func plannerOf(tb testing.TB, o Options) *planner {
	tb.Helper()
	o.TrustDomain = "cluster.local"
	wishes, err := o.wishes()
	check(tb, err)
	return newPlanner(&o, wishes)
}

func testOptions() *Options {
	return &Options{TrustDomain: "cluster.local", Log: logr.Discard(), Clock: time.Now, Stdout: io.Discard, Stderr: io.Discard}
}

func clusterOf() *cluster { return newCluster(metav1.Now) }

func write(tb testing.TB, dir, name, text string) {
	tb.Helper()
	check(tb, os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600))
}
