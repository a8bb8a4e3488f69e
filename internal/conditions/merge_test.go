// SPDX-License-Identifier: Apache-2.0

package conditions_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/heddle-mesh/heddle/api/v1alpha1"
	"github.com/heddle-mesh/heddle/internal/conditions"
)

var (
	first = metav1.NewTime(time.Date(2026, 5, 4, 12, 0, 0, 0, time.UTC))
	later = metav1.NewTime(first.Add(time.Hour))
)

const (
	isTrue  = metav1.ConditionTrue
	isFalse = metav1.ConditionFalse
	unknown = metav1.ConditionUnknown
)

// summary is a status in lines: "Type=Status Reason".
func summary(s v1alpha1.Status) string {
	lines := []string{fmt.Sprintf("generation %d, programmed %q", s.ObservedGeneration, s.Programmed)}
	for _, c := range s.Conditions {
		lines = append(lines, fmt.Sprintf("%s=%s %s", c.Type, c.Status, c.Reason))
	}
	return strings.Join(lines, "\n")
}

func lines(l ...string) string { return strings.Join(l, "\n") }

func TestMerge(t *testing.T) {
	t.Parallel()
	invalid := conditions.Verdict{
		Condition: v1alpha1.ConditionAccepted, Status: isFalse, Reason: v1alpha1.ReasonInvalid, Message: "spec.rules[0]: no",
	}
	missing := conditions.Verdict{
		Condition: v1alpha1.ConditionResolvedRefs, Status: isFalse, Reason: v1alpha1.ReasonBackendNotFound, Message: "no Service v2",
	}
	conflict := conditions.Verdict{
		Condition: v1alpha1.ConditionConflicted, Status: isTrue, Reason: v1alpha1.ReasonConflicted, Message: "shop/older owns it",
	}
	accepted := conditions.Verdict{Condition: v1alpha1.ConditionAccepted, Status: isTrue, Reason: v1alpha1.ReasonAccepted, Message: "fine"}
	cases := map[string]struct {
		judgement conditions.Judgement
		want      string
		message   string // of Ready
	}{
		"an object that nobody judged yet": {
			conditions.Judgement{},
			lines(`generation 0, programmed ""`, "Ready=Unknown Pending"), "not judged yet",
		},
		"a good one that no proxy uses": {
			conditions.Judgement{Generation: 3, Verdicts: []conditions.Verdict{accepted}},
			lines(`generation 3, programmed "0/0"`, "Accepted=True Accepted", "ResolvedRefs=True ResolvedRefs",
				"Conflicted=False NoConflict", "Programmed=True NoSubscribers", "Ready=True Ready"),
			"no connected proxy uses it at the moment",
		},
		"a good one that all proxies have": {
			conditions.Judgement{Generation: 3, Progress: conditions.Progress{Subscribed: 120, Acked: 120}},
			lines(`generation 3, programmed "120/120"`, "Accepted=True Accepted", "ResolvedRefs=True ResolvedRefs",
				"Conflicted=False NoConflict", "Programmed=True Programmed", "Ready=True Ready"),
			"120/120 proxies",
		},
		"a good one on its way": {
			conditions.Judgement{Generation: 3, Progress: conditions.Progress{Subscribed: 120, Acked: 118}},
			lines(`generation 3, programmed "118/120"`, "Accepted=True Accepted", "ResolvedRefs=True ResolvedRefs",
				"Conflicted=False NoConflict", "Programmed=Unknown Pending", "Ready=Unknown Pending"),
			"118/120 proxies",
		},
		"one that a proxy refused": {
			conditions.Judgement{Generation: 3, Progress: conditions.Progress{
				Subscribed: 2, Acked: 1, Refusals: []string{"pod shop/web-0 refused mesh: payload"}, More: 4,
			}},
			lines(`generation 3, programmed "1/2"`, "Accepted=True Accepted", "ResolvedRefs=True ResolvedRefs",
				"Conflicted=False NoConflict", "Programmed=False Nacked", "Ready=False Nacked"),
			"1/2 proxies: pod shop/web-0 refused mesh: payload; and 4 more",
		},
		"one that the operator keeps back": {
			conditions.Judgement{Generation: 3, Shaped: true, Progress: conditions.Progress{
				Subscribed: 12, Unpublished: []string{"section routes/checkout.shop/*: too long"}, Refusals: []string{"pod shop/web-0 refused mesh: payload"},
			}},
			lines(`generation 3, programmed "0/12"`, "Accepted=True Accepted", "ResolvedRefs=True ResolvedRefs",
				"Conflicted=False NoConflict", "Programmed=False NotPublished", "Ready=False NotPublished"),
			"0/12 proxies: not published, so that proxies keep what they have: section routes/checkout.shop/*: too long; pod shop/web-0 refused mesh: payload",
		},
		"a good one that waits while an earlier generation is in force": {
			conditions.Judgement{
				Generation: 3, Verdicts: []conditions.Verdict{missing}, LastGood: true,
				Progress: conditions.Progress{Subscribed: 2, Acked: 2},
			},
			lines(`generation 3, programmed ""`, "Accepted=True Accepted", "ResolvedRefs=False BackendNotFound",
				"Conflicted=False NoConflict", "Programmed=False NotInForce", "Ready=False BackendNotFound"),
			"no Service v2",
		},
		"an invalid one": {
			conditions.Judgement{Generation: 3, Verdicts: []conditions.Verdict{invalid}},
			lines(`generation 3, programmed ""`, "Accepted=False Invalid", "ResolvedRefs=True ResolvedRefs",
				"Conflicted=False NoConflict", "Programmed=False NotInForce", "Ready=False Invalid", "Stalled=True Invalid"),
			"spec.rules[0]: no",
		},
		"one that names what is not there": {
			conditions.Judgement{Generation: 3, Verdicts: []conditions.Verdict{missing}, Progress: conditions.Progress{Subscribed: 1, Acked: 1}},
			lines(`generation 3, programmed "1/1"`, "Accepted=True Accepted", "ResolvedRefs=False BackendNotFound",
				"Conflicted=False NoConflict", "Programmed=True Programmed", "Ready=False BackendNotFound"),
			"no Service v2",
		},
		"the loser of a conflict": {
			conditions.Judgement{Generation: 3, Verdicts: []conditions.Verdict{conflict}},
			lines(`generation 3, programmed ""`, "Accepted=True Accepted", "ResolvedRefs=True ResolvedRefs",
				"Conflicted=True Conflicted", "Programmed=False NotInForce", "Ready=False Conflicted"),
			"shop/older owns it",
		},
		"the loser of a part": {
			conditions.Judgement{Generation: 3, Shaped: true, Verdicts: []conditions.Verdict{conflict}, Progress: conditions.Progress{Subscribed: 2, Acked: 2}},
			lines(`generation 3, programmed "2/2"`, "Accepted=True Accepted", "ResolvedRefs=True ResolvedRefs",
				"Conflicted=True Conflicted", "Programmed=True Programmed", "Ready=False Conflicted"),
			"shop/older owns it",
		},
		"the loser of a part whose rest a proxy refused": {
			conditions.Judgement{Generation: 3, Shaped: true, Verdicts: []conditions.Verdict{conflict}, Progress: conditions.Progress{
				Subscribed: 2, Acked: 1, Refusals: []string{"pod shop/web-0 refused mesh: payload"},
			}},
			lines(`generation 3, programmed "1/2"`, "Accepted=True Accepted", "ResolvedRefs=True ResolvedRefs",
				"Conflicted=True Conflicted", "Programmed=False Nacked", "Ready=False Conflicted"),
			"shop/older owns it",
		},
		"an invalid one that runs on its last good spec": {
			conditions.Judgement{Generation: 3, Shaped: true, Verdicts: []conditions.Verdict{invalid}},
			lines(`generation 3, programmed ""`, "Accepted=False Invalid", "ResolvedRefs=True ResolvedRefs",
				"Conflicted=False NoConflict", "Programmed=False NotInForce", "Ready=False Invalid", "Stalled=True Invalid"),
			"spec.rules[0]: no",
		},
		"one with many faults": {
			conditions.Judgement{Generation: 3, Verdicts: []conditions.Verdict{conflict, missing, invalid, {
				Condition: v1alpha1.ConditionAccepted, Status: isFalse, Reason: "Other", Message: "and more",
			}, invalid}},
			lines(`generation 3, programmed ""`, "Accepted=False Invalid", "ResolvedRefs=False BackendNotFound",
				"Conflicted=True Conflicted", "Programmed=False NotInForce", "Ready=False Invalid", "Stalled=True Invalid"),
			"spec.rules[0]: no; and more",
		},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got := conditions.TrafficSplit.Merge(v1alpha1.Status{}, c.judgement, first)
			if summary(got) != c.want {
				t.Errorf("got\n%s\nwant\n%s", summary(got), c.want)
			}
			for _, condition := range got.Conditions {
				if condition.LastTransitionTime != first || condition.ObservedGeneration != c.judgement.Generation {
					t.Errorf("%s: time %v, generation %d", condition.Type, condition.LastTransitionTime, condition.ObservedGeneration)
				}
				if condition.Type == v1alpha1.ConditionReady && condition.Message != c.message {
					t.Errorf("Ready says %q, want %q", condition.Message, c.message)
				}
			}
			if again := conditions.TrafficSplit.Merge(got, c.judgement, later); !conditions.Same(got, again) {
				t.Errorf("merging again changes\n%v\nto\n%v", got, again)
			}
		})
	}
}

