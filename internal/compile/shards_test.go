// SPDX-License-Identifier: Apache-2.0

package compile

import (
	"bytes"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"

	"github.com/heddle-mesh/heddle/api/v1alpha1"
	"github.com/heddle-mesh/heddle/internal/meshconfig"
	"github.com/heddle-mesh/heddle/internal/signedconfig"
	"github.com/heddle-mesh/heddle/internal/snapshot"
	"github.com/heddle-mesh/heddle/test/gen"
)

func ipOf(i int) netip.Addr { return netip.AddrFrom4([4]byte{10, 0, byte(i >> 8), byte(i)}) }

func TestShardCountIsThePowerOfTwoThatHolds64Each(t *testing.T) {
	for endpoints, want := range map[int]int{0: 1, 1: 1, 64: 1, 65: 2, 128: 2, 129: 4, 256: 4, 257: 8, 1000: 16, 1024: 16, 1025: 32, 1 << 30: meshconfig.MaxShards} {
		if got := shardCount(endpoints); got != want {
			t.Errorf("%d endpoints: %d shards, want %d", endpoints, got, want)
		}
	}
}

func TestShardsAreEvenAndSplitInTwo(t *testing.T) {
	const n = 4096
	counts := make([]int, 64)
	for i := range n {
		shard := shardOf(ipOf(i), 64)
		counts[shard]++
		if half := shardOf(ipOf(i), 32); half != shard/2 {
			t.Fatalf("%s is in shard %d of 64 and %d of 32", ipOf(i), shard, half)
		}
		if shardOf(ipOf(i), 1) != 0 {
			t.Fatal("the only shard is not the first")
		}
	}
	if low, high := slices.Min(counts), slices.Max(counts); low < 30 || high > 110 {
		t.Errorf("shards hold %d to %d of 64 on average", low, high)
	}
}

func TestAnEndpointThatGoesChangesItsShardAlone(t *testing.T) {
	s := &snapshot.Snapshot{Options: testOptions(), Services: []*corev1.Service{gen.Service("shop", "web", gen.Port("http", 80, 8080))}}
	ready := func(but int) *discoveryv1.EndpointSlice {
		slice := gen.Slice("shop", "web", "x", gen.SlicePort("http", 8080))
		slice.ResourceVersion = fmt.Sprint(but)
		for i := range 500 {
			if i == but {
				gen.Address(ipOf(i).String(), gen.NotReady)(slice)
			} else {
				gen.Address(ipOf(i).String())(slice)
			}
		}
		return slice
	}
	s.EndpointSlices = []*discoveryv1.EndpointSlice{ready(-1)}
	before, memo := CompileWith(s, nil)
	s.EndpointSlices = []*discoveryv1.EndpointSlice{ready(77)}
	after, _ := CompileWith(s, memo)
	var changed []meshconfig.Name
	for name, m := range after.Sections {
		if before.Sections[name] != m {
			changed = append(changed, name)
		}
	}
	if want := meshconfig.EndpointsName("web.shop", uint32(shardOf(ipOf(77), 8))); len(changed) != 1 || changed[0] != want {
		t.Errorf("changed: %v, want %s", changed, want)
	}
}

func TestNetworksAreJoined(t *testing.T) {
	in := &snapshot.Snapshot{Options: snapshot.Options{Networks: []string{"nonsense", "10.2.3.4/8", "::/0", "fd00::/8", "10.0.0.0/9"}}}
	for i := range 3000 { // every other one, so that none can be joined
		in.Nodes = append(in.Nodes, &corev1.Node{Spec: corev1.NodeSpec{PodCIDR: fmt.Sprintf("172.%d.%d.0/24", 16+i/128, i%128*2)}})
	}
	mesh, ok := Compile(in).Sections[meshconfig.MeshName].(*meshconfig.Mesh)
	if !ok || len(mesh.GetNetworks()) > maxNetworks {
		t.Fatalf("%d networks, want at most %d", len(mesh.GetNetworks()), maxNetworks)
	}
	var prefixes []netip.Prefix
	for _, text := range mesh.GetNetworks() {
		prefixes = append(prefixes, netip.MustParsePrefix(text))
	}
	for _, ip := range []string{"10.200.0.1", "172.16.0.9", "172.39.110.200", "fd00::1", "2001:db8::1"} {
		if !slices.ContainsFunc(prefixes, func(p netip.Prefix) bool { return p.Contains(netip.MustParseAddr(ip)) }) {
			t.Errorf("%s is not covered", ip)
		}
	}
	if slices.ContainsFunc(prefixes, func(p netip.Prefix) bool { return p.Contains(netip.MustParseAddr("192.0.2.1")) }) {
		t.Error("192.0.2.1 is covered")
	}
}

