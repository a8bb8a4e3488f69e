// SPDX-License-Identifier: Apache-2.0

package sandbox

import (
	"crypto/rand"
	"sync"

	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"

	"github.com/heddle-mesh/heddle/internal/issue"
)

// tokens are what the proxies prove by whose they are: the projected tokens of their pods, one for each process.
type tokens struct {
	mu   sync.Mutex
	pods map[string]*corev1.Pod
}

// give returns a new token that is bound to a pod.
func (t *tokens) give(pod *corev1.Pod) string {
	token := rand.Text()
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.pods == nil {
		t.pods = make(map[string]*corev1.Pod)
	}
	t.pods[token] = pod
	return token
}

// take makes a token worthless.
func (t *tokens) take(token string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	delete(t.pods, token)
}

// review answers as the API server does of a projected token. What is asked of the pod comes on top, in package issue.
func (t *tokens) review(r *authenticationv1.TokenReview) {
	t.mu.Lock()
	pod := t.pods[r.Spec.Token]
	t.mu.Unlock()
	if pod == nil {
		r.Status = authenticationv1.TokenReviewStatus{Error: "a token of no proxy of this sandbox"}
		return
	}
	r.Status = authenticationv1.TokenReviewStatus{
		Authenticated: true, Audiences: []string{issue.Audience},
		User: authenticationv1.UserInfo{
			Username: "system:serviceaccount:" + pod.Namespace + ":" + pod.Spec.ServiceAccountName,
			Extra: map[string]authenticationv1.ExtraValue{
				"authentication.kubernetes.io/pod-name": {pod.Name},
				"authentication.kubernetes.io/pod-uid":  {string(pod.UID)},
			},
		},
	}
}
