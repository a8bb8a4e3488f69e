// SPDX-License-Identifier: Apache-2.0

package issue

import (
	"bytes"
	"errors"
	"io"
	"os"
	"path/filepath"
	"testing"

	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/yaml"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// asOperator is how the operator reaches the API server: with the rights of config/rbac/role.yaml and no others, so that
// what these tests do they prove to be allowed.
func (c *cluster) asOperator(t *testing.T) *rest.Config {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("..", "..", "config", "rbac", "role.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	user := "system:serviceaccount:" + c.namespace + ":heddle-operator"
	subjects := []rbacv1.Subject{{Kind: rbacv1.UserKind, APIGroup: rbacv1.GroupName, Name: user}}
	documents := yaml.NewYAMLOrJSONDecoder(bytes.NewReader(text), 4096)
	for {
		role := &rbacv1.ClusterRole{} // a Role has the same fields
		switch err := documents.Decode(role); {
		case errors.Is(err, io.EOF):
			config := rest.CopyConfig(apiServer)
			config.Impersonate = rest.ImpersonationConfig{UserName: user, Groups: []string{"system:serviceaccounts", "system:authenticated"}}
			return config
		case err != nil:
			t.Fatal(err)
		}
		ref := rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: role.Kind, Name: c.namespace}
		meta := metav1.ObjectMeta{Name: c.namespace}
		objects := []client.Object{
			&rbacv1.ClusterRole{ObjectMeta: meta, Rules: role.Rules},
			&rbacv1.ClusterRoleBinding{ObjectMeta: meta, RoleRef: ref, Subjects: subjects},
		}
		if role.Kind == "Role" {
			meta.Namespace = c.namespace
			objects = []client.Object{
				&rbacv1.Role{ObjectMeta: meta, Rules: role.Rules},
				&rbacv1.RoleBinding{ObjectMeta: meta, RoleRef: ref, Subjects: subjects},
			}
		}
		for _, object := range objects {
			if err := client.IgnoreAlreadyExists(c.Create(t.Context(), object)); err != nil {
				t.Fatal(err)
			}
		}
	}
}
