// SPDX-License-Identifier: Apache-2.0

package compile

import (
	"crypto/sha256"
	"fmt"
	"math/rand/v2"
	"strconv"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/heddle-mesh/heddle/api/v1alpha1"
	"github.com/heddle-mesh/heddle/internal/snapshot"
	"github.com/heddle-mesh/heddle/test/gen"
)

// world is a cluster that changes at random. Objects are replaced, never written to.
type world struct {
	r        *rand.Rand
	version  int
	options  snapshot.Options
	services map[string]*corev1.Service
	pods     map[string]*corev1.Pod
	splits   map[string]*v1alpha1.TrafficSplit
	profiles map[string]*v1alpha1.ServiceProfile
	policies map[string]*v1alpha1.MeshPolicy
	lastGood map[snapshot.ObjectKey]*snapshot.LastGood
	keeps    bool // any valid spec as the last good one, now and then
}

func newWorld(seed uint64) *world {
	return &world{
		r: rand.New(rand.NewPCG(seed, 0)), options: testOptions(),
		services: map[string]*corev1.Service{}, pods: map[string]*corev1.Pod{}, splits: map[string]*v1alpha1.TrafficSplit{},
		profiles: map[string]*v1alpha1.ServiceProfile{}, policies: map[string]*v1alpha1.MeshPolicy{},
		lastGood: map[snapshot.ObjectKey]*snapshot.LastGood{}, keeps: true,
	}
}

// The names of the world are few, so that objects meet.
var (
	apps       = []string{"web", "cart", "cart-v2", "db", "pay"}
	namespaces = []string{"shop", "bank"}
)

func pick[T any](w *world, of ...T) T { return of[w.r.IntN(len(of))] }

// touch gives an object a version of its own.
func touch[T any, P interface {
	*T
	metav1.Object
}](w *world, o P) P {
	w.version++
	o.SetResourceVersion(strconv.Itoa(w.version))
	o.SetGeneration(int64(w.version))
	if w.r.IntN(8) == 0 {
		o.SetUID(types.UID(fmt.Sprintf("made-anew-%d", w.version)))
	}
	o.SetCreationTimestamp(metav1.NewTime(gen.Epoch.Add(time.Duration(w.r.IntN(3)) * time.Hour)))
	return o
}

// edit changes one thing.
func (w *world) edit() {
	namespace, app := pick(w, namespaces...), pick(w, apps...)
	key := namespace + "/" + app
	switch w.r.IntN(14) {
	case 0, 1:
		w.services[key] = w.service(namespace, app)
	case 2, 3, 4:
		name := fmt.Sprintf("%s-%d", app, w.r.IntN(4))
		w.pods[namespace+"/"+name] = w.pod(namespace, name, app)
	case 5, 12, 13:
		w.splits[key] = w.split(namespace, app)
	case 6:
		w.profiles[key] = w.profile(namespace, app)
	case 7, 8:
		if w.r.IntN(4) == 0 {
			namespace = "heddle-system"
		}
		w.policies[namespace+"/"+app] = w.policy(namespace, app)
	case 9:
		w.remove(key)
	case 10:
		if w.keeps {
			w.keepGood()
		}
	case 11:
		w.options.TrustDomain = pick(w, "cluster.local", "cluster.local", "example.org")
	}
}

func (w *world) remove(key string) {
	namespace, name, _ := strings.Cut(key, "/")
	forget := func(kind string) {
		delete(w.lastGood, snapshot.ObjectKey{Kind: kind, Namespace: namespace, Name: name})
	}
	switch w.r.IntN(5) {
	case 0:
		delete(w.services, key)
	case 1:
		delete(w.pods, key+"-0")
	case 2:
		delete(w.splits, key)
		forget(v1alpha1.KindTrafficSplit)
	case 3:
		delete(w.profiles, key)
		forget(v1alpha1.KindServiceProfile)
	case 4:
		delete(w.policies, key)
		forget(v1alpha1.KindMeshPolicy)
	}
}

// keepGood remembers the spec of each valid object, more than the leader does.
func (w *world) keepGood() {
	for _, o := range w.splits {
		if len(ValidateTrafficSplit(o)) == 0 {
			w.lastGood[snapshot.ObjectKey{Kind: v1alpha1.KindTrafficSplit, Namespace: o.Namespace, Name: o.Name}] = &snapshot.LastGood{UID: o.UID, Generation: o.Generation, TrafficSplit: &o.Spec}
		}
	}
	for _, o := range w.profiles {
		if len(ValidateServiceProfile(o)) == 0 {
			w.lastGood[snapshot.ObjectKey{Kind: v1alpha1.KindServiceProfile, Namespace: o.Namespace, Name: o.Name}] = &snapshot.LastGood{UID: o.UID, Generation: o.Generation, ServiceProfile: &o.Spec}
		}
	}
	for _, o := range w.policies {
		if len(ValidateMeshPolicy(o, w.options.OperatorNamespace)) == 0 {
			w.lastGood[snapshot.ObjectKey{Kind: v1alpha1.KindMeshPolicy, Namespace: o.Namespace, Name: o.Name}] = &snapshot.LastGood{UID: o.UID, Generation: o.Generation, MeshPolicy: &o.Spec}
		}
	}
}

func (w *world) service(namespace, app string) *corev1.Service {
	ip := fmt.Sprintf("10.96.0.%d", w.r.IntN(20))
	s := gen.Service(namespace, app, gen.ClusterIP(ip), gen.Port(pick(w, "http", "tcp", "x"), pick[int32](w, 80, 80, 82), pick[any](w, 8080, "web", 0)))
	if w.r.IntN(2) == 0 {
		gen.Port("more", 81, pick(w, 8080, 9090))(s)
	}
	switch w.r.IntN(8) {
	case 0:
		gen.Headless()(s)
	case 1:
		gen.ExternalName("example.org")(s)
	case 2:
		gen.Selector("tier", "back")(s)
	}
	return touch(w, s)
}

