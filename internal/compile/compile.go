// SPDX-License-Identifier: Apache-2.0

package compile

import (
	"cmp"
	"net/netip"
	"slices"

	"google.golang.org/protobuf/proto"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/validation"

	"github.com/heddle-mesh/heddle/api/v1alpha1"
	"github.com/heddle-mesh/heddle/internal/meshconfig"
	"github.com/heddle-mesh/heddle/internal/snapshot"
)

// Compile compiles a snapshot.
func Compile(s *snapshot.Snapshot) *Result {
	result, _ := CompileWith(s, nil)
	return result
}

// CompileWith does the same, with what the compilation before left; nil is allowed. The memo that it returns is for the
// next one. A memo serves one caller at a time, and any snapshot.
//
//nolint:revive // compile.With says nothing
func CompileWith(s *snapshot.Snapshot, memo *Memo) (*Result, *Memo) {
	c := &compilation{
		work: newWork(memo), snapshot: s,
		report: &report{verdicts: map[Origin]*verdict{}},
		result: &Result{
			Sections: make(map[meshconfig.Name]proto.Message, len(s.Pods)+3*len(s.Services)+1),
			Shaped:   map[Origin][]meshconfig.Name{},
			Effects:  map[Origin]Effect{},
		},
	}
	c.options = optionFacts(c.work, &s.Options)
	c.sortInput()
	c.readCluster()
	c.result.indexes = c.indexServices()

	splits, profiles, policies := c.judgeSplits(), c.judgeProfiles(), c.judgePolicies()
	owned := c.ownSplits(splits)
	c.profiles = c.ownProfiles(profiles)
	scoped := c.scopePolicies(policies)
	c.compileMesh()
	c.compileClusters(scoped, owned)
	c.compileRoutes(owned)
	c.compileInbound(scoped)
	c.compileEndpoints(owned)

	c.result.profiles = c.profiles
	c.result.Findings, c.result.LastGood = c.report.findings()
	slices.SortFunc(c.result.Good, compareOrigins)
	for _, names := range c.result.Shaped {
		slices.Sort(names)
	}
	c.result.index()
	return c.result, c.new
}

// compilation is one run.
type compilation struct {
	*work
	snapshot *snapshot.Snapshot
	options  *options
	report   *report
	result   *Result

	// The objects of the snapshot, sorted, each name once.
	clusterServices []*corev1.Service
	endpointSlices  []*discoveryv1.EndpointSlice
	clusterPods     []*corev1.Pod
	splits          []*v1alpha1.TrafficSplit
	serviceProfiles []*v1alpha1.ServiceProfile
	meshPolicies    []*v1alpha1.MeshPolicy

	// What was read of them.
	services     []*service
	serviceByKey map[string]*service // nil: an alias
	slices       map[string][]*slice // by the key of their service
	pods         []*pod
	inboundAt    []*inbound          // of each pod; nil if it is not meshed
	podByIP      map[netip.Addr]int  // index of pods; when first needed
	zones        map[string]string   // of nodes
	profiles     map[string]*profile // by the key of the service that they own
	clusters     map[string]*cluster // by the key of the service; nil: nobody says anything about it
	heirs        map[string][]string // by the key of a root: the backend Services that take its settings, ascending
}

// sortInput sorts copies of the lists, so that the order of the input does not matter.
func (c *compilation) sortInput() {
	s := c.snapshot
	c.clusterServices = sorted(s.Services)
	c.endpointSlices = sorted(s.EndpointSlices)
	c.clusterPods = sorted(s.Pods)
	c.splits = sorted(s.TrafficSplits)
	c.serviceProfiles = sorted(s.ServiceProfiles)
	c.meshPolicies = sorted(s.MeshPolicies)
}

// sorted returns the list sorted, and each namespace and name once.
func sorted[T metav1.Object](list []T) []T {
	for i := 1; i < len(list); i++ {
		if compareNames(list[i-1], list[i]) < 0 {
			continue
		}
		list = slices.Clone(list)
		slices.SortFunc(list, snapshot.Compare[T])
		return slices.CompactFunc(list, func(a, b T) bool { return compareNames(a, b) == 0 })
	}
	return list
}

func compareNames[T metav1.Object](a, b T) int {
	if n := cmp.Compare(a.GetNamespace(), b.GetNamespace()); n != 0 {
		return n
	}
	return cmp.Compare(a.GetName(), b.GetName())
}

// readCluster reads what matters of the cluster's objects.
func (c *compilation) readCluster() {
	c.services = make([]*service, 0, len(c.clusterServices))
	c.serviceByKey = make(map[string]*service, len(c.clusterServices))
	for _, s := range c.clusterServices {
		facts := serviceFacts(c.work, s)
		c.serviceByKey[serviceKey(s.Namespace, s.Name)] = facts
		if facts != nil {
			c.services = append(c.services, facts)
		}
	}
	c.slices = map[string][]*slice{}
	for _, s := range c.endpointSlices {
		if facts := sliceFacts(c.work, s); facts != nil {
			c.slices[facts.service] = append(c.slices[facts.service], facts)
		}
	}
	c.readPods(c.clusterPods)
	c.zones = make(map[string]string, len(c.snapshot.Nodes))
	for _, n := range c.snapshot.Nodes {
		if zone := n.Labels[corev1.LabelTopologyZone]; len(validation.IsValidLabelValue(zone)) == 0 {
			c.zones[n.Name] = zone
		}
	}
	c.inboundAt = make([]*inbound, len(c.pods))
	c.result.inbound = c.inboundAt
	c.result.pods, c.result.services = c.pods, c.services
}

// shaped notes that an object had a part in a section.
func (c *compilation) shaped(origin Origin, names ...meshconfig.Name) {
	c.result.Shaped[origin] = append(c.result.Shaped[origin], names...)
}

// same returns before if it is equal to now, so that what did not change stays the same pointer.
func same[M interface {
	comparable
	proto.Message
}](before, now M) M {
	var none M
	if before != none && proto.Equal(before, now) {
		return before
	}
	return now
}
