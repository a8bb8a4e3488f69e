// SPDX-License-Identifier: Apache-2.0

package pipeline

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"

	"github.com/heddle-mesh/heddle/api/v1alpha1"
	"github.com/heddle-mesh/heddle/internal/meshconfig"
	"github.com/heddle-mesh/heddle/test/gen"
)

// editor edits a mesh at random. Names are few, so that objects meet; weights are all or nothing, so that answers are not
// left to chance.
type editor struct {
	*rand.Rand
	mesh *mesh
}

var (
	servers = []string{"cart", "cart-v2", "pay"} // at 10.96.0.1 and on; each has one pod
	anyone  = []string{"cart", "cart-v2", "pay", "ghost"}
)

func oneOf[T any](e *editor, of ...T) T { return of[e.IntN(len(of))] }

// edit changes one thing.
func (e *editor) edit() {
	switch o := e.object(); {
	case e.IntN(3) == 0 && keyOf(o).Kind != "Pod":
		e.mesh.delete(o)
	default:
		e.mesh.apply(o)
	}
}

func (e *editor) object() object {
	age := time.Duration(e.IntN(3)) * time.Hour
	switch e.IntN(8) {
	case 0:
		n := e.IntN(len(servers))
		s := service(servers[n], n+1)
		gen.Selector("app", oneOf(e, servers[n], servers[n], oneOf(e, anyone...)))(s)
		return s
	case 1, 2, 3:
		return e.split(age)
	case 4:
		p := gen.ServiceProfile(namespace, oneOf(e, "a", "b"), oneOf(e, servers...), gen.Age[v1alpha1.ServiceProfile](age))
		gen.Route("r", oneOf(e, "", "20s"), gen.Path(v1alpha1.PathMatchPrefix, oneOf(e, "/a", "/b")))(p)
		if e.IntN(2) == 0 {
			gen.Protocol(80, oneOf(e, v1alpha1.ProtocolHTTP1, v1alpha1.ProtocolHTTP2))(p)
		}
		e.traffic(p)
		return p
	case 5, 6:
		return e.policy(age)
	default:
		n := e.IntN(len(servers))
		return pod(servers[n], n+2, 1, gen.Phase(oneOf(e, corev1.PodRunning, corev1.PodRunning, corev1.PodPending)))
	}
}

// traffic adds what leaves nothing to chance.
func (e *editor) traffic(p *v1alpha1.ServiceProfile) {
	unavailable, all := int32(503), int32(100)
	switch e.IntN(5) {
	case 0:
		gen.Retry(oneOf[int32](e, 0, 2), v1alpha1.RetryConnectFailure)(p)
		gen.Filter(v1alpha1.Filters{ResponseHeaders: gen.SetHeader(headerBy, "a filter")})(p)
	case 1:
		gen.Fault("f", &v1alpha1.Abort{HTTPStatus: &unavailable}, gen.Path(v1alpha1.PathMatchPrefix, oneOf(e, "/a", "/b")))(p)
	case 2:
		gen.Check(oneOf(e, "/healthz", "/"))(p)
		p.Spec.LoadBalancing = gen.Balancing(v1alpha1.BalancingConsistentHash, v1alpha1.HashKey{By: "Source"})
	case 3:
		p.Spec.OutlierDetection = &v1alpha1.OutlierDetection{MaxEjectedPercent: &all}
		p.Spec.CircuitBreaker = &v1alpha1.CircuitBreaker{MaxRequests: &all}
	}
}

func (e *editor) split(age time.Duration) object {
	s := gen.TrafficSplit(namespace, oneOf(e, "a", "b"), oneOf(e, servers...), gen.Age[v1alpha1.TrafficSplit](age))
	first := e.IntN(len(anyone))
	second := (first + 1 + e.IntN(len(anyone)-1)) % len(anyone)
	gen.Backend(anyone[first], 1)(s)
	gen.Backend(anyone[second], 0)(s)
	if e.IntN(2) == 0 {
		gen.Rule("r", anyone[second], gen.Path(v1alpha1.PathMatchPrefix, oneOf(e, "/a", "/b")))(s)
	}
	if e.IntN(4) == 0 {
		gen.SplitPort(oneOf[int32](e, 80, 70))(s)
	}
	switch e.IntN(5) {
	case 0:
		gen.Active(anyone[second])(s)
	case 1:
		gen.Subset("labels", 0, "app", oneOf(e, anyone...))(s)
		gen.Stick(v1alpha1.StickyBySourceIdentity, "")(s)
	}
	return s
}

