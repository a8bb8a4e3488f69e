// SPDX-License-Identifier: Apache-2.0

package table

import (
	"context"
	"net/netip"
	"time"

	"github.com/heddle-mesh/heddle/internal/meshconfig"
	"github.com/heddle-mesh/heddle/proxy/refusal"
	"github.com/heddle-mesh/heddle/proxy/upstream"
)

// patience is how many times Options.Hold an address that nobody told of keeps others from waiting for it again.
const patience = 10

// Destination is where a connection goes, held while it is open. Release it once.
type Destination struct {
	Address netip.AddrPort

	store   *Store
	address *address
	service *service // of an address of a Service
	direct  *direct  // of a pod
	foreign *Port    // of neither, with endpoint
	relay   *upstream.Endpoint
}

// Port returns the table in force: load it once per request. It is nil when the destination has no such port any more.
func (d *Destination) Port() *Port {
	switch {
	case d.service != nil:
		if t := d.service.table.Load(); t != nil {
			return t.ports[d.Address.Port()]
		}
		return nil
	case d.direct != nil:
		return d.direct.port.Load()
	}
	return d.foreign
}

// Release says that the connection is over.
func (d *Destination) Release() {
	d.store.locked(func() {
		if d.address != nil {
			d.address.unpin()
		}
		if d.service != nil {
			d.service.unpin()
		}
		if d.direct != nil {
			d.direct.pins--
		}
	})
	if d.relay != nil {
		d.relay.Release()
	}
}

// Lookup finds out where an address leads. What is not known yet is asked for and waited for, as long as Options.Hold
// allows; then an address of the mesh's networks is refused and any other is foreign. Errors are *refusal.Error.
func (s *Store) Lookup(ctx context.Context, dst netip.AddrPort) (*Destination, error) {
	dst = netip.AddrPortFrom(dst.Addr().Unmap().WithZone(""), dst.Port())
	d := &Destination{Address: dst, store: s}
	if !dst.Addr().IsGlobalUnicast() {
		d.goAbroad() // link-local, for instance: a node's own business, never the mesh's
		return d, nil
	}
	hold, cancel := context.WithTimeout(ctx, s.options.Hold)
	defer cancel()
	section, err := s.awaitAddress(hold, d)
	if err == nil {
		switch {
		case section.GetService() != "":
			err = s.awaitService(hold, d, section.GetService())
		case section.GetPod() != nil:
			s.pinDirect(d)
		default:
			err = s.leave(d)
		}
	}
	if err == nil && d.Port() == nil {
		err = refusal.Newf(refusal.UnknownDestination, "%s has no port %d", d.name(section), dst.Port())
	}
	if err != nil {
		d.Release()
		if ctx.Err() != nil {
			err = &refusal.Error{Reason: refusal.CallerGone, Cause: context.Cause(ctx)}
		}
		return nil, err
	}
	return d, nil
}

// name is what a user calls the destination.
func (d *Destination) name(section *meshconfig.Address) string {
	if name := section.GetService(); name != "" {
		return "service " + name
	}
	return d.Address.Addr().String()
}

// awaitAddress pins what is known of the address and returns it; nil is nothing.
func (s *Store) awaitAddress(ctx context.Context, d *Destination) (section *meshconfig.Address, err error) {
	var wait <-chan struct{}
	s.locked(func() {
		a := s.addressOf(d.Address.Addr())
		if a == nil {
			err = refusal.Newf(refusal.Overloaded, "%d addresses are in use", 2*s.options.MaxAddresses)
			return
		}
		a.pin()
		d.address = a
		section = a.section
		if !a.known && time.Now().After(a.unanswered) {
			wait = a.first
		}
	})
	if wait == nil {
		return section, err
	}
	select {
	case <-wait:
	case <-ctx.Done():
	}
	s.locked(func() {
		section = d.address.section
		if !d.address.known {
			d.address.unanswered = time.Now().Add(patience * s.options.Hold)
		}
	})
	return section, nil
}

// awaitService waits for the first table of a service. One that still waits for endpoints is taken as it is in the end.
func (s *Store) awaitService(ctx context.Context, d *Destination, name string) error {
	s.locked(func() {
		if d.service = s.serviceOf(name); d.service != nil {
			d.service.pin()
		}
	})
	if d.service == nil {
		return refusal.Newf(refusal.Overloaded, "%d services are in use", 2*s.options.MaxServices)
	}
	select {
	case <-d.service.first:
		return nil
	case <-ctx.Done():
	}
	s.locked(func() {
		if d.service.pending != nil && d.service.table.Load() == nil {
			s.swap(d.service)
		}
	})
	if d.service.table.Load() == nil {
		return refusal.Newf(refusal.UnknownDestination, "nothing is known yet of service %s", name)
	}
	return nil
}

// pinDirect pins a pod's port.
func (s *Store) pinDirect(d *Destination) {
	s.locked(func() {
		d.direct = s.directOf(d.address, d.Address.Port())
		d.direct.pins++
	})
}

// leave decides about an address of which nobody knows, or that is none of ours.
func (s *Store) leave(d *Destination) error {
	mesh := s.mesh.Load()
	if mesh == nil {
		return refusal.Newf(refusal.NotReady, "nothing is known yet of the mesh")
	}
	if mesh.Contains(d.Address.Addr()) {
		return refusal.Newf(refusal.UnknownDestination, "%v", d.Address)
	}
	d.goAbroad()
	return nil
}

// goAbroad makes the destination a foreign one.
func (d *Destination) goAbroad() {
	s := d.store
	d.relay = s.options.Upstreams.Acquire(upstream.Key{Address: d.Address})
	d.foreign = &Port{Foreign: true, Series: s.foreign, Protocol: meshconfig.Protocol_PROTOCOL_TCP, Budget: s.abroad}
	d.foreign.only = single(d.relay, "", s.foreign)
}
