// SPDX-License-Identifier: Apache-2.0

package envtest

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/client-go/rest"

	"github.com/heddle-mesh/heddle/api/v1alpha1"
)

func TestGetPrintsWhetherItWorks(t *testing.T) {
	until := time.Now().Add(time.Hour).UTC().Format(time.RFC3339)
	for name, tc := range map[string]struct {
		kind, resource, spec string
		status               map[string]any
		want                 string
	}{
		"a TrafficSplit shows its weights": {
			v1alpha1.KindTrafficSplit, "trafficsplits", `
service: {name: checkout}
backends: [{name: checkout-v1, service: {name: checkout-v1}, weight: 90}, {name: checkout-v2, service: {name: checkout-v2}, weight: 10}]`,
			map[string]any{"weights": "checkout-v1 90, checkout-v2 10", "programmed": "118/120"},
			"NAME=case SERVICE=checkout WEIGHTS=checkout-v1 90, checkout-v2 10 PROGRAMMED=118/120 READY=False (REASON=Nacked) (MESSAGE=118/120 proxies)",
		},
		"a ServiceProfile shows its routes, faults and ejected endpoints": {
			v1alpha1.KindServiceProfile, "serviceprofiles", `
service: {name: checkout}
routes: [{name: all}]`,
			map[string]any{"routes": int64(1), "programmed": "3/3", "faults": "1, next ends 2026-03-31T18:00:00Z", "ejected": "1: 10.0.0.3:8080", "budgetExhausted": int64(2)},
			"NAME=case SERVICE=checkout ROUTES=1 FAULTS=1, next ends 2026-03-31T18:00:00Z EJECTED=1: 10.0.0.3:8080 (EXHAUSTED=2) PROGRAMMED=3/3 READY=False (REASON=Nacked) (MESSAGE=118/120 proxies)",
		},
		"a MeshPolicy shows its target, mode and default": {
			v1alpha1.KindMeshPolicy, "meshpolicies", `
targetRef: {kind: Service, name: checkout}
mtls: {mode: Permissive, until: "` + until + `"}
authorization: {defaultAction: Deny}`,
			map[string]any{"programmed": "3/3"},
			"NAME=case TARGET=Service TARGET-NAME=checkout MTLS=Permissive (UNTIL=" + until +
				") DEFAULT=Deny PROGRAMMED=3/3 READY=False (REASON=Nacked) (MESSAGE=118/120 proxies)",
		},
	} {
		t.Run(name, func(t *testing.T) {
			obj := object(t, tc.kind, "case", tc.spec)
			obj.SetNamespace(newNamespace(t))
			if err := api.Create(t.Context(), obj); err != nil {
				t.Fatal(err)
			}
			setStatus(t, obj, tc.status)
			if got := printed(t, tc.resource, obj.GetNamespace()); got != tc.want {
				t.Errorf("got  %s\nwant %s", got, tc.want)
			}
		})
	}
}

// A new object, which the operator has not seen, must not fail to print.
func TestGetPrintsAnObjectWithoutStatus(t *testing.T) {
	obj := object(t, v1alpha1.KindMeshPolicy, "case", "targetRef: {kind: Mesh}\nmtls: {mode: Strict}")
	obj.SetNamespace(newNamespace(t))
	if err := api.Create(t.Context(), obj); err != nil {
		t.Fatal(err)
	}
	want := "NAME=case TARGET=Mesh TARGET-NAME=<nil> MTLS=Strict (UNTIL=<nil>) DEFAULT=<nil> PROGRAMMED=<nil> READY=<nil> (REASON=<nil>) (MESSAGE=<nil>)"
	if got := printed(t, "meshpolicies", obj.GetNamespace()); got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
}

func newNamespace(t *testing.T) string {
	t.Helper()
	ns := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{GenerateName: "test-"}}
	if err := api.Create(t.Context(), ns); err != nil {
		t.Fatal(err)
	}
	return ns.Name
}

func setStatus(t *testing.T, obj *unstructured.Unstructured, status map[string]any) {
	t.Helper()
	status["conditions"] = []any{map[string]any{
		"type": "Ready", "status": "False", "reason": "Nacked", "message": "118/120 proxies",
		"lastTransitionTime": "2026-01-02T03:04:05Z",
	}}
	obj.Object["status"] = status
	if err := api.Status().Update(t.Context(), obj); err != nil {
		t.Fatal(err)
	}
}

// printed is the one row that `kubectl get` shows, as COLUMN=cell; columns of
// `-o wide` are in parentheses, and AGE, which moves, is left out.
func printed(t *testing.T, resource, namespace string) string {
	t.Helper()
	table := getTable(t, resource, namespace)
	if len(table.Rows) != 1 {
		t.Fatalf("got %d rows, want 1", len(table.Rows))
	}
	var cells []string
	for i, column := range table.ColumnDefinitions {
		cell := fmt.Sprintf("%s=%v", strings.ToUpper(column.Name), table.Rows[0].Cells[i])
		if column.Priority > 0 {
			cell = "(" + cell + ")"
		}
		cells = append(cells, cell)
	}
	last := len(cells) - 1
	if !strings.HasPrefix(cells[last], "AGE=") {
		t.Errorf("the last column is %s, want AGE", cells[last])
	}
	return strings.Join(slices.Delete(cells, last, last+1), " ")
}

// getTable asks for the table that the server renders for kubectl.
func getTable(t *testing.T, resource, namespace string) *metav1.Table {
	t.Helper()
	httpClient, err := rest.HTTPClientFor(config)
	if err != nil {
		t.Fatal(err)
	}
	target, err := url.JoinPath(config.Host, "apis", v1alpha1.GroupVersion.String(), "namespaces", namespace, resource)
	if err != nil {
		t.Fatal(err)
	}
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, target, http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Accept", "application/json;as=Table;g=meta.k8s.io;v=v1")
	resp, err := httpClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		t.Fatalf("GET %s: %s", target, resp.Status)
	}
	table := &metav1.Table{}
	if err := json.NewDecoder(resp.Body).Decode(table); err != nil {
		t.Fatal(err)
	}
	return table
}
