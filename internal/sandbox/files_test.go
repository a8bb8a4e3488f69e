// SPDX-License-Identifier: Apache-2.0

package sandbox

import (
	"strings"
	"testing"
)

func TestWhatIsWrongWithAFileIsNamed(t *testing.T) {
	f, err := newFiles(nil)
	check(t, err)
	const split = "apiVersion: mesh.heddle.io/v1alpha1\nkind: TrafficSplit\nmetadata: {name: cart, namespace: shop}\n"
	for name, c := range map[string]struct {
		text string
		want []string
	}{
		"an unknown field":       {split + "spec: {services: {name: cart}}", []string{"TrafficSplit shop/cart", `"spec.services"`}},
		"one deep inside":        {split + "spec: {backends: [{name: a}, {name: b, wait: 1}]}", []string{`"spec.backends[1].wait"`}},
		"a key twice":            {split + "spec: {}\nspec: {}", []string{"document 1", "spec", "already"}},
		"another type":           {split + "spec: {backends: all}", []string{"TrafficSplit shop/cart", "backends"}},
		"a kind of ours unknown": {strings.Replace(split, "TrafficSplit", "TrafficJam", 1), []string{"TrafficJam shop/cart", "no kind"}},
		"a version unknown":      {strings.Replace(split, "v1alpha1", "v9", 1), []string{"mesh.heddle.io/v9"}},
		"no kind":                {"metadata: {name: x}", []string{"document 1", "apiVersion and kind: required"}},
		"no name":                {"apiVersion: v1\nkind: Service", []string{"Service default/", "metadata.name: required"}},
		"the second document":    {service("cart", "") + "{", []string{"document 2"}},
		"an item of a list":      {"apiVersion: v1\nkind: List\nitems: [{apiVersion: v1, kind: Pod}]", []string{"items[0]", "metadata.name"}},
		"an address elsewhere":   {slice("cart", "192.0.2.1", 80, ""), []string{"EndpointSlice shop/cart-80", "endpoints[0].addresses[0]", "loopback"}},
		"a port that is none":    {slice("cart", "127.0.0.1", 70000, ""), []string{"ports[0].port"}},
	} {
		_, err := f.decode([]byte(c.text))
		if err == nil {
			t.Errorf("%s: it is taken", name)
			continue
		}
		for _, want := range c.want {
			if !strings.Contains(err.Error(), want) {
				t.Errorf("%s: %v: want %q", name, err, want)
			}
		}
	}
}

func TestOtherKindsAreLeftOut(t *testing.T) {
	got := objects(t, "apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: a}\nspec: {replicas: many}\n---\n# nothing\n---\n"+
		"apiVersion: v1\nkind: Namespace\nmetadata: {name: a}\n---\n"+
		"apiVersion: gateway.networking.k8s.io/v1\nkind: HTTPRoute\nmetadata: {name: a}\n---\n"+
		"apiVersion: v1\nkind: Pod\nmetadata: {name: a}\n")
	if len(got) != 1 || describe(got[0]) != "Pod default/a" {
		t.Errorf("%v", got)
	}
}

func TestABadFileKeepsWhatItHeld(t *testing.T) {
	dir := t.TempDir()
	f, err := newFiles([]string{dir})
	check(t, err)
	read := func() (problems int, held []string) {
		stamps, err := f.stamps()
		check(t, err)
		problems = len(f.read(stamps))
		all, _ := f.objects()
		for _, o := range all {
			held = append(held, describe(o))
		}
		return problems, held
	}
	write(t, dir, "a.yaml", service("a", ""))
	write(t, dir, "b.yml", service("b", ""))
	write(t, dir, "notes.txt", "{")
	write(t, dir, ".a.yaml.swp.yaml", "{")
	steps := []struct {
		do       func()
		problems int
		held     string
	}{
		{func() {}, 0, "Service shop/a, Service shop/b"},
		{func() { write(t, dir, "a.yaml", "{ broken") }, 1, "Service shop/a, Service shop/b"},
		{func() {}, 0, "Service shop/a, Service shop/b"}, // it is told once
		{func() { write(t, dir, "a.yaml", service("c", "")) }, 0, "Service shop/c, Service shop/b"},
		{func() { write(t, dir, "a.yaml", service("b", "")+service("d", "")) }, 1, "Service shop/c, Service shop/b"},
	}
	for i, step := range steps {
		step.do()
		if problems, held := read(); problems != step.problems || strings.Join(held, ", ") != step.held {
			t.Errorf("step %d: %d problems, %v", i, problems, held)
		}
	}
}
