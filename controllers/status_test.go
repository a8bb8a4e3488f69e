// SPDX-License-Identifier: Apache-2.0

package controllers

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	eventsv1 "k8s.io/api/events/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/heddle-mesh/heddle/api/v1alpha1"
	"github.com/heddle-mesh/heddle/internal/collect"
	"github.com/heddle-mesh/heddle/internal/compile"
	"github.com/heddle-mesh/heddle/internal/conditions"
	"github.com/heddle-mesh/heddle/internal/meshconfig"
	"github.com/heddle-mesh/heddle/internal/signedconfig"
	"github.com/heddle-mesh/heddle/test/gen"
)

// brokenRule passes the schema, and not compile: the path is not normal. The webhook is not there in these tests.
func brokenRule() gen.Option[v1alpha1.TrafficSplit] {
	return gen.Rule("canary", "v1", gen.Path(v1alpha1.PathMatchPrefix, "/ok"), gen.Path(v1alpha1.PathMatchPrefix, "/a;b%2Fc"))
}

func service(namespace, name string) *corev1.Service {
	return &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name},
		Spec: corev1.ServiceSpec{
			Selector: map[string]string{"app": name},
			Ports:    []corev1.ServicePort{{Name: "http", Port: 80}},
		},
	}
}

func TestConditionsSayWhatIsWrong(t *testing.T) {
	i := newInstallation(t)
	shop := newNamespace(t, nil)
	create(t, service(shop, "checkout"), service(shop, "v1"), service(shop, "cart"))
	cases := map[string]struct {
		object client.Object
		status func(client.Object) v1alpha1.Status
		want   string
		says   string // part of the message of Ready
	}{
		"a good split": {
			gen.TrafficSplit(shop, "good", "checkout", gen.Backend("v1", 1)), splitStatus,
			"Accepted=True(Accepted) ResolvedRefs=True(ResolvedRefs) Conflicted=False(NoConflict) Programmed=True(NoSubscribers) Ready=True(Ready)",
			"no connected proxy",
		},
		"a split to a service that is not there": {
			gen.TrafficSplit(shop, "missing", "cart", gen.Backend("v9", 1)), splitStatus,
			"Accepted=True(Accepted) ResolvedRefs=False(BackendNotFound) Conflicted=False(NoConflict) Programmed=True(NoSubscribers) Ready=False(BackendNotFound)",
			"v9",
		},
		"an invalid split": {
			gen.TrafficSplit(shop, "invalid", "v1", gen.Backend("v1", 1), brokenRule()), splitStatus,
			"Accepted=False(Invalid) ResolvedRefs=Unknown(Pending) Conflicted=Unknown(Pending) Programmed=False(NotInForce) Ready=False(Invalid) Stalled=True(Invalid)",
			"spec.rules[0].matches[1].path.value",
		},
		"a policy for the mesh outside the operator's namespace": {
			gen.MeshPolicy(shop, "mesh", gen.ForMesh(), gen.MTLS(v1alpha1.MTLSStrict)), policyStatus,
			"Accepted=False(NotPermitted) ResolvedRefs=Unknown(Pending) Conflicted=Unknown(Pending) Programmed=False(NotInForce) Ready=False(NotPermitted) Stalled=True(NotPermitted)",
			i.namespace,
		},
		"a good profile": {
			gen.ServiceProfile(shop, "good", "checkout", gen.Route("all", "")), profileStatus,
			"Accepted=True(Accepted) ResolvedRefs=True(ResolvedRefs) Conflicted=False(NoConflict) Programmed=True(NoSubscribers) Ready=True(Ready)",
			"",
		},
	}
	for _, c := range cases {
		create(t, c.object)
	}
	i.start(t)
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			eventually(t, func() string {
				status := c.status(get(t, c.object))
				if got := line(status.Conditions); got != c.want {
					return fmt.Sprintf("got  %s\nwant %s\n%v", got, c.want, status.Conditions)
				}
				ready := status.Conditions[4]
				if !strings.Contains(ready.Message, c.says) || ready.ObservedGeneration != c.object.GetGeneration() ||
					status.ObservedGeneration != c.object.GetGeneration() {
					return fmt.Sprintf("Ready says %q of generation %d", ready.Message, ready.ObservedGeneration)
				}
				return ""
			})
		})
	}
	split := get(t, &v1alpha1.TrafficSplit{ObjectMeta: metav1.ObjectMeta{Namespace: shop, Name: "good"}})
	if split.Status.Weights != "v1 1" {
		t.Errorf("weights %q", split.Status.Weights)
	}
	for _, f := range split.ManagedFields {
		if f.Manager == conditions.FieldManager && f.Subresource != "status" {
			t.Errorf("the operator owns fields outside of status: %s", f.FieldsV1)
		}
	}
}

