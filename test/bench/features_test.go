// SPDX-License-Identifier: Apache-2.0

//go:build linux

package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/heddle-mesh/heddle/test/bench/peers"
)

func TestWhatFeaturesCost(t *testing.T) {
	r := newTestReport(nil)
	cost := func(f peers.Feature, work string, with ...float64) {
		for round, v := range with {
			r.addFeatured(featured{Feature: f.Name, Work: work, Round: round, Without: 10, With: v})
		}
	}
	first, second := peers.Features[0], peers.Features[1]
	cost(second, "HTTP/1.1", 9)
	cost(first, "HTTP/1.1", 12, 10, 11)
	cost(first, "HTTP/2", 15, 15, 15)
	r.addFeatured(featured{Feature: first.Name, Work: "HTTP/2", Round: 3, Without: 10, With: 1000, Failure: "it broke"})

	page := r.featuresTable()
	at := -1
	for _, want := range []string{
		"| " + first.Name + " | 1.100 (1.050..1.150) | +1.00 | 1.500 (1.500..1.500) | +5.00 | 3 |\n",
		"| " + second.Name + " | 0.900 (0.900..0.900) | -1.00 | unmeasured | |",
	} {
		i := strings.Index(page, want)
		if i <= at {
			t.Errorf("it lacks %q, in order of the list:\n%s", want, page)
		}
		at = i
	}
}

func TestFeaturesAreMergedWhole(t *testing.T) {
	earlier := newTestReport(nil)
	for _, f := range peers.Features[:2] {
		earlier.addFeatured(featured{Feature: f.Name, Work: "HTTP/1.1", Without: 10, With: 20})
	}
	raw, err := json.Marshal(earlier)
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "earlier.json")
	if err := os.WriteFile(file, raw, 0o600); err != nil {
		t.Fatal(err)
	}
	r := newTestReport(nil)
	r.addFeatured(featured{Feature: peers.Features[1].Name, Work: "HTTP/2", Without: 10, With: 11})
	if err := r.mergeWith(file); err != nil {
		t.Fatal(err)
	}
	if len(r.Features) != 2 || r.Features[1].Feature != peers.Features[0].Name {
		t.Errorf("%+v", r.Features)
	}
}
