// SPDX-License-Identifier: Apache-2.0

package controllers

import (
	"fmt"
	"testing"
	"time"

	"github.com/heddle-mesh/heddle/api/v1alpha1"
	applyv1alpha1 "github.com/heddle-mesh/heddle/api/v1alpha1/applyconfiguration/api/v1alpha1"
	"github.com/heddle-mesh/heddle/internal/compile"
	"github.com/heddle-mesh/heddle/internal/distribute"
	"github.com/heddle-mesh/heddle/test/gen"
)

func TestStatusShowsFaultsUntilTheyEnd(t *testing.T) {
	now := time.Date(2026, 3, 31, 17, 0, 0, 0, time.UTC)
	ends := []time.Time{now.Add(time.Hour), now.Add(90 * time.Minute)}
	for name, c := range map[string]struct {
		after  time.Duration
		faults string
		in     time.Duration
	}{
		"both are in force":       {0, "2, next ends 2026-03-31T18:00:00Z", time.Hour},
		"the first ends now":      {time.Hour, "1, next ends 2026-03-31T18:30:00Z", 30 * time.Minute},
		"the last ended just now": {90*time.Minute + time.Millisecond, "", 0},
	} {
		t.Run(name, func(t *testing.T) {
			s := &sight{Effect: compile.Effect{FaultsEnd: ends}, now: now.Add(c.after)}
			if got := restOfProfile(s).Faults; got != c.faults || s.changesIn() != c.in {
				t.Errorf("%q, changes in %v; want %q, %v", got, s.changesIn(), c.faults, c.in)
			}
		})
	}
	if in := (*sight)(nil).changesIn(); in != 0 {
		t.Errorf("what was not judged changes in %v", in)
	}
}

func TestStatusShowsFaultsInForceWhileNewerOnesAreNotPublished(t *testing.T) {
	now := time.Date(2026, 3, 31, 17, 0, 0, 0, time.UTC)
	newer := []time.Time{now.Add(2 * time.Hour), now.Add(3 * time.Hour)}
	for name, c := range map[string]struct {
		said  string
		newer []time.Time
		want  string
		in    time.Duration
	}{
		"none are in force":                {"", newer, "", 0},
		"the next ends later":              {"3, next ends 2026-03-31T18:00:00Z", newer, "3, next ends 2026-03-31T18:00:00Z", time.Hour},
		"the next ends later, newer: none": {"1, next ends 2026-03-31T18:00:00Z", nil, "1, next ends 2026-03-31T18:00:00Z", time.Hour},
		"the only one ended just now":      {"1, next ends 2026-03-31T17:00:00Z", newer, "", 0},
		"one of two ended":                 {"2, next ends 2026-03-31T16:00:00Z", newer, "1, next ends 2026-03-31T19:00:00Z", 2 * time.Hour},
		"some of four ended":               {"4, next ends 2026-03-31T16:00:00Z", newer, "2, next ends 2026-03-31T19:00:00Z", 2 * time.Hour},
		"somebody has written there":       {"-1, next ends 2026-03-31T18:00:00Z", newer, "", 0},
		"and no time":                      {"2, next ends soon", newer, "", 0},
		"a number that would fill memory":  {"9999999999, next ends 2026-03-31T18:00:00Z", newer, "", 0},
	} {
		t.Run(name, func(t *testing.T) {
			before := int32(7)
			o := &v1alpha1.ServiceProfile{Status: v1alpha1.ServiceProfileStatus{Faults: c.said, Routes: &before}}
			seen := &sight{Effect: compile.Effect{FaultsEnd: c.newer, Routes: 9}, now: now, kept: true, health: distribute.Health{Exhausted: 1}}
			next := serviceProfiles().configuration(o, o.Status.Status, seen).(*applyv1alpha1.ServiceProfileApplyConfiguration).Status
			got := ""
			if next.Faults != nil {
				got = *next.Faults
			}
			if got != c.want || seen.changesIn() != c.in || *next.Routes != before {
				t.Errorf("%q, changes in %v, %d routes; want %q, %v, %d", got, seen.changesIn(), *next.Routes, c.want, c.in, before)
			}
		})
	}
}

func TestStatusShowsWhoIsEjectedInAFewWords(t *testing.T) {
	some := []string{"10.0.0.1:80", "10.0.0.2:80", "10.0.0.3:80", "10.0.0.4:80", "10.0.0.5:80"}
	for want, h := range map[string]distribute.Health{
		"":                            {},
		"2: 10.0.0.1:80, 10.0.0.2:80": {Ejected: some[:2]},
		"5: 10.0.0.1:80, 10.0.0.2:80, 10.0.0.3:80, 10.0.0.4:80, and 1 more": {Ejected: some},
		"9: 10.0.0.1:80, and 8 more":                                        {Ejected: some[:1], MoreEjected: 8},
	} {
		if got := formatEjected(h); got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
	if short := restOfProfile(&sight{health: distribute.Health{Exhausted: 3}}).BudgetExhausted; short == nil || *short != 3 {
		t.Errorf("%v proxies are short of budget, want 3", short)
	}
}

func TestStatusShowsWhoIsEjectedOfBackendsToo(t *testing.T) {
	r := &statusReconciler[*v1alpha1.ServiceProfile]{
		clock: time.Now,
		health: func(service string, backends ...string) distribute.Health {
			return distribute.Health{Ejected: append([]string{"10.0.0.1:80 of " + service}, backends...)}
		},
	}
	seen := r.look(compile.Effect{Service: "checkout.shop", Backends: []string{"10.0.0.2:80", "10.0.0.3:80"}})
	if got := restOfProfile(seen).Ejected; got != "3: 10.0.0.1:80 of checkout.shop, 10.0.0.2:80, 10.0.0.3:80" {
		t.Errorf("status.ejected is %q", got)
	}
}

func TestAFaultIsSeenInStatus(t *testing.T) {
	i := newInstallation(t)
	shop := newNamespace(t, nil)
	profile := gen.ServiceProfile(shop, "checkout", "checkout", gen.Fault("slow", nil))
	create(t, service(shop, "checkout"), profile)
	i.start(t)
	eventually(t, func() string {
		if got := get(t, profile).Status.Faults; got != "1, next ends 2030-01-01T00:00:00Z" {
			return fmt.Sprintf("status.faults is %q", got)
		}
		return ""
	})
}