func splitStatus(o client.Object) v1alpha1.Status  { return o.(*v1alpha1.TrafficSplit).Status.Status }
func policyStatus(o client.Object) v1alpha1.Status { return o.(*v1alpha1.MeshPolicy).Status.Status }
func profileStatus(o client.Object) v1alpha1.Status {
	return o.(*v1alpha1.ServiceProfile).Status.Status
}

// refusing signs all but one section.
type refusing struct {
	*signedconfig.Signer

	section meshconfig.Name
}

func (r refusing) Sign(st *signedconfig.Statement) ([]byte, error) {
	if st.Section == string(r.section) {
		return nil, errors.New("the test does not sign it")
	}
	return r.Signer.Sign(st)
}

func TestWhatIsNotPublishedIsNotReady(t *testing.T) {
	i := newInstallation(t)
	shop := newNamespace(t, nil)
	split := gen.TrafficSplit(shop, "checkout", "checkout", gen.Backend("v1", 1))
	profile := gen.ServiceProfile(shop, "checkout", "checkout", gen.Route("all", ""))
	other := gen.ServiceProfile(shop, "v1", "v1", gen.Route("all", ""))
	create(t, service(shop, "checkout"), service(shop, "v1"), split, profile, other)
	r := i.start(t)
	becomes := func(want, says string, generation int64) {
		t.Helper()
		for o, status := range map[client.Object]func(client.Object) v1alpha1.Status{split: splitStatus, profile: profileStatus} {
			eventually(t, func() string {
				s := status(get(t, o))
				if got := line(s.Conditions); !strings.Contains(got, want) || s.ObservedGeneration != generation {
					return fmt.Sprintf("got  %s\nwant %s of generation %d", got, want, generation)
				}
				if ready := s.Conditions[4]; !strings.Contains(ready.Message, says) {
					return "Ready says " + ready.Message
				}
				return ""
			})
		}
	}
	becomes("Programmed=True(NoSubscribers) Ready=True(Ready)", "", 1)
	signer, routes := r.leadership.Signers.Current(), meshconfig.RoutesName("checkout."+shop)
	if err := r.leadership.Publisher().SetSigner(refusing{signer, routes}); err == nil {
		t.Fatal("the section is signed")
	}
	inForce := func(weights string, routes int32) {
		t.Helper()
		if w, n := get(t, split).Status.Weights, get(t, profile).Status.Routes; w != weights || n == nil || *n != routes {
			t.Errorf("weights %q and %v routes in force: want %q and %d", w, n, weights, routes)
		}
	}
	inForce("v1 1", 1)
	*get(t, split).Spec.Backends[0].Weight = 2
	if err := api.Update(t.Context(), split); err != nil {
		t.Fatal(err)
	}
	gen.Route("more", "")(get(t, profile))
	slices.Reverse(profile.Spec.Routes)
	profile.Spec.Routes[0].Matches = []v1alpha1.RequestMatch{gen.Path(v1alpha1.PathMatchPrefix, "/more")}
	if err := api.Update(t.Context(), profile); err != nil {
		t.Fatal(err)
	}
	becomes("Programmed=False(NotPublished) Ready=False(NotPublished)", "section "+string(routes)+": the test does not sign it", 2)
	inForce("v1 1", 1)
	if got := line(profileStatus(get(t, other)).Conditions); !strings.Contains(got, "Ready=True") {
		t.Errorf("what shaped another section: %s", got)
	}
	if err := r.leadership.Publisher().SetSigner(signer); err != nil {
		t.Fatal(err)
	}
	becomes("Programmed=True(NoSubscribers) Ready=True(Ready)", "", 2)
	inForce("v1 2", 2)
}