func TestTransitionTimesMoveWithTheStatusOnly(t *testing.T) {
	t.Parallel()
	at := func(s v1alpha1.Status, kind string) metav1.Time {
		for _, c := range s.Conditions {
			if c.Type == kind {
				return c.LastTransitionTime
			}
		}
		t.Fatalf("no condition %s", kind)
		return metav1.Time{}
	}
	progress := func(acked int) conditions.Judgement {
		return conditions.Judgement{Generation: 1, Progress: conditions.Progress{Subscribed: 3, Acked: acked}}
	}
	one := conditions.MeshPolicy.Merge(v1alpha1.Status{}, progress(1), first)
	two := conditions.MeshPolicy.Merge(one, progress(2), later)
	if conditions.Same(one, two) || at(two, v1alpha1.ConditionReady) != first {
		t.Error("want another message at the old time")
	}
	done := conditions.MeshPolicy.Merge(two, progress(3), later)
	if at(done, v1alpha1.ConditionReady) != later || at(done, v1alpha1.ConditionAccepted) != first {
		t.Error("want a new time of Ready, which changed, and the old one of Accepted, which did not")
	}
}

func TestAnOldJudgementChangesNothing(t *testing.T) {
	t.Parallel()
	now := conditions.TrafficSplit.Merge(v1alpha1.Status{}, conditions.Judgement{Generation: 5}, first)
	for _, j := range []conditions.Judgement{{}, {Generation: 4}} {
		if got := conditions.TrafficSplit.Merge(now, j, later); !conditions.Same(now, got) {
			t.Errorf("generation %d turned\n%s\ninto\n%s", j.Generation, summary(now), summary(got))
		}
	}
}