func TestRootsAreSortedAndEachOnce(t *testing.T) {
	in := &snapshot.Snapshot{Options: snapshot.Options{WorkloadRoots: [][]byte{{2}, {1}, {2}}}}
	mesh, ok := Compile(in).Sections[meshconfig.MeshName].(*meshconfig.Mesh)
	if !ok || !slices.EqualFunc(mesh.GetWorkloadRoots(), [][]byte{{1}, {2}}, bytes.Equal) {
		t.Errorf("got %v", mesh.GetWorkloadRoots())
	}
}

func TestPodsAndAudiences(t *testing.T) {
	pod := gen.Pod("shop", "web-0", "10.0.0.1", gen.App("web"))
	pod.Spec.NodeName = "node"
	r := Compile(&snapshot.Snapshot{Options: testOptions(), Pods: []*corev1.Pod{pod, gen.Pod("shop", "old", "10.0.0.2", gen.Unmeshed())}})
	got, ok := r.Pod(string(pod.UID))
	if !ok || got.Identity != "spiffe://cluster.local/ns/shop/sa/web" || got.Workload != "web" || got.Node != "node" ||
		got.Namespace+"/"+got.Name != "shop/web-0" || got.ServiceAccount != "web" || !slices.Equal(got.Addresses, []netip.Addr{netip.MustParseAddr("10.0.0.1")}) {
		t.Errorf("got %+v, %v", got, ok)
	}
	for _, uid := range []string{"pod-shop-old", "nobody", ""} {
		if _, ok := r.Pod(uid); ok {
			t.Errorf("%q is a pod of the mesh", uid)
		}
	}
	if got := Audience(meshconfig.BindingName("u")); got != signedconfig.AudiencePod("u") {
		t.Errorf("a binding is for %s", got)
	}
	if got := Audience(meshconfig.MeshName); got != signedconfig.AudienceMesh {
		t.Errorf("the mesh section is for %s", got)
	}
}

func TestWhatIsTooLargeToSend(t *testing.T) {
	pod := gen.Pod("shop", "web", "10.0.0.1")
	in := &snapshot.Snapshot{Options: testOptions(), Pods: []*corev1.Pod{pod}}
	svc := gen.Service("shop", "web")
	for i := range int32(100) { // each port has all rules and routes
		gen.Port(fmt.Sprintf("http-%d", i), 1000+i, int(1000+i))(svc)
	}
	in.Services = []*corev1.Service{svc}
	split := gen.TrafficSplit("shop", "big", "web", gen.Backend("web", 1))
	for i := range 16 {
		gen.Rule(fmt.Sprintf("r%d", i), "web", gen.Path(v1alpha1.PathMatchExact, "/"+strings.Repeat("a", 1000)))(split)
	}
	in.TrafficSplits = []*v1alpha1.TrafficSplit{split}
	var rules []v1alpha1.AuthorizationRule
	for i := range 16 {
		rules = append(rules, gen.AuthRule(fmt.Sprintf("r%d", i), v1alpha1.ActionAllow, nil, []v1alpha1.AuthorizationTarget{{Paths: []string{"/" + strings.Repeat("a", 1000)}}}))
	}
	in.MeshPolicies = []*v1alpha1.MeshPolicy{gen.MeshPolicy("shop", "big", gen.MTLS(v1alpha1.MTLSDisabled), gen.Authorize(v1alpha1.ActionAllow, rules...))}
	r := Compile(in)
	checkResult(t, r)
	for _, f := range r.Findings {
		if f.Condition == v1alpha1.ConditionResolvedRefs && (f.Reason != v1alpha1.ReasonInvalid || f.Status == "True") {
			t.Errorf("%s: %s %s %s", f.Origin, f.Status, f.Reason, f.Message)
		}
	}
	for name, m := range r.Sections {
		if size := len(meshconfig.Encode(m)); size > meshconfig.MaxPayload {
			t.Errorf("section %s of %d bytes", name, size)
		}
		if in, ok := m.(*meshconfig.Inbound); ok {
			if p := in.GetPorts()[0]; p.GetDefaultAction() != meshconfig.Action_ACTION_DENY || p.GetMtls() != meshconfig.MTLSMode_MTLS_MODE_STRICT {
				t.Errorf("half a policy is enforced: %v", p)
			}
		}
	}
	routes, ok := r.Sections[meshconfig.RoutesName("web.shop")].(*meshconfig.Routes)
	if !ok || len(routes.GetPorts()) != 100 || len(routes.GetPorts()[0].GetRules()) != 0 {
		t.Error("the routes still hold rules")
	}
}
