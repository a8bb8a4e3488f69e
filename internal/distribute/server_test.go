// SPDX-License-Identifier: Apache-2.0

package distribute

import (
	"crypto/tls"
	"testing"
	"time"

	"connectrpc.com/connect"

	"github.com/heddle-mesh/heddle/internal/controlapi"
	"github.com/heddle-mesh/heddle/internal/identity"
	"github.com/heddle-mesh/heddle/internal/meshconfig"
	"github.com/heddle-mesh/heddle/test/pki"
)

// Nothing of what wrong callers do gets more than a clear error, and each is counted.
func TestWrongCallersAreTurnedAway(t *testing.T) {
	w := newWorld(t)
	r := w.replica(t)
	check(t, w.lead(r, 1).Publish(w.shop()))
	w.pods.Set("mine", shopper, false)
	w.pods.Set("theirs", identity.ID{TrustDomain: domain, Namespace: "shop", ServiceAccount: "other"}, false)
	good := w.workload.Workload(t, shopper)
	foreign := shopper
	foreign.TrustDomain = "elsewhere"
	w.pods.Set("foreign", foreign, false)

	for name, c := range map[string]struct {
		certificate *tls.Certificate
		say         []*controlapi.StreamRequest
		code        connect.Code
		why         Refusal
	}{
		"a caller without a certificate": {nil, says(helloOf("mine")), connect.CodeUnauthenticated, RefusedCertificate},
		"a certificate of another CA": {
			pki.NewCA(t, "workloads").Workload(t, shopper), says(helloOf("mine")), connect.CodeUnauthenticated, RefusedCertificate,
		},
		"an expired certificate": {
			w.workload.WorkloadUntil(t, shopper, time.Now().Add(-2*time.Hour), time.Now().Add(-time.Hour)),
			says(helloOf("mine")), connect.CodeUnauthenticated, RefusedCertificate,
		},
		"a replica's name from the workload CA": {
			w.workload.Server(t, serverName), says(helloOf("")), connect.CodeUnauthenticated, RefusedCertificate,
		},
		"an identity of another trust domain": {
			w.workload.Workload(t, foreign), says(helloOf("foreign")), connect.CodePermissionDenied, RefusedIdentity,
		},
		"a pod that does not exist":             {good, says(helloOf("nobody")), connect.CodeNotFound, RefusedPod},
		"a pod of another service account":      {good, says(helloOf("theirs")), connect.CodePermissionDenied, RefusedIdentity},
		"no hello first":                        {good, says(subscribeTo("mesh")), connect.CodeInvalidArgument, RefusedProtocol},
		"a second hello":                        {good, says(helloOf("mine"), helloOf("mine")), connect.CodeInvalidArgument, RefusedProtocol},
		"an empty message":                      {good, says(helloOf("mine"), &controlapi.StreamRequest{}), connect.CodeInvalidArgument, RefusedProtocol},
		"another pod's binding":                 {good, says(helloOf("mine"), subscribeTo("binding/theirs")), connect.CodePermissionDenied, RefusedForbidden},
		"a name of no known form":               {good, says(helloOf("mine"), subscribeTo("secrets/all")), connect.CodeInvalidArgument, RefusedProtocol},
		"one shard instead of all":              {good, says(helloOf("mine"), subscribeTo("endpoints/a.b/0")), connect.CodeInvalidArgument, RefusedProtocol},
		"a held version of another section":     {good, says(helloOf("mine"), holding("mesh", "heartbeat")), connect.CodeInvalidArgument, RefusedProtocol},
		"an ack without a digest":               {good, says(helloOf("mine"), ackOf("mesh", nil)), connect.CodeInvalidArgument, RefusedProtocol},
		"a nack of a name of no known form":     {good, says(helloOf("mine"), nackOf("x/y")), connect.CodeInvalidArgument, RefusedProtocol},
		"an unsubscribe of no section":          {good, says(helloOf("mine"), unsubscribeOf("x/y")), connect.CodeInvalidArgument, RefusedProtocol},
		"a report of a proxy":                   {good, says(helloOf("mine"), reportOf()), connect.CodePermissionDenied, RefusedForbidden},
		"a message that is larger than allowed": {good, says(helloOf("mine"), nackOfSize(controlapi.MaxRequest)), connect.CodeResourceExhausted, RefusedProtocol},
		"a pod UID that is none":                {good, says(helloOf(string(make([]byte, 65)))), connect.CodeInvalidArgument, RefusedProtocol},
	} {
		t.Run(name, func(t *testing.T) {
			before := r.Counters().Refused[c.why]
			f := w.dial(t, r, c.certificate)
			for _, m := range c.say {
				if err := f.conn.Send(m); err != nil {
					break // it has ended already
				}
			}
			f.refused(c.code)
			if got := r.Counters().Refused[c.why] - before; got != 1 {
				t.Errorf("counted %d refusals as %q: want 1", got, c.why)
			}
		})
	}
}