func TestConditionsOfOthersAreLeftAlone(t *testing.T) {
	t.Parallel()
	old := conditions.TrafficSplit.Merge(v1alpha1.Status{}, conditions.Judgement{Generation: 1}, first)
	old.Conditions = append(old.Conditions, metav1.Condition{Type: "Theirs", Status: isTrue})
	next := conditions.TrafficSplit.Merge(old, conditions.Judgement{Generation: 1}, later)
	if !conditions.Same(old, next) {
		t.Error("another's condition makes a difference")
	}
	for _, c := range conditions.Configuration(old).Conditions {
		if *c.Type == "Theirs" {
			t.Error("another's condition would be applied")
		}
	}
	old.Conditions = old.Conditions[1:]
	if conditions.Same(old, next) {
		t.Error("a condition that is missing makes no difference")
	}
}

func TestLongMessagesAreCut(t *testing.T) {
	t.Parallel()
	got := conditions.TrafficSplit.Merge(v1alpha1.Status{}, conditions.Judgement{Generation: 1, Verdicts: []conditions.Verdict{
		{Condition: v1alpha1.ConditionAccepted, Status: unknown, Reason: "Long", Message: strings.Repeat("ä", 5000)},
	}}, first)
	for _, c := range got.Conditions {
		if len(c.Message) > 2100 || !strings.HasPrefix(strings.Repeat("ä", 5000), strings.TrimSuffix(c.Message, " ...")) && c.Reason == "Long" {
			t.Errorf("%s has a message of %d bytes", c.Type, len(c.Message))
		}
	}
}
