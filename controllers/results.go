// SPDX-License-Identifier: Apache-2.0

package controllers

import (
	"sync/atomic"

	"google.golang.org/protobuf/proto"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/heddle-mesh/heddle/internal/compile"
	"github.com/heddle-mesh/heddle/internal/meshconfig"
	"github.com/heddle-mesh/heddle/internal/snapshot"
)

// Results holds what was compiled last. The mesh controller fills it; everyone else reads it. The zero value is ready to
// use.
type Results struct {
	compiled  atomic.Pointer[compile.Result] // what is being published; Resolve reads it
	published atomic.Pointer[Published]      // what the hub holds; status is about it
	// Changed wakes who writes about results: after each is published, and when proxies acked.
	Changed Signal
}

// Published is a result that was published, with its findings by object.
type Published struct {
	*compile.Result

	objects map[snapshot.ObjectKey]*judged
}

// judged is what a result says of one object.
type judged struct {
	origin   compile.Origin
	findings []compile.Finding
	good     bool // the spec that was judged is to be kept as the last good one
	lastGood bool // an earlier one is in force in place of it
}

// compiling makes r what Resolve answers from.
func (r *Results) compiling(result *compile.Result) { r.compiled.Store(result) }

// publish makes r what status is about.
func (r *Results) publish(result *compile.Result) {
	p := &Published{Result: result, objects: make(map[snapshot.ObjectKey]*judged)}
	for _, f := range result.Findings {
		key := keyOf(f.Origin)
		if p.objects[key] == nil {
			p.objects[key] = &judged{origin: f.Origin}
		}
		p.objects[key].findings = append(p.objects[key].findings, f)
	}
	for _, o := range result.Good {
		p.objects[keyOf(o)].good = true
	}
	for _, o := range result.LastGood {
		p.objects[keyOf(o)].lastGood = true
	}
	r.published.Store(p)
	r.Changed.Notify()
}

func keyOf(o compile.Origin) snapshot.ObjectKey {
	return snapshot.ObjectKey{Kind: o.Kind, Namespace: o.Namespace, Name: o.Name}
}

// forget drops what a term that ended has left: a new one judges anew.
func (r *Results) forget() { r.published.Store(nil) }

// Published returns the newest result that was published in this term, or nil.
func (r *Results) Published() *Published { return r.published.Load() }

// Resolve answers for sections that are made on demand; it is Resolve of distribute.PublisherOptions.
func (r *Results) Resolve(name meshconfig.Name) proto.Message {
	ip, err := parseAddress(name)
	result := r.compiled.Load()
	if err != nil || result == nil {
		return &meshconfig.Address{Address: name.Subject()}
	}
	return result.Address(ip)
}

// keys returns the objects of a kind that the newest result has findings about.
func (r *Results) keys(kind string) []snapshot.ObjectKey {
	p := r.Published()
	if p == nil {
		return nil
	}
	out := make([]snapshot.ObjectKey, 0, len(p.objects))
	for key := range p.objects {
		if kind == "" || key.Kind == kind {
			out = append(out, key)
		}
	}
	return out
}

// of returns what the result says of an object, or nil if it says nothing of an object with this UID.
func (p *Published) of(kind string, o metav1.Object) *judged {
	if p == nil {
		return nil
	}
	j := p.objects[snapshot.ObjectKey{Kind: kind, Namespace: o.GetNamespace(), Name: o.GetName()}]
	if j == nil || j.origin.UID != o.GetUID() {
		return nil
	}
	return j
}
