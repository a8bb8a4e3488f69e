// SPDX-License-Identifier: Apache-2.0

package issue

import (
	"bytes"
	"crypto/x509"
	"fmt"
	"strings"
	"testing"
	"time"

	"connectrpc.com/connect"
	cmapi "github.com/cert-manager/cert-manager/pkg/apis/certmanager/v1"
	cmmeta "github.com/cert-manager/cert-manager/pkg/apis/meta/v1"
	"github.com/prometheus/client_golang/prometheus/testutil"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/heddle-mesh/heddle/internal/identity"
)

func (c *cluster) id(account string) string {
	return fmt.Sprintf("spiffe://cluster.local/ns/%s/sa/%s", c.shop, account)
}

func TestAPodGetsItsCertificate(t *testing.T) {
	c := newCluster(t)
	pod := c.newPod(t, "checkout-0", "checkout", nil)
	key := newKey(t)
	chain, err := c.ask(t.Context(), requestFor(t, key, c.id("checkout")), c.token(t, "checkout", pod, Audience))
	if err != nil {
		t.Fatal(err)
	}
	id, leaf, err := identity.VerifyPeer(c.roots.Pool(), time.Now(), x509.ExtKeyUsageServerAuth, chain)
	if err != nil {
		t.Fatal(err)
	}
	if id.String() != c.id("checkout") || !key.PublicKey.Equal(leaf.PublicKey) {
		t.Errorf("got a certificate for %s", id)
	}
	if life := time.Until(leaf.NotAfter); life < 50*time.Minute || life > time.Hour {
		t.Errorf("got a certificate for %s: want an hour", life)
	}
	c.nothingLeft(t)
	c.counted(t, resultIssued, 1)
	c.logged(t, "certificate issued", "shop-", "checkout-0", leaf.SerialNumber.Text(16))
}

// The error of each refusal, its counter and its log line, and that the mesh has nothing more than before.
func TestBadRequestsAreRefusedByTheServer(t *testing.T) {
	c := newCluster(t)
	pod := c.newPod(t, "checkout-0", "checkout", nil)
	other := c.newPod(t, "payments-0", "payments", nil)
	plain := c.newPod(t, "plain-0", "checkout", func(p *corev1.Pod) { p.Annotations = nil })
	done := c.newPod(t, "done-0", "checkout", nil)
	done.Status.Phase = corev1.PodSucceeded
	if err := c.Status().Update(t.Context(), done); err != nil {
		t.Fatal(err)
	}
	gone := c.newPod(t, "gone-0", "checkout", nil)
	goneToken := c.token(t, "checkout", gone, Audience)
	c.deleteNow(t, gone)
	replaced := c.newPod(t, "replaced-0", "checkout", nil)
	replacedToken := c.token(t, "checkout", replaced, Audience)
	c.deleteNow(t, replaced)
	c.newPod(t, "replaced-0", "checkout", nil)

	good, ours := c.token(t, "checkout", pod, Audience), requestFor(t, newKey(t), c.id("checkout"))
	for name, tc := range map[string]struct {
		csr   []byte
		token string
		want  Reason
		code  connect.Code
	}{
		"another identity":           {requestFor(t, newKey(t), c.id("payments")), good, ReasonIdentity, connect.CodePermissionDenied},
		"another trust domain":       {requestFor(t, newKey(t), strings.Replace(c.id("checkout"), "cluster.local", "evil.example", 1)), good, ReasonIdentity, connect.CodePermissionDenied},
		"another spelling":           {requestFor(t, newKey(t), c.id("checkout")+"/"), good, ReasonIdentity, connect.CodePermissionDenied},
		"the token of another pod":   {ours, c.token(t, "payments", other, Audience), ReasonIdentity, connect.CodePermissionDenied},
		"a token for the API server": {ours, c.token(t, "checkout", pod, "https://kubernetes.default.svc.cluster.local"), ReasonToken, connect.CodeUnauthenticated},
		"a token bound to no pod":    {ours, c.token(t, "checkout", nil, Audience), ReasonUnbound, connect.CodeUnauthenticated},
		"a deleted pod":              {ours, goneToken, ReasonToken, connect.CodeUnauthenticated},
		"a pod that was replaced":    {ours, replacedToken, ReasonToken, connect.CodeUnauthenticated},
		"a pod that has ended":       {ours, c.token(t, "checkout", done, Audience), ReasonFinished, connect.CodePermissionDenied},
		"a pod without a proxy":      {ours, c.token(t, "checkout", plain, Audience), ReasonUninjected, connect.CodePermissionDenied},
		"no token":                   {ours, "", ReasonToken, connect.CodeUnauthenticated},
		"garbage for a token":        {ours, "garbage", ReasonToken, connect.CodeUnauthenticated},
		"a very long token":          {ours, strings.Repeat("x", maxToken+1), ReasonTooLarge, connect.CodeInvalidArgument},
		"a very long request":        {make([]byte, MaxCSR+1), good, ReasonTooLarge, connect.CodeInvalidArgument},
		"no request":                 {nil, good, ReasonMalformed, connect.CodeInvalidArgument},
	} {
		t.Run(name, func(t *testing.T) {
			before := testutil.ToFloat64(c.server.metrics.requests.WithLabelValues(string(tc.want)))
			_, err := c.ask(t.Context(), tc.csr, tc.token)
			c.refusedWith(t, err, tc.want, tc.code)
			c.counted(t, string(tc.want), before+1)
		})
	}
	c.nothingLeft(t)
}