func TestACallerThatSaysNothingIsTurnedAway(t *testing.T) {
	w := newWorld(t)
	r := w.replica(t)
	r.server.firstMessage = 50 * time.Millisecond
	f := w.dial(t, r, w.workload.Workload(t, shopper))
	check(t, f.conn.Send(nil)) // the headers of the request alone
	f.refused(connect.CodeDeadlineExceeded)
	if got := r.Counters().Refused[RefusedTimeout]; got != 1 {
		t.Errorf("counted %d timeouts: want 1", got)
	}
}

func TestTooManySubscriptionsEndTheStream(t *testing.T) {
	w := newWorld(t)
	r := w.replica(t)
	w.pods.Set("mine", shopper, false)
	f := w.dial(t, r, w.workload.Workload(t, shopper))
	f.hello("mine")
	f.hint()
	names := make([]meshconfig.Name, maxSubscriptions+1)
	for i := range names {
		names[i] = meshconfig.InboundName(podUID(i))
	}
	f.subscribe(names[:maxSubscriptions/2]...)
	_ = f.conn.Send(subscribeTo(names[maxSubscriptions/2:]...))
	f.refused(connect.CodeResourceExhausted)
	if got := r.Counters().Refused[RefusedTooMany]; got != 1 {
		t.Errorf("counted %d: want 1", got)
	}
	await(t, "the stream's subscriptions are given up", func() bool { return len(r.hub.subscriptions()) == 0 })
}

// A replica that does not lead takes no replica, so that there are no rings of relays.
func TestOnlyTheLeaderTakesReplicas(t *testing.T) {
	w := newWorld(t)
	r := w.replica(t)
	f := w.dial(t, r, w.serving.Server(t, serverName))
	f.hello("")
	f.refused(connect.CodeUnavailable)
	if got := r.Counters().Refused[RefusedNotLeader]; got != 1 {
		t.Errorf("counted %d: want 1", got)
	}
	w.lead(r, 1)
	f = w.dial(t, r, w.serving.Server(t, serverName))
	f.hello("")
	f.hint()
	r.SetRelay()
	f.refused(connect.CodeUnavailable)
}

func TestAPodIsToldThatItTerminatesAndItsStreamEndsWithIt(t *testing.T) {
	w := newWorld(t)
	r := w.replica(t)
	f := w.proxy(t, r, "mine")
	w.pods.Set("mine", shopper, true)
	if m := f.receive(); m.GetTerminating() == nil {
		t.Fatalf("got %v: want terminating", m)
	}
	w.pods.Delete("mine")
	f.refused(connect.CodeNotFound)
}

func TestANewerStreamOfAPodTakesThePlaceOfItsLast(t *testing.T) {
	w := newWorld(t)
	r := w.replica(t)
	check(t, w.lead(r, 1).Publish(w.shop()))
	first := w.proxy(t, r, "mine")
	first.subscribe(meshconfig.MeshName)
	first.ack(first.envelope(meshconfig.MeshName))
	second := w.proxy(t, r, "mine")
	first.refused(connect.CodeAborted)
	second.subscribe(meshconfig.MeshName)
	second.ack(second.envelope(meshconfig.MeshName))
	await(t, "the pod counts once", func() bool {
		p := r.Programmed([]meshconfig.Name{meshconfig.MeshName})
		return p.Subscribed == 1 && p.Acked == 1
	})
}

func TestStreamsEndWhenTheNodeStops(t *testing.T) {
	w := newWorld(t)
	r := w.replica(t)
	f := w.proxy(t, r, "mine")
	go r.stop()
	f.refused(connect.CodeUnavailable)
}

