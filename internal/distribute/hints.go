// SPDX-License-Identifier: Apache-2.0

package distribute

import (
	"container/list"
	"sync"

	"github.com/heddle-mesh/heddle/internal/identity"
	"github.com/heddle-mesh/heddle/internal/meshconfig"
)

// Bounds of hints.
const (
	maxHints      = 256    // names of one identity
	maxIdentities = 10_000 // identities
)

// hints remember what the pods of an identity asked for because their workload dialled it, newest last, so that a new
// pod can ask for it at once. What a pod asks for only because it was hinted does not count as asked: so a name that
// nobody dials any more gives way in time.
type hints struct {
	mu         sync.Mutex
	identities map[identity.ID]*list.Element // of *habits
	recent     *list.List                    // longest unused first
}

type habits struct {
	id     identity.ID
	names  map[meshconfig.Name]*list.Element // of meshconfig.Name
	recent *list.List                        // longest unused first
}

func newHints() *hints {
	return &hints{identities: make(map[identity.ID]*list.Element), recent: list.New()}
}

// hinted says whether names of a kind are hinted: those that a workload asks for by dialling.
func hinted(name meshconfig.Name) bool {
	switch name.Kind() {
	case meshconfig.KindAddress, meshconfig.KindRoutes, meshconfig.KindEndpoints:
		return true
	default:
		return false
	}
}

// add notes that a pod of an identity asked for a name.
func (h *hints) add(id identity.ID, name meshconfig.Name) {
	if !hinted(name) {
		return
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	element := h.identities[id]
	if element == nil {
		if len(h.identities) >= maxIdentities {
			oldest := h.recent.Remove(h.recent.Front()).(*habits) //nolint:forcetypeassert // the list holds nothing else
			delete(h.identities, oldest.id)
		}
		element = h.recent.PushBack(&habits{id: id, names: make(map[meshconfig.Name]*list.Element), recent: list.New()})
		h.identities[id] = element
	}
	h.recent.MoveToBack(element)
	element.Value.(*habits).add(name) //nolint:forcetypeassert // the list holds nothing else
}

func (a *habits) add(name meshconfig.Name) {
	if element := a.names[name]; element != nil {
		a.recent.MoveToBack(element)
		return
	}
	if len(a.names) >= maxHints {
		oldest := a.recent.Remove(a.recent.Front()).(meshconfig.Name) //nolint:forcetypeassert // the list holds nothing else
		delete(a.names, oldest)
	}
	a.names[name] = a.recent.PushBack(name)
}

// of returns the names of an identity for which keep is true, most recently used first.
func (h *hints) of(id identity.ID, keep func(meshconfig.Name) bool) []string {
	h.mu.Lock()
	defer h.mu.Unlock()
	element := h.identities[id]
	if element == nil {
		return nil
	}
	var out []string
	for e := element.Value.(*habits).recent.Back(); e != nil; e = e.Prev() { //nolint:forcetypeassert // see add
		if name := e.Value.(meshconfig.Name); keep(name) { //nolint:forcetypeassert // see add
			out = append(out, string(name))
		}
	}
	return out
}