func TestAMessageLargerThanAnyHonestOneIsCounted(t *testing.T) {
	c := newCluster(t)
	_, err := c.ask(t.Context(), make([]byte, 1<<20), "")
	if connect.CodeOf(err) != connect.CodeResourceExhausted {
		t.Fatalf("got %v: want resource_exhausted", err)
	}
	eventually(t, "it is counted", func() bool {
		return testutil.ToFloat64(c.server.metrics.requests.WithLabelValues(string(ReasonRequest))) == 1
	})
}

func TestAnIssuerThatDoesNotSignIsNamed(t *testing.T) {
	c := newCluster(t)
	c.server.signTimeout = time.Second
	token := c.token(t, "checkout", c.newPod(t, "checkout-0", "checkout", nil), Audience)
	csr := requestFor(t, newKey(t), c.id("checkout"))
	for _, tc := range []struct {
		mood mood
		want Reason
		code connect.Code
		says string
	}{
		{denies, ReasonDenied, connect.CodePermissionDenied, "not in this house"},
		{fails, ReasonFailed, connect.CodeUnavailable, "no key"},
		{ignores, ReasonNotApproved, connect.CodeUnavailable, "is its controller running?"},
		{approvesOnly, ReasonTimeout, connect.CodeUnavailable, "Referenced secret not found"},
		{signsForAnother, ReasonChain, connect.CodeUnavailable, "another key"},
	} {
		t.Run(string(tc.want), func(t *testing.T) {
			c.setMood(tc.mood)
			_, err := c.ask(t.Context(), csr, token)
			c.refusedWith(t, err, tc.want, tc.code)
			if err != nil && !strings.Contains(err.Error(), tc.says) {
				t.Errorf("got %v: want it to say %q", err, tc.says)
			}
			c.nothingLeft(t)
		})
	}
}

func TestAPodThatAsksTooOftenIsHeldBack(t *testing.T) {
	c := newCluster(t)
	c.setMood(denies)
	csr := requestFor(t, newKey(t), c.id("checkout"))
	token := c.token(t, "checkout", c.newPod(t, "checkout-0", "checkout", nil), Audience)
	for range podBurst {
		_, err := c.ask(t.Context(), csr, token)
		c.refusedWith(t, err, ReasonDenied, connect.CodePermissionDenied)
	}
	_, err := c.ask(t.Context(), csr, token)
	c.refusedWith(t, err, ReasonRateLimited, connect.CodeResourceExhausted)

	c.setMood(signs)
	neighbour := c.token(t, "checkout", c.newPod(t, "checkout-1", "checkout", nil), Audience)
	if _, err := c.ask(t.Context(), csr, neighbour); err != nil {
		t.Errorf("another pod pays for it: %v", err)
	}
	c.forward(podEvery)
	if _, err := c.ask(t.Context(), csr, token); err != nil {
		t.Errorf("the pod is held back for ever: %v", err)
	}
}

func TestLeavesOfANewRootWaitUntilItIsAnnounced(t *testing.T) {
	c := newCluster(t)
	token := c.token(t, "checkout", c.newPod(t, "checkout-0", "checkout", nil), Audience)
	csr := requestFor(t, newKey(t), c.id("checkout"))
	old, err := c.ask(t.Context(), csr, token)
	if err != nil {
		t.Fatal(err)
	}
	c.rotate(t)
	_, err = c.ask(t.Context(), csr, token)
	c.refusedWith(t, err, ReasonChain, connect.CodeUnavailable)
	eventually(t, "both roots are in force", func() bool { return len(c.roots.DER()) == 2 })
	_, err = c.ask(t.Context(), csr, token)
	c.refusedWith(t, err, ReasonRootPending, connect.CodeUnavailable)

	c.forward(holdNew)
	chain, err := c.ask(t.Context(), csr, token)
	if err != nil {
		t.Fatal(err)
	}
	for name, raw := range map[string][][]byte{"old": old, "new": chain} {
		if _, _, err := identity.VerifyPeer(c.roots.Pool(), c.now(), x509.ExtKeyUsageClientAuth, raw); err != nil {
			t.Errorf("the %s leaf: %v", name, err)
		}
	}
}

