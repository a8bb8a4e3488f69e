// SPDX-License-Identifier: Apache-2.0

package main

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
)

// manifestKinds are the kinds of config/default that a bundle may hold as they are. OLM knows more; NetworkPolicy is not
// here because the checks of OperatorHub refuse it.
var manifestKinds = []string{
	"ClusterRole", "ClusterRoleBinding", "ConfigMap", "PodDisruptionBudget", "PriorityClass", "Role", "RoleBinding", "Secret",
	"Service", "ServiceAccount",
}

// contents are the objects of a bundle by the place that each has in it.
type contents struct {
	namespace   string // where the operator runs
	crds        []object
	deployments []object
	permissions []permission
	manifests   []object // everything else, without namespace: OLM puts them where it installs
}

// permission is what the operator's service account may do in the whole cluster.
type permission struct {
	ServiceAccountName string `json:"serviceAccountName"`
	Rules              any    `json:"rules"`
}

// divide puts every object of config/default that is not in config/olm in its place of the bundle.
//
// Namespaced Roles stay manifests. As `permissions` of the ClusterServiceVersion they would become ClusterRoles, since OLM
// lifts them for operators that watch all namespaces: the right to read the operator's Secrets would be one to read all.
func divide(all, beside []object) (*contents, error) {
	left := map[string]bool{}
	for _, o := range beside {
		left[o.id()] = true
	}
	c := &contents{}
	for _, o := range all {
		switch {
		case left[o.id()]:
			delete(left, o.id())
		case o.kind() == "CustomResourceDefinition":
			c.crds = append(c.crds, o)
		case o.kind() == "Deployment":
			c.deployments = append(c.deployments, o)
			c.namespace = at[string](o, "metadata", "namespace")
		case slices.Contains(manifestKinds, o.kind()):
			c.manifests = append(c.manifests, o)
		default:
			return nil, fmt.Errorf("%s: a bundle cannot hold its kind: let config/olm keep it", o.id())
		}
	}
	for id := range left {
		return nil, fmt.Errorf("%s: in config/olm, but not in config/default", id)
	}
	if len(c.deployments) == 0 || len(c.crds) == 0 {
		return nil, errors.New("config/default without config/olm has no Deployment or no CustomResourceDefinition")
	}
	slices.SortFunc(c.crds, func(a, b object) int { return cmp.Compare(a.name(), b.name()) })
	if err := c.takePermissions(); err != nil {
		return nil, err
	}
	for _, o := range c.manifests {
		delete(at[map[string]any](o, "metadata"), "namespace")
	}
	return c, nil
}

// takePermissions moves the service accounts of the Deployments, and the ClusterRoles that are bound to these alone, from
// the manifests to the permissions, from which OLM makes them again.
func (c *contents) takePermissions() error {
	accounts := map[string]bool{} // of a Deployment: whether it has a permission
	for _, d := range c.deployments {
		accounts[at[string](d, "spec", "template", "spec", "serviceAccountName")] = false
	}
	roles := map[string]object{}
	for _, o := range c.manifests {
		if o.kind() == "ClusterRole" {
			roles[o.name()] = o
		}
	}
	taken := map[string]bool{}
	for _, o := range c.manifests {
		role, ok := roles[at[string](o, "roleRef", "name")]
		if o.kind() != "ClusterRoleBinding" || !ok {
			continue
		}
		for _, subject := range list(o, "subjects") {
			account := at[string](subject, "name")
			if _, ok := accounts[account]; !ok || at[string](subject, "kind") != "ServiceAccount" {
				return fmt.Errorf("%s: its subject %s is not a service account of a Deployment", o.id(), account)
			}
			accounts[account] = true
			c.permissions = append(c.permissions, permission{account, role["rules"]})
		}
		taken[o.id()], taken[role.id()] = true, true
	}
	for account, permitted := range accounts {
		if !permitted {
			return fmt.Errorf("ServiceAccount %s: no ClusterRole is bound to it, so OLM would not make it", account)
		}
		taken["ServiceAccount "+account] = true
	}
	c.manifests = slices.DeleteFunc(c.manifests, func(o object) bool { return taken[o.id()] })
	return nil
}