func (e *editor) policy(age time.Duration) object {
	p := gen.MeshPolicy(namespace, oneOf(e, "a", "b"), gen.Age[v1alpha1.MeshPolicy](age))
	switch e.IntN(3) {
	case 0:
		gen.ForService(oneOf(e, servers...))(p)
	case 1:
		gen.ForWorkload("app", oneOf(e, servers...))(p)
	}
	if e.IntN(3) == 0 {
		gen.MTLS(oneOf(e, v1alpha1.MTLSStrict, v1alpha1.MTLSPermissive, v1alpha1.MTLSDisabled))(p)
		return p
	}
	if e.IntN(4) == 0 {
		gen.Limit("plenty", 1_000_000)(p)
	}
	from := []v1alpha1.AuthorizationSource{{ServiceAccounts: []string{oneOf(e, "web", "web", "other")}}}
	to := []v1alpha1.AuthorizationTarget{{Paths: []string{oneOf(e, "/a", "/b", "*")}}}
	gen.Authorize(oneOf(e, v1alpha1.ActionAllow, v1alpha1.ActionAllow, v1alpha1.ActionDeny),
		gen.AuthRule("r", oneOf(e, v1alpha1.ActionAllow, v1alpha1.ActionDeny), from, to))(p)
	return p
}

// answers asks everything that can be asked.
func answers(w *workload) map[string]string {
	client := w.client()
	out := make(map[string]string)
	for n, name := range servers {
		ip := fmt.Sprintf("10.96.0.%d", n+1)
		for _, path := range []string{"/", "/a", "/b"} {
			a := client.get("http://" + ip + path)
			out[name+path] = fmt.Sprint(a.status, " ", a.reason, " ", a.by, " ", a.caller, " ", a.err)
		}
		// The caller speaks, since one that may still prove its identity is not refused before.
		tcp := "refused"
		if l, err := w.lines(ip+":70", "hello"); err == nil {
			tcp = l.by
			_ = l.Close()
		}
		out[name+" tcp"] = tcp
	}
	client.http.CloseIdleConnections()
	return out
}

// Whatever the edits, and however they come together, all ends as in a mesh that never knew anything but the last state,
// of which what was in force last is a part.
func TestEditsAtRandomEndAsAFreshMesh(t *testing.T) {
	t.Parallel()
	const edits = 30
	for range 3 {
		seed := newSeed()
		t.Run(fmt.Sprint("seed ", seed), func(t *testing.T) {
			m := start(t)
			e := &editor{rand.New(rand.NewPCG(seed, 0)), m}
			for i, name := range servers {
				m.apply(service(name, i+1))
			}
			m.run(pod("web", 1, 1), pod("cart", 2, 1), pod("cart-v2", 3, 1), pod("pay", 4, 1))
			for range edits {
				e.edit()
				switch e.IntN(6) {
				case 0:
					m.settle()
				case 1:
					answers(m.workload("shop/web-1"))
				}
			}
			answers(m.workload("shop/web-1"))
			m.settle()

			fresh := startWith(t, settings{authorities: m.authorities})
			fresh.cluster.copyGood(m.cluster)
			var pods []*corev1.Pod
			for _, o := range m.cluster.all() {
				if p, ok := o.(*corev1.Pod); ok {
					pods = append(pods, p)
					continue
				}
				fresh.apply(o)
			}
			fresh.run(pods...)
			answers(fresh.workload("shop/web-1"))
			fresh.settle()
			compareMeshes(t, fresh, m)
			if t.Failed() {
				for _, o := range m.cluster.all() {
					t.Logf("%v: %+v", keyOf(o), o)
				}
			}
		})
	}
}

func compareMeshes(t *testing.T, fresh, edited *mesh) {
	t.Helper()
	if diff := cmp.Diff(sectionsOf(fresh), sectionsOf(edited)); diff != "" {
		t.Errorf("sections: -fresh +edited\n%s", diff)
	}
	// What the proxies hold of it.
	sections := fresh.leader().result.Load().Sections
	for _, p := range edited.proxies() {
		want := fresh.workload(namespace + "/" + p.pod.Name).sidecar().held()
		for name, s := range p.held() {
			if _, ok := sections[name]; !ok && !s.Tombstone && name.Kind() != meshconfig.KindAddress {
				t.Errorf("%s holds %s, which there is not", p.pod.Name, name)
			}
			if w, ok := want[name]; ok && (w.Digest != s.Digest || w.Tombstone != s.Tombstone) {
				t.Errorf("%s holds another %s than in the fresh mesh", p.pod.Name, name)
			}
		}
	}
	var diff string
	if !comes(func() bool {
		diff = cmp.Diff(answers(fresh.workload("shop/web-1")), answers(edited.workload("shop/web-1")))
		return diff == ""
	}) {
		t.Errorf("answers: -fresh +edited\n%s", diff)
	}
}

// sectionsOf are the sections of a mesh as text.
func sectionsOf(m *mesh) map[meshconfig.Name]string {
	out := make(map[meshconfig.Name]string)
	sections := m.leader().result.Load().Sections
	for _, name := range slices.Sorted(maps.Keys(sections)) {
		out[name] = fmt.Sprintf("%x", meshconfig.Encode(sections[name]))
	}
	return out
}
