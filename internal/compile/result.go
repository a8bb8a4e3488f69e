// SPDX-License-Identifier: Apache-2.0

package compile

import (
	"net/netip"
	"sync"
	"time"

	"google.golang.org/protobuf/proto"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/heddle-mesh/heddle/internal/meshconfig"
	"github.com/heddle-mesh/heddle/internal/signedconfig"
)

// Result is what a snapshot compiles to. It is read-only, and safe for use by many goroutines at once.
type Result struct {
	// Sections are all sections but `heartbeat` and those of kind address (see Address). With a Memo a section that did
	// not change is the same pointer as before.
	Sections map[meshconfig.Name]proto.Message
	// Findings say, of each object, whether it is Accepted, has ResolvedRefs and is Conflicted; sorted by origin and
	// condition.
	Findings []Finding
	// Shaped are the sections that an object had a part in, sorted; the key is the origin of its findings. Objects of
	// which nothing is in force have none.
	Shaped map[Origin][]meshconfig.Name
	// Effects sum up what of an object is in force, for its status.
	Effects map[Origin]Effect
	// LastGood are the objects that run on their last good spec, sorted.
	LastGood []Origin
	// Good are the objects whose live spec is to be kept as the last good one, sorted: it is in force, and no backend of a
	// TrafficSplit that gets requests is a subset that never had a pod.
	Good []Origin

	pods      []*pod
	services  []*service // by namespace and name
	profiles  map[string]*profile
	indexes   map[string]*selectorIndex // by namespace
	inbound   []*inbound                // of each pod; nil if it is not meshed
	addresses func() map[netip.Addr]owner
	byUID     func() map[string]*pod
}

// Origin is the object that a finding is about, at the generation that was judged.
type Origin struct {
	Kind       string
	Namespace  string
	Name       string
	UID        types.UID
	Generation int64
}

// String is the object as messages show it: "TrafficSplit shop/checkout".
func (o Origin) String() string { return o.Kind + " " + o.Namespace + "/" + o.Name }

// Finding is one condition of one object.
type Finding struct {
	Origin    Origin
	Condition string // v1alpha1.ConditionAccepted, ConditionResolvedRefs or ConditionConflicted
	Status    metav1.ConditionStatus
	Reason    string
	Message   string
}

// Effect is what of an object is in force.
type Effect struct {
	// Weights of a TrafficSplit for requests that no rule matches, "v1 90, v2 10"; the first four.
	Weights string
	// Routes of a ServiceProfile.
	Routes int
	// Service that a TrafficSplit divides, or a ServiceProfile describes, "name.namespace".
	Service string
	// Backends of that Service's splits that take their settings from the ServiceProfile where they have none of their own,
	// "name.namespace", ascending.
	Backends []string
	// FaultsEnd is when each fault of a ServiceProfile ends that a port of the service injects, ascending.
	FaultsEnd []time.Time
}

// Audience says who may take a section: the one pod of a binding, else the mesh.
func Audience(name meshconfig.Name) string {
	if name.Kind() == meshconfig.KindBinding {
		return signedconfig.AudiencePod(name.Subject())
	}
	return signedconfig.AudienceMesh
}

// Pod is a live pod of the mesh.
type Pod struct {
	UID            string
	Namespace      string
	Name           string
	ServiceAccount string
	Identity       string // SPIFFE ID
	Workload       string // label of metrics: the controller's name, or the pod's
	Node           string
	Addresses      []netip.Addr
	Terminating    bool
}

// Pod returns the live pod of the mesh that has a UID.
func (r *Result) Pod(uid string) (Pod, bool) {
	p := r.byUID()[uid]
	if p == nil || !p.meshed {
		return Pod{}, false
	}
	return Pod{
		UID: p.uid, Namespace: p.namespace, Name: p.name, ServiceAccount: p.serviceAccount, Identity: p.identity,
		Workload: p.workload, Node: p.node, Addresses: p.addresses, Terminating: p.terminating,
	}, true
}

// index prepares the look-ups that not every result is asked for.
func (r *Result) index() {
	r.byUID = sync.OnceValue(func() map[string]*pod {
		pods := make(map[string]*pod, len(r.pods))
		for _, p := range r.pods {
			pods[p.uid] = p
		}
		return pods
	})
	r.addresses = sync.OnceValue(r.owners)
}
