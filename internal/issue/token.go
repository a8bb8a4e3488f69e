// SPDX-License-Identifier: Apache-2.0

package issue

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/types"

	"github.com/heddle-mesh/heddle/internal/identity"
)

// Audience is what the proxy's projected token is for. A token for the API server does not pass here, nor this one there.
const Audience = "heddle.io/identity"

// maxToken bounds a token, in bytes. The API server's own have about 1,200.
const maxToken = 16 << 10

// What the API server tells of a token that is bound to a pod (KEP-1205).
const (
	extraPodName = "authentication.kubernetes.io/pod-name"
	extraPodUID  = "authentication.kubernetes.io/pod-uid"
)

// AnnotationInjected marks pods that have a proxy.
const AnnotationInjected = "heddle.io/injected"

// goneAfter is how long after its grace period a terminating pod may still ask: the kubelet's clock is not ours.
const goneAfter = 30 * time.Second

// caller is whom a token speaks for, on the word of the API server.
type caller struct {
	namespace, serviceAccount string
	pod                       types.NamespacedName
	podUID                    types.UID
}

func (c *caller) identity(trustDomain string) identity.ID {
	return identity.ID{TrustDomain: trustDomain, Namespace: c.namespace, ServiceAccount: c.serviceAccount}
}

// review asks the API server whose token it is.
func (s *Server) review(ctx context.Context, token string) (*caller, error) {
	if token == "" {
		return nil, refuse(ReasonToken, "no token: send the pod's projected service account token with audience %q", Audience)
	}
	if len(token) > maxToken {
		return nil, refuse(ReasonTooLarge, "token of %d bytes: at most %d", len(token), maxToken)
	}
	review := &authenticationv1.TokenReview{
		Spec: authenticationv1.TokenReviewSpec{Token: token, Audiences: []string{Audience}},
	}
	if err := s.Client.Create(ctx, review); err != nil {
		return nil, refuse(ReasonAPIServer, "review the token: %v", err)
	}
	return callerOf(&review.Status)
}

// callerOf reads the answer to a review.
func callerOf(status *authenticationv1.TokenReviewStatus) (*caller, error) {
	if !status.Authenticated {
		detail := status.Error
		if detail == "" {
			detail = "it is unknown, expired, or its pod is gone"
		}
		return nil, refuse(ReasonToken, "the API server does not accept the token for audience %q: %s", Audience, detail)
	}
	// An authenticator that knows no audiences echoes none: its tokens could have been meant for anyone.
	if !slices.Contains(status.Audiences, Audience) {
		return nil, refuse(ReasonToken, "the token is not for audience %q", Audience)
	}
	parts := strings.Split(status.User.Username, ":")
	if len(parts) != 4 || parts[0] != "system" || parts[1] != "serviceaccount" || parts[2] == "" || parts[3] == "" {
		return nil, refuse(ReasonUnbound, "the token is of user %q: want a service account's", status.User.Username)
	}
	name, uid := one(status.User.Extra[extraPodName]), one(status.User.Extra[extraPodUID])
	if name == "" || uid == "" {
		return nil, refuse(ReasonUnbound, "the token of service account %s/%s is bound to no pod: use a projected token", parts[2], parts[3])
	}
	return &caller{
		namespace:      parts[2],
		serviceAccount: parts[3],
		pod:            types.NamespacedName{Namespace: parts[2], Name: name},
		podUID:         types.UID(uid),
	}, nil
}

func one(values authenticationv1.ExtraValue) string {
	if len(values) != 1 {
		return ""
	}
	return values[0]
}

// checkPod holds the token against the pod that lives now. The cache may be behind for a pod that was just made, so
// that only the API server's word refuses one.
func (s *Server) checkPod(ctx context.Context, c *caller) error {
	pod := &corev1.Pod{}
	err := s.Client.Get(ctx, c.pod, pod)
	if err == nil && podFault(pod, c, s.Clock()) == nil {
		return nil
	}
	pod = &corev1.Pod{}
	switch err := s.Live.Get(ctx, c.pod, pod); {
	case apierrors.IsNotFound(err):
		return refuse(ReasonPod, "pod %s does not exist", c.pod)
	case err != nil:
		return refuse(ReasonAPIServer, "read pod %s: %v", c.pod, err)
	}
	return podFault(pod, c, s.Clock())
}

// podFault says why the pod may not have a certificate for this caller, or nil.
func podFault(pod *corev1.Pod, c *caller, now time.Time) error {
	switch {
	case pod.UID != c.podUID:
		return refuse(ReasonPod, "pod %s now has UID %s: the token is of %s, which is gone", c.pod, pod.UID, c.podUID)
	case pod.Spec.ServiceAccountName != c.serviceAccount:
		return refuse(ReasonPod, "pod %s runs as service account %q: the token is of %q", c.pod, pod.Spec.ServiceAccountName, c.serviceAccount)
	case pod.Status.Phase == corev1.PodSucceeded || pod.Status.Phase == corev1.PodFailed:
		return refuse(ReasonFinished, "pod %s has ended (%s)", c.pod, pod.Status.Phase)
	// A terminating pod drains with its certificate, which may need renewal; deletionTimestamp is when its grace ends.
	case pod.DeletionTimestamp != nil && now.After(pod.DeletionTimestamp.Add(goneAfter)):
		return refuse(ReasonFinished, "pod %s should have ended at %s", c.pod, pod.DeletionTimestamp.UTC().Format(time.RFC3339))
	case pod.Annotations[AnnotationInjected] != "true":
		return refuse(ReasonUninjected, "pod %s has no proxy: label namespace %s with heddle.io/inject=enabled and create the pod anew", c.pod, c.namespace)
	}
	return nil
}

// String names the caller in logs and labels.
func (c *caller) String() string { return fmt.Sprintf("%s (%s)", c.pod, c.podUID) }