func TestANewPodIsHintedWhatOthersOfItsIdentityDial(t *testing.T) {
	w := newWorld(t)
	r := w.replica(t)
	check(t, w.lead(r, 1).Publish(w.shop()))
	first := w.proxy(t, r, "first")
	first.subscribe(meshconfig.MeshName, meshconfig.RoutesName("checkout.shop"), meshconfig.RoutesName("none.shop"))
	first.envelopes(meshconfig.MeshName, meshconfig.RoutesName("checkout.shop"), meshconfig.RoutesName("none.shop")) // the last is a tombstone
	w.pods.Set("second", shopper, false)
	second := w.dial(t, r, w.workload.Workload(t, shopper))
	second.hello("second")
	if got := second.hint(); len(got) != 1 || got[0] != string(meshconfig.RoutesName("checkout.shop")) {
		t.Errorf("hinted %q: want the routes of checkout alone", got)
	}
	// What a pod asks for because it was hinted is not what it dials.
	first.subscribe(meshconfig.AllEndpoints(checkout))
	first.envelopes(meshconfig.EndpointsName(checkout, 0), meshconfig.EndpointsName(checkout, 1))
	second.subscribe(meshconfig.RoutesName("checkout.shop"))
	second.envelope(meshconfig.RoutesName("checkout.shop"))
	second.close()
	second = w.dial(t, r, w.workload.Workload(t, shopper))
	second.hello("second")
	if got := second.hint(); len(got) != 2 || got[0] != string(meshconfig.AllEndpoints(checkout)) {
		t.Errorf("hinted %q: want first what was dialled last", got)
	}
}

// Acks of what a stream cannot have got are left out, so that the tracker holds no more than the hub does.
func TestAcksOfWhatThereIsNotAreLeftOut(t *testing.T) {
	w := newWorld(t)
	r := w.replica(t)
	check(t, w.lead(r, 1).Publish(w.shop()))
	f := w.proxy(t, r, "mine")
	f.subscribe(meshconfig.AllEndpoints(checkout))
	e := f.envelopes(meshconfig.EndpointsName(checkout, 0), meshconfig.EndpointsName(checkout, 1))[0]
	f.send(ackOf(string(meshconfig.EndpointsName(checkout, 77)), make([]byte, 32)))
	f.send(nackOf(string(meshconfig.EndpointsName(checkout, 78))))
	f.send(ackOf(string(meshconfig.RoutesName(checkout)), make([]byte, 32)))
	f.ack(e)
	await(t, "the last ack arrives", r.counts([]meshconfig.Name{meshconfig.EndpointsName(checkout, 0)}, 1, 1))
	r.tracker.mu.Lock()
	defer r.tracker.mu.Unlock()
	pod := r.tracker.pods["mine"]
	if len(pod.subs) != 1 || len(pod.subs[meshconfig.AllEndpoints(checkout)]) != 1 {
		t.Errorf("the tracker holds %v", pod.subs)
	}
}

func says(m ...*controlapi.StreamRequest) []*controlapi.StreamRequest { return m }

func holding(sub, name string) *controlapi.StreamRequest {
	m := subscribeTo(meshconfig.Name(sub))
	m.GetSubscribe().GetSubscriptions()[0].Held = []*controlapi.Held{{Name: name, Digest: make([]byte, 32), Serial: "0.1.1"}}
	return m
}

func ackOf(name string, digest []byte) *controlapi.StreamRequest {
	return &controlapi.StreamRequest{Message: &controlapi.StreamRequest_Ack{Ack: &controlapi.Ack{Name: name, Digest: digest}}}
}

func nackOf(name string) *controlapi.StreamRequest {
	return &controlapi.StreamRequest{Message: &controlapi.StreamRequest_Nack{
		Nack: &controlapi.Nack{Name: name, Digest: make([]byte, 32)},
	}}
}

func nackOfSize(n int) *controlapi.StreamRequest {
	return &controlapi.StreamRequest{Message: &controlapi.StreamRequest_Nack{Nack: &controlapi.Nack{Reason: string(make([]byte, n))}}}
}

func unsubscribeOf(names ...string) *controlapi.StreamRequest {
	return &controlapi.StreamRequest{Message: &controlapi.StreamRequest_Unsubscribe{
		Unsubscribe: &controlapi.Unsubscribe{Names: names},
	}}
}

func reportOf(pods ...*controlapi.PodReport) *controlapi.StreamRequest {
	return &controlapi.StreamRequest{Message: &controlapi.StreamRequest_Report{Report: &controlapi.Report{Pods: pods}}}
}
