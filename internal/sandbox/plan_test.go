// SPDX-License-Identifier: Apache-2.0

package sandbox

import (
	"slices"
	"strings"
	"testing"
)

// titles sums up sides.
func titles(sides []*side) string {
	var out []string
	for _, s := range sides {
		text := s.title() + " as " + s.account
		for _, l := range s.listen {
			text += " " + l.destination.String()
		}
		out = append(out, text)
	}
	return strings.Join(out, "\n")
}

func TestSides(t *testing.T) {
	const pod = "apiVersion: v1\nkind: Pod\nmetadata: {name: odd, namespace: shop, labels: {app: cart}}\nspec: {serviceAccountName: cart}\n---\n"
	all := service("cart", ", clusterIP: 10.0.0.1") + service("web", ", clusterIP: 10.0.0.2") +
		slice("cart", "127.0.0.11", 9001, "") + slice("cart", "127.0.0.12", 9002, "") + slice("web", "127.0.0.1", 9003, "")
	for name, c := range map[string]struct {
		options Options
		text    string
		want    []string
	}{
		"pairs of all": {Options{}, all, []string{
			"server of cart.shop as cart 127.0.0.11:9001 127.0.0.12:9002", "server of web.shop as web 127.0.0.1:9003",
			"client of cart.shop as default 10.0.0.1:80", "client of web.shop as default 10.0.0.2:80",
		}},
		"client sides of what is asked for": {Options{Listen: []string{"web=127.0.0.1:8080"}, Callers: []string{"web=shop/front"}}, all, []string{
			"server of cart.shop as cart 127.0.0.11:9001 127.0.0.12:9002", "server of web.shop as web 127.0.0.1:9003",
			"client of web.shop as front 10.0.0.2:80",
		}},
		"server sides alone": {Options{InboundOnly: true}, all, []string{
			"server of cart.shop as cart 127.0.0.11:9001 127.0.0.12:9002", "server of web.shop as web 127.0.0.1:9003",
		}},
		"client sides alone": {Options{OutboundOnly: true}, all, []string{
			"client of cart.shop as default 10.0.0.1:80", "client of web.shop as default 10.0.0.2:80",
		}},
		"a server side for each kind of pod": {Options{InboundOnly: true}, pod + all + slice("cart", "127.0.0.13", 9004, ", targetRef: {kind: Pod, name: odd}"), []string{
			"server of cart.shop as cart 127.0.0.11:9001 127.0.0.12:9002", "server of cart.shop as cart 127.0.0.13:9004", "server of web.shop as web 127.0.0.1:9003",
		}},
		"none for a pod that is not in the mesh": {
			Options{InboundOnly: true},
			strings.Replace(pod, "labels:", "annotations: {heddle.io/inject: disabled}, labels:", 1) + service("cart", "") + slice("cart", "127.0.0.13", 9004, ", targetRef: {kind: Pod, name: odd}"),
			nil,
		},
	} {
		if got := titles(plan(t, plannerOf(t, c.options), newWorld(), c.text)); got != strings.Join(c.want, "\n") {
			t.Errorf("%s:\n%s\nwant\n%s", name, got, strings.Join(c.want, "\n"))
		}
	}
}

func TestASideStaysWhileItCan(t *testing.T) {
	w, p := newWorld(), plannerOf(t, Options{Inbound: []string{"127.0.0.12:9002=127.0.0.1:1"}})
	one := service("cart", "") + slice("cart", "127.0.0.11", 9001, "")
	first := plan(t, p, w, one)
	same := func(a, b []*side) bool {
		return slices.EqualFunc(a, b, func(a, b *side) bool { return a.name == b.name && a.equal(b) })
	}
	if again := plan(t, p, w, one); !same(first, again) {
		t.Errorf("nothing changed:\n%s\n%s", titles(first), titles(again))
	}
	if without := plan(t, p, w, service("cart", "")); !same(first, without) {
		t.Errorf("an endpoint left:\n%s", titles(without))
	}
	// One that --inbound named gets a server side, and nothing else changes.
	two := plan(t, p, w, one+slice("cart", "127.0.0.12", 9002, ""))
	if len(two) != 3 || !two[0].equal(first[0]) || !two[2].equal(first[1]) {
		t.Errorf("an endpoint came whose address was known:\n%s", titles(two))
	}
	// The client side has to be told of another.
	three := plan(t, p, w, one+slice("cart", "127.0.0.12", 9002, "")+slice("cart", "127.0.0.13", 9003, ""))
	if len(three) != 4 || !three[0].equal(first[0]) || three[3].equal(first[1]) || len(three[3].paths) != 3 {
		t.Errorf("an endpoint came:\n%s", titles(three))
	}
	if !slices.Equal(three[3].listen, first[1].listen) || three[3].admin != first[1].admin {
		t.Error("the client side listens elsewhere now")
	}
}

func TestAServerSideGoesWithItsPod(t *testing.T) {
	w, p := newWorld(), plannerOf(t, Options{InboundOnly: true})
	pod := func(account string) string {
		return "apiVersion: v1\nkind: Pod\nmetadata: {name: cart-0, namespace: shop}\nspec: {serviceAccountName: " + account + "}\n---\n"
	}
	rest := service("cart", "") + slice("cart", "127.0.0.11", 9001, ", targetRef: {kind: Pod, name: cart-0}")
	first := plan(t, p, w, pod("cart")+rest)
	second := plan(t, p, w, pod("trolley")+rest)
	if len(second) != 1 || second[0].name == first[0].name || second[0].account != "trolley" || second[0].listen[0] != first[0].listen[0] {
		t.Errorf("another service account: %s", titles(second))
	}
}

func TestAddressesOfProxies(t *testing.T) {
	p := plannerOf(t, Options{
		Listen: []string{"cart.shop:http=127.0.0.1:8080"}, Inbound: []string{"127.0.0.11:9001=127.0.0.1:8443"},
		Admin: []string{"cart=127.0.0.1:8090", "127.0.0.11:9001=127.0.0.1:8091"},
	})
	sides := plan(t, p, newWorld(), service("cart", ", clusterIP: 10.0.0.1")+slice("cart", "127.0.0.11", 9001, ""))
	for i, want := range []string{
		"-inbound-listen=127.0.0.1:8443=127.0.0.11:9001 -admin-listen=127.0.0.1:8091",
		"-outbound-listen=127.0.0.1:8080=10.0.0.1:80 -path=127.0.0.11:9001=127.0.0.1:8443 -admin-listen=127.0.0.1:8090",
	} {
		if got := strings.Join(sides[i].arguments(), " "); got != want {
			t.Errorf("%s:\n%s\nwant\n%s", sides[i].title(), got, want)
		}
	}
}
