// SPDX-License-Identifier: Apache-2.0

package pipeline

import (
	"crypto/sha256"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"maps"
	"strconv"
	"strings"
	"sync"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"

	"github.com/heddle-mesh/heddle/api/v1alpha1"
	"github.com/heddle-mesh/heddle/internal/compile"
	"github.com/heddle-mesh/heddle/internal/snapshot"
	"github.com/heddle-mesh/heddle/test/gen"
	"github.com/heddle-mesh/heddle/test/pki"
)

// object is an object of Kubernetes.
type object interface {
	metav1.Object
	runtime.Object
}

// cluster is what the API server would hold. Objects are replaced, never written to.
type cluster struct {
	mu       sync.Mutex
	options  snapshot.Options
	version  int
	objects  map[snapshot.ObjectKey]object
	lastGood map[snapshot.ObjectKey]*snapshot.LastGood
}

func newCluster(options snapshot.Options) *cluster {
	return &cluster{
		options: options, objects: make(map[snapshot.ObjectKey]object), lastGood: make(map[snapshot.ObjectKey]*snapshot.LastGood),
	}
}

func keyOf(o object) snapshot.ObjectKey {
	kind := fmt.Sprintf("%T", o)
	return snapshot.ObjectKey{Kind: kind[strings.LastIndexByte(kind, '.')+1:], Namespace: o.GetNamespace(), Name: o.GetName()}
}

// put stores copies of objects, each with a version and a generation of its own.
func (c *cluster) put(objects ...object) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, o := range objects {
		stored, _ := o.DeepCopyObject().(object)
		c.version++
		stored.SetResourceVersion(strconv.Itoa(c.version))
		if old := c.objects[keyOf(o)]; old != nil && old.GetUID() == o.GetUID() {
			stored.SetGeneration(old.GetGeneration() + 1)
		}
		c.objects[keyOf(o)] = stored
	}
}

func (c *cluster) remove(objects ...object) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, o := range objects {
		c.version++
		delete(c.objects, keyOf(o))
		delete(c.lastGood, keyOf(o)) // its owner is gone
	}
}

// trust makes CAs those that workloads' certificates chain to.
func (c *cluster) trust(cas ...*pki.CA) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.version++
	c.options.WorkloadRoots = nil
	for _, ca := range cas {
		c.options.WorkloadRoots = append(c.options.WorkloadRoots, ca.Certificate.Raw)
	}
}

// workloadRoots is what the control server judges proxies by.
func (c *cluster) workloadRoots() *x509.CertPool {
	c.mu.Lock()
	defer c.mu.Unlock()
	pool := x509.NewCertPool()
	for _, der := range c.options.WorkloadRoots {
		if cert, err := x509.ParseCertificate(der); err == nil {
			pool.AddCert(cert)
		}
	}
	return pool
}

// all returns the objects as they are.
func (c *cluster) all() []object {
	c.mu.Lock()
	defer c.mu.Unlock()
	out := make([]object, 0, len(c.objects))
	for _, o := range c.objects {
		out = append(out, o)
	}
	return out
}

func (c *cluster) now() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.version
}

// service returns a Service by "name.namespace", or nil.
func (c *cluster) service(host string) *corev1.Service {
	name, namespace, _ := strings.Cut(host, ".")
	c.mu.Lock()
	defer c.mu.Unlock()
	s, _ := c.objects[snapshot.ObjectKey{Kind: "Service", Namespace: namespace, Name: name}].(*corev1.Service)
	return s
}

// snapshot is what the collector takes, with the EndpointSlices that Kubernetes makes, and its version.
func (c *cluster) snapshot() (*snapshot.Snapshot, int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	s := &snapshot.Snapshot{Options: c.options, LastGood: maps.Clone(c.lastGood)}
	var slices []*discoveryv1.EndpointSlice
	for _, o := range c.objects {
		switch o := o.(type) {
		case *corev1.Service:
			s.Services = append(s.Services, o)
		case *corev1.Pod:
			s.Pods = append(s.Pods, o)
		case *discoveryv1.EndpointSlice:
			slices = append(slices, o)
		case *v1alpha1.TrafficSplit:
			s.TrafficSplits = append(s.TrafficSplits, o)
		case *v1alpha1.ServiceProfile:
			s.ServiceProfiles = append(s.ServiceProfiles, o)
		case *v1alpha1.MeshPolicy:
			s.MeshPolicies = append(s.MeshPolicies, o)
		default:
			panic(fmt.Sprintf("the cluster has no %T", o))
		}
	}
	s.Sort()
	s.EndpointSlices = gen.Slices(s.Services, s.Pods)
	for _, slice := range s.EndpointSlices { // equal ones have equal versions
		data, err := json.Marshal(slice)
		if err != nil {
			panic(err)
		}
		slice.ResourceVersion = fmt.Sprintf("%x", sha256.Sum256(data))
	}
	s.EndpointSlices = append(s.EndpointSlices, slices...)
	s.Sort()
	return s, c.version
}

// copyGood remembers what another cluster does.
func (c *cluster) copyGood(other *cluster) {
	other.mu.Lock()
	good := maps.Clone(other.lastGood)
	other.mu.Unlock()
	c.mu.Lock()
	defer c.mu.Unlock()
	c.lastGood = good
}

// keepGood remembers the spec of each object that is good, as the leader does.
func (c *cluster) keepGood(origins []compile.Origin) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, origin := range origins {
		key := snapshot.ObjectKey{Kind: origin.Kind, Namespace: origin.Namespace, Name: origin.Name}
		o := c.objects[key]
		if o == nil || o.GetUID() != origin.UID || o.GetGeneration() != origin.Generation {
			continue
		}
		good := &snapshot.LastGood{UID: o.GetUID(), Generation: o.GetGeneration(), Created: o.GetCreationTimestamp()}
		switch o := o.(type) {
		case *v1alpha1.TrafficSplit:
			good.TrafficSplit = &o.Spec
		case *v1alpha1.ServiceProfile:
			good.ServiceProfile = &o.Spec
		case *v1alpha1.MeshPolicy:
			good.MeshPolicy = &o.Spec
		}
		c.lastGood[key] = good
	}
}
