// SPDX-License-Identifier: Apache-2.0

package distribute

import (
	"context"
	"math/rand/v2"
	"testing"

	"github.com/heddle-mesh/heddle/internal/controlapi"
	"github.com/heddle-mesh/heddle/internal/meshconfig"
)

// Whatever a caller says, in whatever order, ends in nothing worse than an error, and leaves nothing behind.
func TestWhateverIsSaidIsSurvived(t *testing.T) {
	const streams, messages = 200, 200
	w := newWorld(t)
	d := newDesk(t, w, 1)
	check(t, d.Publish(w.shop()))
	n := NewNode(Options{Clock: w.now, Pods: w.pods.Lookup})
	d.bind(nil, nil)
	n.SetLeader(d.Publisher)
	check(t, d.Publish(w.shop()))
	for seed := range uint64(streams) {
		random := rand.New(rand.NewPCG(seed, 1))
		st := newStream(t.Context(), n.server, transport{}, nil, caller{id: shopper, replica: seed%2 == 0})
		st.uid = "mine"
		n.tracker.connect(st.owner, st.uid, seed)
		for range messages {
			if st.take(nonsense(random)) != nil && random.IntN(4) == 0 {
				break // most errors would have ended the stream
			}
			for _, name := range st.watcher.take() {
				st.watcher.due(name)
			}
		}
		st.leave()
		st.cancel(context.Canceled)
	}
	if subs := n.hub.subscriptions(); len(subs) > 0 {
		t.Errorf("%d subscriptions are left", len(subs))
	}
	n.tracker.expire(w.now().Add(2 * lostGrace))
	if len(n.tracker.pods)+len(n.tracker.bySub) > 0 {
		t.Errorf("%d pods and %d subscriptions are left in the tracker", len(n.tracker.pods), len(n.tracker.bySub))
	}
	check(t, d.Publish(w.shop()))
}

var odd = []string{
	"", "mesh", "heartbeat", "binding/mine", "binding/theirs", "inbound/aaaa", "routes/checkout.shop/*", "routes/none.shop/*",
	"endpoints/checkout.shop/*", "endpoints/checkout.shop/0", "endpoints/checkout.shop/7", "endpoints/checkout.shop/007",
	"address/10.0.0.1", "address/::1", "address/::ffff:10.0.0.1", "address/x", "secrets/all", "/", "routes//", "mesh/x", "\x00",
}

func nonsense(random *rand.Rand) *controlapi.StreamRequest {
	name := func() string { return odd[random.IntN(len(odd))] }
	digest := func() []byte { return make([]byte, []int{0, 31, 32, 32, 32, 33}[random.IntN(6)]) }
	held := func() (out []*controlapi.Held) {
		for range random.IntN(3) {
			serial := []string{"", "0.1.1", "0.9.9", "1.1", "x"}[random.IntN(5)]
			out = append(out, &controlapi.Held{Name: name(), Digest: digest(), Serial: serial})
		}
		return out
	}
	m := &controlapi.StreamRequest{}
	switch random.IntN(8) {
	case 0:
		m.Message = &controlapi.StreamRequest_Hello{Hello: &controlapi.Hello{PodUid: name()}}
	case 1:
		m = ackOf(name(), digest())
	case 2:
		m.Message = &controlapi.StreamRequest_Nack{Nack: &controlapi.Nack{Name: name(), Digest: digest(), Reason: "\xff\xfe" + name()}}
	case 3:
		m = unsubscribeOf(name(), name())
	case 4:
		m = reportOf(&controlapi.PodReport{
			PodUid: name(), Session: random.Uint64N(3), Full: random.IntN(2) == 0, Gone: random.IntN(4) == 0,
			Sections: []*controlapi.SectionReport{
				nil, {Name: name(), Digest: digest(), Nack: "no", NackDigest: digest(), Unsubscribed: random.IntN(2) == 0},
			},
		}, nil)
	default:
		m = subscribeTo(meshconfig.Name(name()), meshconfig.Name(name()))
		for _, s := range m.GetSubscribe().GetSubscriptions() {
			s.Held = held()
		}
	}
	return m
}