// A profile shapes what is sent to its service as a backend too, in the routes of another service.
func TestStatusShowsTheOwnRoutesThatArePublished(t *testing.T) {
	i := newInstallation(t)
	shop := newNamespace(t, nil)
	split := gen.TrafficSplit(shop, "checkout", "checkout", gen.Backend("v1", 1))
	profile := gen.ServiceProfile(shop, "v1", "v1", gen.Route("all", ""), gen.Check("/healthy"))
	create(t, service(shop, "checkout"), service(shop, "v1"), split, profile)
	r := i.start(t)
	becomes := func(want string, routes int32) {
		t.Helper()
		eventually(t, func() string {
			s := get(t, profile).Status
			if got := line(s.Conditions); !strings.Contains(got, want) || s.Routes == nil || *s.Routes != routes {
				return fmt.Sprintf("%s: want %s and %d routes", got, want, routes)
			}
			return ""
		})
	}
	becomes("Ready=True", 1)
	if err := r.leadership.Publisher().SetSigner(refusing{r.leadership.Signers.Current(), meshconfig.RoutesName("checkout." + shop)}); err == nil {
		t.Fatal("the section is signed")
	}
	gen.Route("more", "")(get(t, profile))
	profile.Spec.Routes[1].Matches = []v1alpha1.RequestMatch{gen.Path(v1alpha1.PathMatchPrefix, "/more")}
	slices.Reverse(profile.Spec.Routes)
	profile.Spec.HealthCheck.HTTP.Path = "/fine"
	if err := api.Update(t.Context(), profile); err != nil {
		t.Fatal(err)
	}
	becomes("Programmed=False(NotPublished)", 2)
}

func TestTheOldestOwnsAServiceAndIsFollowedByTheNext(t *testing.T) {
	i := newInstallation(t)
	shop := newNamespace(t, nil)
	create(t, service(shop, "checkout"), service(shop, "v1"))
	// Made within one second, so that the name decides.
	older, newer := gen.TrafficSplit(shop, "a", "checkout", gen.Backend("v1", 1)), gen.TrafficSplit(shop, "b", "checkout", gen.Backend("v1", 2))
	create(t, older, newer)
	r := i.start(t)
	conflicted := func(o *v1alpha1.TrafficSplit, want string) {
		t.Helper()
		eventually(t, func() string {
			if got := line(get(t, o).Status.Conditions); !strings.Contains(got, want) {
				return fmt.Sprintf("%s: got %s, want %s", o.Name, got, want)
			}
			return ""
		})
	}
	conflicted(older, "Conflicted=False")
	conflicted(newer, "Conflicted=True(Conflicted)")
	if err := api.Delete(t.Context(), older); err != nil {
		t.Fatal(err)
	}
	conflicted(newer, "Conflicted=False(NoConflict) Programmed=True(NoSubscribers) Ready=True(Ready)")
	eventually(t, func() string {
		events := &eventsv1.EventList{}
		if err := api.List(t.Context(), events, client.InNamespace(shop)); err != nil {
			t.Fatal(err)
		}
		for _, e := range events.Items {
			if e.Reason == "TookOver" && e.Regarding.Name == "b" && strings.Contains(e.Note, "shop/a") || strings.Contains(e.Note, shop+"/a") {
				return ""
			}
		}
		return fmt.Sprintf("no event says that b took over, in %d", len(events.Items))
	})
	entry := r.node.Hub().Get(meshconfig.RoutesName("checkout." + shop))
	if entry == nil || entry.Tombstone {
		t.Error("the routes of the service are gone")
	}
}