func TestRootsComeBackWhenTheirConfigMapIsDeleted(t *testing.T) {
	c := newCluster(t)
	before := c.roots.DER()
	kept := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: c.namespace, Name: RootsConfigMap}}
	if err := c.Delete(t.Context(), kept); err != nil {
		t.Fatal(err)
	}
	c.roots.Look()
	eventually(t, "the ConfigMap is there again", func() bool {
		fresh := &corev1.ConfigMap{}
		return c.Get(t.Context(), client.ObjectKeyFromObject(kept), fresh) == nil && strings.Contains(fresh.Data[keyPEM], "BEGIN CERTIFICATE")
	})
	if after := c.roots.DER(); len(after) != 1 || !bytes.Equal(after[0], before[0]) {
		t.Errorf("the roots changed")
	}
}

func TestTheJanitorDeletesWhatWasLeft(t *testing.T) {
	c := newCluster(t)
	c.setMood(ignores)
	leftBehind := func(labels map[string]string) *cmapi.CertificateRequest {
		request := &cmapi.CertificateRequest{
			ObjectMeta: metav1.ObjectMeta{Namespace: c.namespace, GenerateName: "left-", Labels: labels},
			Spec:       cmapi.CertificateRequestSpec{Request: []byte("x"), IssuerRef: cmmeta.IssuerReference{Name: "x"}},
		}
		if err := c.Create(t.Context(), request); err != nil {
			t.Fatal(err)
		}
		return request
	}
	ours, theirs := leftBehind(RequestLabels()), leftBehind(nil)
	janitor := &Janitor{Client: c.Client, Namespace: c.namespace, Log: c.logger(), Clock: c.now}
	if n, err := janitor.Sweep(t.Context()); n != 0 || err != nil {
		t.Errorf("fresh ones: deleted %d, %v", n, err)
	}
	c.forward(leftover + time.Second)
	if n, err := janitor.Sweep(t.Context()); n != 1 || err != nil {
		t.Errorf("old ones: deleted %d, %v", n, err)
	}
	if err := c.Get(t.Context(), client.ObjectKeyFromObject(ours), ours); !strings.Contains(fmt.Sprint(err), "not found") {
		t.Errorf("ours: %v", err)
	}
	if err := c.Get(t.Context(), client.ObjectKeyFromObject(theirs), theirs); err != nil {
		t.Errorf("theirs: %v", err)
	}
}

func (c *cluster) deleteNow(t *testing.T, pod *corev1.Pod) {
	t.Helper()
	if err := c.Delete(t.Context(), pod, client.GracePeriodSeconds(0)); err != nil {
		t.Fatal(err)
	}
}

func (c *cluster) refusedWith(t *testing.T, err error, want Reason, code connect.Code) {
	t.Helper()
	if err == nil {
		t.Fatalf("issued: want a refusal, %s", want)
	}
	refusal, ok := err.(*connect.Error) //nolint:errorlint // what the client returns, unwrapped
	if !ok || refusal.Code() != code || refusal.Meta().Get(ReasonHeader) != string(want) {
		t.Fatalf("got %v (%v): want %s, %s", err, refusal.Meta(), code, want)
	}
	c.logged(t, "certificate refused", string(want))
}

// nothingLeft says that no CertificateRequest of ours stays behind.
func (c *cluster) nothingLeft(t *testing.T) {
	t.Helper()
	list := &cmapi.CertificateRequestList{}
	if err := c.List(t.Context(), list, client.InNamespace(c.namespace), client.MatchingLabels(RequestLabels())); err != nil {
		t.Fatal(err)
	}
	if len(list.Items) != 0 {
		t.Errorf("%d CertificateRequests are left: want none", len(list.Items))
	}
}

func (c *cluster) counted(t *testing.T, result string, want float64) {
	t.Helper()
	if got := testutil.ToFloat64(c.server.metrics.requests.WithLabelValues(result)); got != want {
		t.Errorf("counted %s %g times: want %g", result, got, want)
	}
}

// logged says that one line has all the words.
func (c *cluster) logged(t *testing.T, words ...string) {
	t.Helper()
	c.log.mu.Lock()
	defer c.log.mu.Unlock()
	for _, line := range c.log.all {
		if containsAll(line, words) {
			return
		}
	}
	t.Errorf("no log line with %q in %q", words, c.log.all)
}

func containsAll(line string, words []string) bool {
	for _, word := range words {
		if !strings.Contains(line, word) {
			return false
		}
	}
	return true
}
