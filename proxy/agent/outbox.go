// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"sync"

	"github.com/heddle-mesh/heddle/internal/controlapi"
	"github.com/heddle-mesh/heddle/internal/meshconfig"
)

// maxNackReason bounds what is told of a nack, in bytes.
const maxNackReason = 256

// outbox is what the stream is to say next: which subscriptions to look at, the newest ack or nack of each section, and
// what the proxy sees of services.
// Nothing is kept while there is no stream: one that begins says all.
type outbox struct {
	wake chan struct{} // of size 1

	mu    sync.Mutex
	live  bool
	subs  map[meshconfig.Name]struct{}
	words map[meshconfig.Name]*controlapi.StreamRequest

	seen   *controlapi.Health // on this stream
	untold bool
}

func newOutbox() *outbox {
	return &outbox{
		wake:  make(chan struct{}, 1),
		subs:  make(map[meshconfig.Name]struct{}),
		words: make(map[meshconfig.Name]*controlapi.StreamRequest),
		seen:  &controlapi.Health{},
	}
}

// open begins or ends the collecting of what to say.
func (o *outbox) open(live bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.live = live
	clear(o.subs)
	clear(o.words)
	o.seen, o.untold = &controlapi.Health{}, false
}

// put changes what to say.
func (o *outbox) put(change func()) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if !o.live {
		return
	}
	change()
	select {
	case o.wake <- struct{}{}:
	default:
	}
}

// look says that a subscription began or ended.
func (o *outbox) look(name meshconfig.Name) {
	o.put(func() { o.subs[name] = struct{}{} })
}

func (o *outbox) ack(name meshconfig.Name, digest [32]byte) {
	o.put(func() {
		o.words[name] = &controlapi.StreamRequest{Message: &controlapi.StreamRequest_Ack{
			Ack: &controlapi.Ack{Name: string(name), Digest: digest[:]},
		}}
	})
}

// nack refuses a version. The name is empty when the envelope told none that was asked for.
func (o *outbox) nack(name meshconfig.Name, digest [32]byte, reason string) {
	nack := &controlapi.Nack{Name: string(name), Reason: reason[:min(len(reason), maxNackReason)]}
	if name != "" {
		nack.Digest = digest[:]
	}
	o.put(func() {
		o.words[name] = &controlapi.StreamRequest{Message: &controlapi.StreamRequest_Nack{Nack: nack}}
	})
}

// take empties the outbox.
func (o *outbox) take() (subs []meshconfig.Name, words []*controlapi.StreamRequest) {
	o.mu.Lock()
	defer o.mu.Unlock()
	for name := range o.subs {
		subs = append(subs, name)
	}
	for _, m := range o.words {
		words = append(words, m)
	}
	if o.untold {
		words = append(words, &controlapi.StreamRequest{Message: &controlapi.StreamRequest_Health{Health: o.seen}})
		o.untold = false
	}
	clear(o.subs)
	clear(o.words)
	return subs, words
}