// What a change that waits, or conflicts, has in force is told, and stays the last good spec.
func TestStatusIsAboutWhatIsInForce(t *testing.T) {
	i := newInstallation(t)
	i.start(t)
	shop := newNamespace(t, nil)
	split := gen.TrafficSplit(shop, "checkout", "checkout", gen.Backend("v1", 90), gen.Backend("v2", 10))
	other := gen.TrafficSplit(shop, "other", "other", gen.Backend("v1", 1))
	create(t, service(shop, "checkout"), service(shop, "v1"), service(shop, "v2"), service(shop, "other"), split, other)
	waitForRevision(t, split, 1)
	waitForRevision(t, other, 1)
	is := func(generation int64, want string) {
		t.Helper()
		eventually(t, func() string {
			status := get(t, split).Status
			if got := line(status.Conditions); got != want || status.ObservedGeneration != generation {
				return fmt.Sprintf("generation %d, status: %s", status.ObservedGeneration, got)
			}
			if status.Weights != "v1 90, v2 10" || status.Programmed != "" {
				return fmt.Sprintf("weights in force: %q, programmed: %q", status.Weights, status.Programmed)
			}
			return ""
		})
		waitForRevision(t, split, 1)
	}
	gen.Subset("green", 1, "version", "gren")(get(t, split))
	update(t, split)
	is(2, "Accepted=True(Accepted) ResolvedRefs=False(BackendNotFound) Conflicted=False(NoConflict) Programmed=False(NotInForce) Ready=False(BackendNotFound)")
	get(t, split).Spec.Backends = split.Spec.Backends[:2]
	gen.Backend("other", 0)(split)
	update(t, split)
	is(3, "Accepted=True(Accepted) ResolvedRefs=True(ResolvedRefs) Conflicted=True(Conflicted) Programmed=False(NotInForce) Ready=False(Conflicted)")
}

// waitForRevision waits until the last good spec of a split is that of a generation.
func waitForRevision(t *testing.T, split *v1alpha1.TrafficSplit, generation int64) {
	t.Helper()
	eventually(t, func() string {
		list := &appsv1.ControllerRevisionList{}
		if err := api.List(t.Context(), list, client.InNamespace(split.Namespace), client.MatchingLabels{collect.LastGoodLabel: string(split.UID)}); err != nil {
			t.Fatal(err)
		}
		if len(list.Items) != 1 || list.Items[0].Revision != generation {
			return fmt.Sprintf("%d revisions, want the one of generation %d", len(list.Items), generation)
		}
		return ""
	})
}

func update(t *testing.T, split *v1alpha1.TrafficSplit) {
	t.Helper()
	if err := api.Update(t.Context(), split); err != nil {
		t.Fatal(err)
	}
}

func TestLastGoodSurvivesTheOperator(t *testing.T) {
	i := newInstallation(t)
	shop := newNamespace(t, nil)
	split := gen.TrafficSplit(shop, "checkout", "checkout", gen.Backend("v1", 90), gen.Backend("v2", 10))
	create(t, service(shop, "checkout"), service(shop, "v1"), service(shop, "v2"), split)
	first := i.start(t)
	waitForRevision(t, split, 1)
	get(t, split).Spec.Backends[0].Weight = new(int32)
	*split.Spec.Backends[0].Weight = 70
	update(t, split)
	waitForRevision(t, split, 2)
	brokenRule()(get(t, split))
	split.Spec.Rules[0].Weights[0].Backend = "v1"
	update(t, split)
	onLastGood := func(r *replica) {
		t.Helper()
		eventually(t, func() string {
			if got := line(get(t, split).Status.Conditions); !strings.Contains(got, "Ready=False(Invalid)") || split.Status.ObservedGeneration != 3 {
				return "status: " + got
			}
			if split.Status.Weights != "v1 70, v2 10" {
				return "weights in force: " + split.Status.Weights
			}
			p := r.leadership.Results.Published()
			if p == nil || !slices.ContainsFunc(p.LastGood, func(o compile.Origin) bool { return o.UID == split.UID }) {
				return "it does not run on its last good spec"
			}
			return ""
		})
	}
	onLastGood(first)
	first.stop()
	second := i.start(t)
	onLastGood(second)
	waitForRevision(t, split, 2)
	if term := second.leadership.Publisher().Term().Term; term == 0 {
		t.Error("the second leader has the term of the first")
	}
}
