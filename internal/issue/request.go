// SPDX-License-Identifier: Apache-2.0

package issue

import (
	"context"
	"crypto/rand"
	"encoding/pem"
	"fmt"
	"sync"
	"time"

	cmapi "github.com/cert-manager/cert-manager/pkg/apis/certmanager/v1"
	cmmeta "github.com/cert-manager/cert-manager/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// Labels and annotations of the CertificateRequests that the operator makes.
const (
	labelManagedBy = "app.kubernetes.io/managed-by"
	managedBy      = "heddle"
	labelPurpose   = "heddle.io/certificate-request"
	purpose        = "workload"
	labelPodUID    = "heddle.io/pod-uid"
	annotationPod  = "heddle.io/pod" // namespace/name, too long for a label
)

// RequestLabels selects the CertificateRequests that the operator makes, which is what its cache needs to hold.
func RequestLabels() map[string]string {
	return map[string]string{labelManagedBy: managedBy, labelPurpose: purpose}
}

const (
	recheckEvery  = 2 * time.Second // a watch that was cut must not cost the whole wait
	deleteTimeout = 5 * time.Second
)

// newRequest is what cert-manager is asked for. Usages are given here and not in the CSR, where cert-manager would want
// them in the same order.
func (s *Server) newRequest(csr *certificateRequest, c *caller) *cmapi.CertificateRequest {
	labels := RequestLabels()
	labels[labelPodUID] = string(c.podUID)
	return &cmapi.CertificateRequest{
		ObjectMeta: metav1.ObjectMeta{
			Name:        "heddle-workload-" + randomSuffix(),
			Namespace:   s.Namespace,
			Labels:      labels,
			Annotations: map[string]string{annotationPod: c.pod.String()},
		},
		Spec: cmapi.CertificateRequestSpec{
			Request:   pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: csr.der}),
			Duration:  &metav1.Duration{Duration: s.LeafDuration},
			IssuerRef: s.Issuer,
			Usages:    []cmapi.KeyUsage{cmapi.UsageDigitalSignature, cmapi.UsageServerAuth, cmapi.UsageClientAuth},
		},
	}
}

func randomSuffix() string {
	var b [10]byte
	rand.Read(b[:])
	return fmt.Sprintf("%x", b)
}

// sign has cert-manager sign the request and returns the chain as PEM. The CertificateRequest is gone afterwards,
// whatever came of it: nothing else collects them.
func (s *Server) sign(ctx context.Context, csr *certificateRequest, c *caller) ([]byte, error) {
	request := s.newRequest(csr, c)
	key := client.ObjectKeyFromObject(request)
	seen, forget := s.waiters.add(request.Name)
	defer forget()
	defer s.discard(ctx, request)
	switch err := s.Client.Create(ctx, request); {
	case meta.IsNoMatchError(err):
		return nil, refuse(ReasonFailed, "cert-manager is not installed: %v", err)
	case err != nil:
		return nil, refuse(ReasonAPIServer, "create CertificateRequest %s: %v", key, err)
	}
	deadline := time.NewTimer(s.signTimeout)
	defer deadline.Stop()
	recheck := time.NewTicker(recheckEvery)
	defer recheck.Stop()
	last := request
	for {
		select {
		case last = <-seen:
		case <-recheck.C:
			fresh := &cmapi.CertificateRequest{}
			if err := s.Live.Get(ctx, key, fresh); err == nil {
				last = fresh
			}
		case <-deadline.C:
			return nil, s.late(last)
		case <-ctx.Done():
			return nil, refuse(ReasonCanceled, "waiting for CertificateRequest %s: %v", key, context.Cause(ctx))
		}
		if chain, err := outcome(last); chain != nil || err != nil {
			return chain, err
		}
	}
}

// discard deletes the request, also when the caller has gone away. What it cannot delete the Janitor finds.
func (s *Server) discard(ctx context.Context, request *cmapi.CertificateRequest) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), deleteTimeout)
	defer cancel()
	if err := s.Client.Delete(ctx, request); client.IgnoreNotFound(err) != nil {
		s.Log.Error(err, "certificate request not deleted, it is tried again within minutes", "request", client.ObjectKeyFromObject(request))
	}
}

// outcome is the chain, the refusal, or neither while the request is undecided.
func outcome(request *cmapi.CertificateRequest) ([]byte, error) {
	name := client.ObjectKeyFromObject(request)
	for _, condition := range request.Status.Conditions {
		is := condition.Status == cmmeta.ConditionTrue
		switch condition.Type {
		case cmapi.CertificateRequestConditionDenied:
			if is {
				return nil, refuse(ReasonDenied, "CertificateRequest %s was denied: %s", name, condition.Message)
			}
		case cmapi.CertificateRequestConditionInvalidRequest:
			if is {
				return nil, refuse(ReasonFailed, "CertificateRequest %s is invalid: %s", name, condition.Message)
			}
		case cmapi.CertificateRequestConditionApproved: // what comes next decides
		case cmapi.CertificateRequestConditionReady:
			switch {
			case is && len(request.Status.Certificate) > 0:
				return request.Status.Certificate, nil
			case condition.Reason == cmapi.CertificateRequestReasonFailed:
				return nil, refuse(ReasonFailed, "CertificateRequest %s failed: %s", name, condition.Message)
			case condition.Reason == cmapi.CertificateRequestReasonDenied:
				return nil, refuse(ReasonDenied, "CertificateRequest %s was denied: %s", name, condition.Message)
			}
		}
	}
	return nil, nil
}

// late says what a request that was not signed in time still waited for.
func (s *Server) late(request *cmapi.CertificateRequest) error {
	approved, message := false, "cert-manager said nothing: is its controller running?"
	for _, condition := range request.Status.Conditions {
		switch {
		case condition.Type == cmapi.CertificateRequestConditionApproved && condition.Status == cmmeta.ConditionTrue:
			approved = true
		case condition.Type == cmapi.CertificateRequestConditionReady && condition.Message != "":
			message = condition.Message
		}
	}
	issuer := fmt.Sprintf("%s %s", s.Issuer.Kind, s.Issuer.Name)
	if !approved {
		return refuse(ReasonNotApproved, "nobody approved the CertificateRequest within %s: cert-manager's approver must be on, "+
			"or an approver must have a policy for %s in namespace %s (%s)", s.signTimeout, issuer, s.Namespace, message)
	}
	return refuse(ReasonTimeout, "%s did not sign the CertificateRequest within %s: %s", issuer, s.signTimeout, message)
}

// waiters gives what the informer sees of a request to whoever waits for that request.
type waiters struct {
	mu     sync.Mutex
	byName map[string]chan *cmapi.CertificateRequest
}

// add returns a channel that holds the newest state of the request, and a func that ends it.
func (w *waiters) add(name string) (<-chan *cmapi.CertificateRequest, func()) {
	ch := make(chan *cmapi.CertificateRequest, 1)
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.byName == nil {
		w.byName = map[string]chan *cmapi.CertificateRequest{}
	}
	w.byName[name] = ch
	return ch, func() {
		w.mu.Lock()
		defer w.mu.Unlock()
		delete(w.byName, name)
	}
}

func (w *waiters) notify(request *cmapi.CertificateRequest) {
	w.mu.Lock()
	defer w.mu.Unlock()
	ch := w.byName[request.Name]
	if ch == nil {
		return
	}
	select {
	case <-ch: // superseded
	default:
	}
	ch <- request
}