func (w *world) pod(namespace, name, app string) *corev1.Pod {
	p := gen.Pod(namespace, name, fmt.Sprintf("10.0.0.%d", w.r.IntN(40)), gen.App(app), gen.Labels[corev1.Pod]("tier", pick(w, "back", "front")))
	gen.ContainerPort("web", pick[int32](w, 8080, 9999))(p)
	switch w.r.IntN(8) {
	case 0:
		gen.Unmeshed()(p)
	case 1:
		gen.HostNetwork()(p)
	case 2:
		gen.Phase(pick(w, corev1.PodSucceeded, corev1.PodPending))(p)
	case 3:
		p.UID = types.UID("other-" + name)
	}
	return touch(w, p)
}

func (w *world) split(namespace, app string) *v1alpha1.TrafficSplit {
	s := gen.TrafficSplit(namespace, app, pick(w, apps...))
	for i := range 1 + w.r.IntN(2) {
		gen.Backend(pick(w, apps...), int32(w.r.IntN(3)))(s)
		s.Spec.Backends[i].Name = fmt.Sprintf("b%d", i)
		if w.r.IntN(4) == 0 {
			gen.BackendPort(pick[int32](w, 80, 81))(s)
		}
	}
	if w.r.IntN(3) == 0 {
		gen.SplitPort(pick[int32](w, 80, 81, 82))(s)
	}
	if w.r.IntN(3) == 0 {
		gen.Rule("r", pick(w, "b0", "b0", "b7"), gen.Path(v1alpha1.PathMatchPrefix, pick(w, "/a", "/b", "/ c")))(s)
	}
	w.splitTraffic(s)
	return touch(w, s)
}

func (w *world) profile(namespace, app string) *v1alpha1.ServiceProfile {
	p := gen.ServiceProfile(namespace, app, pick(w, apps...), gen.Protocol(pick[int32](w, 80, 81), pick(w, protocolNames...)))
	if w.r.IntN(2) == 0 {
		gen.Route("all", pick(w, "", "1s", "soon"))(p)
		w.routeTraffic(p)
	}
	w.callTraffic(p)
	return touch(w, p)
}

func (w *world) policy(namespace, app string) *v1alpha1.MeshPolicy {
	p := gen.MeshPolicy(namespace, app)
	port := []int32{80, 8080}[:w.r.IntN(2)]
	switch w.r.IntN(4) {
	case 0:
		gen.ForMesh()(p)
	case 1:
		gen.ForService(app, port...)(p)
	case 2:
		gen.ForWorkload(pick(w, "app", "tier"), pick(w, "web", "back", "cart"), port...)(p)
	}
	if w.r.IntN(2) == 0 {
		gen.MTLS(pick(w, v1alpha1.MTLSStrict, v1alpha1.MTLSPermissive, v1alpha1.MTLSDisabled))(p)
		if w.r.IntN(2) == 0 {
			gen.PortMTLS(pick[int32](w, 80, 8080), pick(w, v1alpha1.MTLSStrict, v1alpha1.MTLSDisabled))(p)
		}
	}
	if w.r.IntN(2) == 0 {
		from := []v1alpha1.AuthorizationSource{{ServiceAccounts: []string{pick(w, apps...)}}}
		to := []v1alpha1.AuthorizationTarget{{Paths: []string{pick(w, "/a", "/b/*", "bad")}}, {Ports: []int32{pick[int32](w, 80, 8080)}}}
		gen.Authorize(pick(w, v1alpha1.ActionAllow, v1alpha1.ActionDeny),
			gen.AuthRule("r", pick(w, v1alpha1.ActionAllow, v1alpha1.ActionDeny), from[:w.r.IntN(2)], to[:w.r.IntN(3)]))(p)
	}
	w.policyTraffic(p)
	return touch(w, p)
}

// snapshot returns the world as it is, in random order.
func (w *world) snapshot() *snapshot.Snapshot {
	s := &snapshot.Snapshot{Options: w.options, LastGood: map[snapshot.ObjectKey]*snapshot.LastGood{}}
	for _, o := range w.services {
		s.Services = append(s.Services, o)
	}
	for _, o := range w.pods {
		s.Pods = append(s.Pods, o)
	}
	for _, o := range w.splits {
		s.TrafficSplits = append(s.TrafficSplits, o)
	}
	for _, o := range w.profiles {
		s.ServiceProfiles = append(s.ServiceProfiles, o)
	}
	for _, o := range w.policies {
		s.MeshPolicies = append(s.MeshPolicies, o)
	}
	for k, v := range w.lastGood {
		s.LastGood[k] = v
	}
	s.Sort()
	s.EndpointSlices = gen.Slices(s.Services, s.Pods)
	for _, slice := range s.EndpointSlices { // equal ones have equal versions
		slice.ResourceVersion = fmt.Sprintf("%x", sha256.Sum256([]byte(slice.String())))
	}
	w.shuffle(s)
	return s
}

func (w *world) shuffle(s *snapshot.Snapshot) {
	shuffle(w.r, s.Services)
	shuffle(w.r, s.Pods)
	shuffle(w.r, s.EndpointSlices)
	shuffle(w.r, s.TrafficSplits)
	shuffle(w.r, s.ServiceProfiles)
	shuffle(w.r, s.MeshPolicies)
}

func shuffle[T any](r *rand.Rand, list []T) {
	r.Shuffle(len(list), func(i, j int) { list[i], list[j] = list[j], list[i] })
}
