// SPDX-License-Identifier: Apache-2.0

package issue

import (
	"testing"
	"time"

	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

// Answers that the API server of the other tests does not give: those of other authenticators.
func TestAnswersToAReviewAreReadStrictly(t *testing.T) {
	good := authenticationv1.TokenReviewStatus{
		Authenticated: true,
		Audiences:     []string{Audience},
		User: authenticationv1.UserInfo{
			Username: "system:serviceaccount:shop:checkout",
			Extra:    map[string]authenticationv1.ExtraValue{extraPodName: {"checkout-0"}, extraPodUID: {"u-1"}},
		},
	}
	for name, tc := range map[string]struct {
		change func(*authenticationv1.TokenReviewStatus)
		want   string // result
	}{
		"as the API server gives it": {func(*authenticationv1.TokenReviewStatus) {}, resultIssued},
		"not authenticated":          {func(s *authenticationv1.TokenReviewStatus) { s.Authenticated = false }, string(ReasonToken)},
		"no audience echoed":         {func(s *authenticationv1.TokenReviewStatus) { s.Audiences = nil }, string(ReasonToken)},
		"another audience echoed":    {func(s *authenticationv1.TokenReviewStatus) { s.Audiences = []string{"other"} }, string(ReasonToken)},
		"a person":                   {func(s *authenticationv1.TokenReviewStatus) { s.User.Username = "alice" }, string(ReasonUnbound)},
		"a node":                     {func(s *authenticationv1.TokenReviewStatus) { s.User.Username = "system:node:a:b" }, string(ReasonUnbound)},
		"five parts":                 {func(s *authenticationv1.TokenReviewStatus) { s.User.Username += ":x" }, string(ReasonUnbound)},
		"an empty account":           {func(s *authenticationv1.TokenReviewStatus) { s.User.Username = "system:serviceaccount:shop:" }, string(ReasonUnbound)},
		"no pod":                     {func(s *authenticationv1.TokenReviewStatus) { s.User.Extra = nil }, string(ReasonUnbound)},
		"two pods": {func(s *authenticationv1.TokenReviewStatus) {
			s.User.Extra = map[string]authenticationv1.ExtraValue{extraPodName: {"a", "b"}, extraPodUID: {"u-1"}}
		}, string(ReasonUnbound)},
	} {
		t.Run(name, func(t *testing.T) {
			status := good
			tc.change(&status)
			c, err := callerOf(&status)
			if result(err) != tc.want {
				t.Fatalf("got %v: want %s", err, tc.want)
			}
			if err == nil && (c.pod.String() != "shop/checkout-0" || c.podUID != "u-1" || c.serviceAccount != "checkout") {
				t.Errorf("got %+v", c)
			}
		})
	}
}

func TestOnlyTheLivePodOfATokenPasses(t *testing.T) {
	now := time.Now()
	ends := func(at time.Time) *metav1.Time { return &metav1.Time{Time: at} }
	for name, tc := range map[string]struct {
		change func(*corev1.Pod)
		want   string // result
	}{
		"it runs":                       {func(*corev1.Pod) {}, resultIssued},
		"it drains":                     {func(p *corev1.Pod) { p.DeletionTimestamp = ends(now.Add(10 * time.Second)) }, resultIssued},
		"its grace has just ended":      {func(p *corev1.Pod) { p.DeletionTimestamp = ends(now.Add(-10 * time.Second)) }, resultIssued},
		"its grace ended long ago":      {func(p *corev1.Pod) { p.DeletionTimestamp = ends(now.Add(-time.Minute)) }, string(ReasonFinished)},
		"it failed":                     {func(p *corev1.Pod) { p.Status.Phase = corev1.PodFailed }, string(ReasonFinished)},
		"it has another UID":            {func(p *corev1.Pod) { p.UID = "u-2" }, string(ReasonPod)},
		"it has another account":        {func(p *corev1.Pod) { p.Spec.ServiceAccountName = "payments" }, string(ReasonPod)},
		"it says that it has no proxy":  {func(p *corev1.Pod) { p.Annotations[AnnotationInjected] = "false" }, string(ReasonUninjected)},
		"it says nothing about a proxy": {func(p *corev1.Pod) { p.Annotations = nil }, string(ReasonUninjected)},
	} {
		t.Run(name, func(t *testing.T) {
			pod := &corev1.Pod{
				ObjectMeta: metav1.ObjectMeta{UID: "u-1", Annotations: map[string]string{AnnotationInjected: "true"}},
				Spec:       corev1.PodSpec{ServiceAccountName: "checkout"},
			}
			tc.change(pod)
			c := &caller{namespace: "shop", serviceAccount: "checkout", pod: types.NamespacedName{Namespace: "shop", Name: "checkout-0"}, podUID: "u-1"}
			if err := podFault(pod, c, now); result(err) != tc.want {
				t.Errorf("got %v: want %s", err, tc.want)
			}
		})
	}
}
