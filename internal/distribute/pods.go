// SPDX-License-Identifier: Apache-2.0

package distribute

import (
	"sync"

	"github.com/heddle-mesh/heddle/internal/identity"
)

// Pod is a live pod that was injected.
type Pod struct {
	ID identity.ID
	// Terminating is closed once the pod has a deletionTimestamp, Gone once it is gone; then its stream ends.
	Terminating, Gone <-chan struct{}
}

// Pods are the live, injected pods of the cluster, kept up to date from an informer. The zero value is ready to use.
// Its Lookup goes into Options.Pods.
type Pods struct {
	mu   sync.RWMutex
	pods map[string]*pod
}

type pod struct {
	id                identity.ID
	terminating, gone chan struct{}
}

// Set adds or updates a pod. A pod that terminates stays so, and its identity stays what it was: neither changes in a
// pod's life.
func (p *Pods) Set(uid string, id identity.ID, terminating bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	known := p.pods[uid]
	if known == nil {
		if p.pods == nil {
			p.pods = make(map[string]*pod)
		}
		known = &pod{id: id, terminating: make(chan struct{}), gone: make(chan struct{})}
		p.pods[uid] = known
	}
	if terminating {
		closeOnce(known.terminating)
	}
}

// Delete removes a pod that is gone, or whose containers all ended.
func (p *Pods) Delete(uid string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if known := p.pods[uid]; known != nil {
		closeOnce(known.terminating)
		closeOnce(known.gone)
		delete(p.pods, uid)
	}
}

// closeOnce closes a channel that is closed under one lock only.
func closeOnce(c chan struct{}) {
	select {
	case <-c:
	default:
		close(c)
	}
}

// Lookup returns the pod of a UID.
func (p *Pods) Lookup(uid string) (Pod, bool) {
	p.mu.RLock()
	defer p.mu.RUnlock()
	known := p.pods[uid]
	if known == nil {
		return Pod{}, false
	}
	return Pod{ID: known.id, Terminating: known.terminating, Gone: known.gone}, true
}
