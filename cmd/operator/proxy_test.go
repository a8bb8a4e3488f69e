// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"crypto/tls"
	"fmt"
	"sync"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/heddle-mesh/heddle/internal/controlapi"
	"github.com/heddle-mesh/heddle/internal/identity"
	"github.com/heddle-mesh/heddle/internal/issue"
	"github.com/heddle-mesh/heddle/internal/meshconfig"
	"github.com/heddle-mesh/heddle/internal/signedconfig"
)

// proxy is the far end of a stream, which verifies what it gets.
type proxy struct {
	pod      *corev1.Pod
	cert     *tls.Certificate
	verifier *signedconfig.Verifier

	mu     sync.Mutex
	refuse string // the reason to nack with; empty: ack
}

// newProxy makes an injected pod and its certificate.
func (i *installation) newProxy(t *testing.T, meshID string) *proxy {
	t.Helper()
	ns := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{GenerateName: "shop-", Labels: map[string]string{"heddle.io/inject": "enabled"}}}
	create(t, ns)
	pod := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Namespace: ns.Name, Name: "web", Annotations: map[string]string{issue.AnnotationInjected: "true"}},
		Spec: corev1.PodSpec{
			ServiceAccountName: "web",
			InitContainers:     []corev1.Container{{Name: "heddle-proxy", Image: "proxy"}},
			Containers:         []corev1.Container{{Name: "web", Image: "web"}},
		},
	}
	create(t, &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Namespace: ns.Name, Name: "web"}}, pod)
	return &proxy{
		pod:      pod,
		cert:     i.workloads.Workload(t, identity.ID{TrustDomain: "cluster.local", Namespace: ns.Name, ServiceAccount: "web"}),
		verifier: i.verifierOf(pod, meshID),
	}
}

func (i *installation) verifierOf(pod *corev1.Pod, meshID string) *signedconfig.Verifier {
	return &signedconfig.Verifier{
		Roots: i.config.Pool(), MeshID: meshID,
		Audiences: []string{signedconfig.AudienceMesh, signedconfig.AudiencePod(string(pod.UID))},
	}
}

// message returns the payload of a section.
func message[M proto.Message](t *testing.T, p *proxy, r *replica, i *installation, name meshconfig.Name) M {
	t.Helper()
	m, err := meshconfig.Decode(name, p.mustAsk(t, r, i, name).Payload)
	if err != nil {
		t.Fatal(err)
	}
	return m.(M)
}

// ask opens a stream to a replica and returns the first content of a section, verified.
func (p *proxy) ask(t *testing.T, r *replica, i *installation, name meshconfig.Name) (*signedconfig.Statement, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 15*time.Second)
	defer cancel()
	c := controlapi.Endpoint{
		Address: r.replicaAddress(), ServerName: r.serverName(), Roots: i.serving.Pool(), Certificate: p.cert,
	}.Client()
	defer c.Close()
	stream := c.Config().Stream(ctx)
	defer stream.CloseRequest()
	for _, m := range p.greeting(name) {
		if err := stream.Send(m); err != nil {
			return nil, err
		}
	}
	for {
		m, err := stream.Receive()
		if err != nil {
			return nil, err
		}
		if m.GetEnvelope() == nil {
			continue
		}
		st, err := p.verifier.Verify(m.GetEnvelope(), signedconfig.OnArrival)
		if err != nil {
			t.Fatal(err)
		}
		if st.Section == string(name) && !st.Tombstone { // before the pod is compiled, its binding is one
			return st, nil
		}
	}
}

func (p *proxy) mustAsk(t *testing.T, r *replica, i *installation, name meshconfig.Name) *signedconfig.Statement {
	t.Helper()
	var st *signedconfig.Statement
	var err error
	eventually(t, fmt.Sprintf("section %s does not come", name), func() bool {
		st, err = p.ask(t, r, i, name)
		if err != nil {
			t.Logf("section %s: %v", name, err)
		}
		return err == nil
	})
	return st
}

// greeting is a hello and subscriptions.
func (p *proxy) greeting(names ...meshconfig.Name) []*controlapi.StreamRequest {
	subscribe := &controlapi.Subscribe{}
	for _, name := range names {
		subscribe.Subscriptions = append(subscribe.Subscriptions, &controlapi.Subscription{Name: string(name)})
	}
	return []*controlapi.StreamRequest{
		{Message: &controlapi.StreamRequest_Hello{Hello: &controlapi.Hello{PodUid: string(p.pod.UID)}}},
		{Message: &controlapi.StreamRequest_Subscribe{Subscribe: subscribe}},
	}
}

// follow keeps a stream to a replica until the end of the test, and acks or nacks what comes.
func (p *proxy) follow(t *testing.T, r *replica, i *installation, names ...meshconfig.Name) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	c := controlapi.Endpoint{
		Address: r.replicaAddress(), ServerName: r.serverName(), Roots: i.serving.Pool(), Certificate: p.cert,
	}.Client()
	stream := c.Config().Stream(ctx)
	for _, m := range p.greeting(names...) {
		if err := stream.Send(m); err != nil {
			t.Fatal(err)
		}
	}
	ended := make(chan struct{})
	t.Cleanup(func() {
		cancel()
		c.Close()
		<-ended
	})
	go func() {
		defer close(ended)
		for {
			m, err := stream.Receive()
			if err != nil {
				return
			}
			st, err := p.verifier.Verify(m.GetEnvelope(), signedconfig.OnArrival)
			if err != nil {
				continue // a hint
			}
			if stream.Send(p.answer(st)) != nil {
				return
			}
		}
	}()
}

// answer says what is thought of a section.
func (p *proxy) answer(st *signedconfig.Statement) *controlapi.StreamRequest {
	p.mu.Lock()
	defer p.mu.Unlock()
	digest := st.Digest()
	if p.refuse != "" {
		return &controlapi.StreamRequest{Message: &controlapi.StreamRequest_Nack{
			Nack: &controlapi.Nack{Name: st.Section, Digest: digest[:], Reason: p.refuse},
		}}
	}
	return &controlapi.StreamRequest{Message: &controlapi.StreamRequest_Ack{Ack: &controlapi.Ack{Name: st.Section, Digest: digest[:]}}}
}

func (p *proxy) refuses(reason string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.refuse = reason
}
