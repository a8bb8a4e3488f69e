// SPDX-License-Identifier: Apache-2.0

package sandbox

import (
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
)

func pods(c *completed) string {
	var out []string
	for _, e := range c.endpoints {
		out = append(out, e.service+" "+e.address.String()+" "+e.pod.Name+" "+e.pod.Spec.ServiceAccountName)
	}
	return strings.Join(out, "\n")
}

func TestEndpointsGetPods(t *testing.T) {
	const pod = "apiVersion: v1\nkind: Pod\nmetadata: {name: cart-0, namespace: shop}\nspec: {serviceAccountName: trolley}\n---\n"
	for name, c := range map[string]struct{ text, want string }{
		"one of its own": {
			service("cart", "") + slice("cart", "127.0.0.11", 9001, ""),
			"cart.shop 127.0.0.11:9001 cart-127-0-0-11 cart",
		},
		"the one that it names": {
			pod + service("cart", "") + slice("cart", "127.0.0.11", 9001, ", targetRef: {kind: Pod, name: cart-0}"),
			"cart.shop 127.0.0.11:9001 cart-0 trolley",
		},
		"one that it names and nobody wrote": {
			service("cart", "") + slice("cart", "127.0.0.11", 9001, ", targetRef: {kind: Pod, name: cart-9}"),
			"cart.shop 127.0.0.11:9001 cart-9 cart",
		},
		"one, though two Services have it": {
			service("cart", "") + service("trolley", "") + slice("cart", "127.0.0.11", 9001, "") + slice("trolley", "127.0.0.11", 9001, ""),
			"cart.shop 127.0.0.11:9001 cart-127-0-0-11 cart\ntrolley.shop 127.0.0.11:9001 cart-127-0-0-11 cart",
		},
		"two, of two applications at one address": {
			service("cart", "") + service("web", "") + slice("cart", "127.0.0.1", 9001, "") + slice("web", "127.0.0.1", 9002, ""),
			"cart.shop 127.0.0.1:9001 cart-127-0-0-1 cart\nweb.shop 127.0.0.1:9002 web-127-0-0-1 web",
		},
		"none, where an address has another port already": {
			service("cart", "") + slice("cart", "127.0.0.1", 9001, "") + slice("cart", "127.0.0.1", 9002, ""),
			"cart.shop 127.0.0.1:9001 cart-127-0-0-1 cart",
		},
	} {
		if got := pods(newWorld().complete(objects(t, c.text))); got != c.want {
			t.Errorf("%s:\n%s\nwant\n%s", name, got, c.want)
		}
	}
}

func TestServicesAreCompleted(t *testing.T) {
	w := newWorld()
	text := service("cart", "") + service("given", ", clusterIP: 10.0.0.1, selector: {app: given}") + service("headless", ", clusterIP: None") +
		slice("cart", "127.0.0.11", 9001, "") + slice("given", "127.0.0.12", 9002, "")
	c := w.complete(objects(t, text))
	cart, given := c.services["cart.shop"], c.services["given.shop"]
	if cart.Spec.ClusterIP != "198.18.0.1" || cart.Spec.Ports[0].TargetPort.IntValue() != 9001 || cart.Spec.Selector[labelService] != "cart" {
		t.Errorf("%+v", cart.Spec)
	}
	if given.Spec.ClusterIP != "10.0.0.1" || len(given.Spec.Selector) != 1 || given.Spec.Type != corev1.ServiceTypeClusterIP {
		t.Errorf("%+v", given.Spec)
	}
	for _, e := range c.endpoints {
		for k, v := range c.services[e.service].Spec.Selector {
			if e.pod.Labels[k] != v {
				t.Errorf("%s does not select %s: %v", e.service, e.pod.Name, e.pod.Labels)
			}
		}
	}
	if headless := c.services["headless.shop"]; headless.Spec.ClusterIP != corev1.ClusterIPNone {
		t.Errorf("%+v", headless.Spec)
	}
	// What it made once stays.
	again := w.complete(objects(t, service("about", "")+service("cart", "")))
	if ip := again.services["cart.shop"].Spec.ClusterIP; ip != "198.18.0.1" {
		t.Errorf("the cluster IP is %s now", ip)
	}
	if ip := again.services["about.shop"].Spec.ClusterIP; ip != "198.18.0.3" && ip != "198.18.0.2" {
		t.Errorf("a new Service has %s", ip)
	}
	if again.pods[types.NamespacedName{Namespace: "shop", Name: "cart-127-0-0-11"}] == nil {
		t.Error("the pod of an endpoint that left is gone")
	}
}

func TestMistakesAreNoted(t *testing.T) {
	for name, c := range map[string]struct{ text, want string }{
		"a slice of nobody":         {strings.Replace(slice("cart", "127.0.0.1", 1, ""), "kubernetes.io/service-name", "app", 1), "metadata.labels: it belongs to no Service"},
		"a slice of another":        {slice("cart", "127.0.0.1", 1, ""), "there is no Service shop/cart"},
		"an address with two ports": {service("cart", "") + slice("cart", "127.0.0.1", 1, "") + slice("cart", "127.0.0.1", 2, ""), "127.0.0.1 is an endpoint of cart.shop already, with port 1"},
	} {
		if c2 := newWorld().complete(objects(t, c.text)); len(c2.notes) != 1 || !strings.Contains(c2.notes[0], c.want) {
			t.Errorf("%s: %q", name, c2.notes)
		}
	}
}

func TestAPodCanStayOutOfTheMesh(t *testing.T) {
	c := newWorld().complete(objects(t, "apiVersion: v1\nkind: Pod\nmetadata: {name: a, namespace: shop, annotations: {heddle.io/inject: disabled}}\n---\n"+
		"apiVersion: v1\nkind: Pod\nmetadata: {name: b, namespace: shop}\n"))
	for name, want := range map[string]bool{"a": false, "b": true} {
		if p := c.pods[types.NamespacedName{Namespace: "shop", Name: name}]; isMeshed(p) != want {
			t.Errorf("pod %s: %v", name, p.Annotations)
		}
	}
}
