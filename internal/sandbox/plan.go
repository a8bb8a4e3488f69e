// SPDX-License-Identifier: Apache-2.0

package sandbox

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
)

// side is one proxy: all that its process is started with. Sides that are equal need no new process.
type side struct {
	name    string // "client-cart.shop"; of its directory too
	client  bool
	service string // name.namespace; of a server side the first
	pod     types.NamespacedName
	account string
	facts   string // of a server side's pods: what they must have in common
	listen  []pair
	paths   []pair // of a client side
	admin   netip.AddrPort
}

// pair is an address and what stands for it elsewhere.
type pair struct {
	listen      netip.AddrPort
	destination netip.AddrPort
	label       string // "cart.shop:80", for people
}

func (s *side) equal(o *side) bool {
	return s.pod == o.pod && s.account == o.account && s.admin == o.admin && slices.Equal(s.listen, o.listen) && slices.Equal(s.paths, o.paths)
}

// arguments of the proxy.
func (s *side) arguments() []string {
	flag := "-inbound-listen="
	if s.client {
		flag = "-outbound-listen="
	}
	var out []string
	for _, p := range s.listen {
		out = append(out, flag+p.listen.String()+"="+p.destination.String())
	}
	for _, p := range s.paths {
		out = append(out, "-path="+p.destination.String()+"="+p.listen.String())
	}
	return append(out, "-admin-listen="+s.admin.String())
}

// addresses are the pod's, as the proxy is told.
func (s *side) addresses() string {
	if s.client {
		return s.admin.Addr().String()
	}
	var out []string
	for _, p := range s.listen {
		if ip := p.destination.Addr().String(); !slices.Contains(out, ip) {
			out = append(out, ip)
		}
	}
	return strings.Join(out, ",")
}

// planner decides which proxies there are. A server side stays as it is once it was planned, as long as its pods are
// alike; endpoints that come later get one of their own.
type planner struct {
	options *Options
	wishes  *wishes
	ports   *ports

	servers  []*side
	inbounds map[netip.AddrPort]netip.AddrPort // of each endpoint that ever was
	admins   map[string]netip.AddrPort         // by name of side
	listens  map[string]netip.AddrPort         // that nobody wished for
	numbers  int
}

func newPlanner(o *Options, w *wishes) *planner {
	return &planner{
		options: o, wishes: w, ports: &ports{}, inbounds: maps.Clone(w.inbound),
		admins: make(map[string]netip.AddrPort), listens: make(map[string]netip.AddrPort),
	}
}

// plan returns the sides that should run now: the servers first.
func (p *planner) plan(c *completed) ([]*side, error) {
	defer p.ports.release()
	if err := p.check(c); err != nil {
		return nil, err
	}
	var out []*side
	if !p.options.OutboundOnly {
		if err := p.planServers(c); err != nil {
			return nil, err
		}
		out = slices.Clone(p.servers)
	}
	if !p.options.InboundOnly {
		clients, err := p.planClients(c)
		if err != nil {
			return nil, err
		}
		out = append(out, clients...)
	}
	return out, nil
}

// check finds what was said of a Service that is not there. An endpoint may come later.
func (p *planner) check(c *completed) error {
	var errs []error
	for _, name := range sortedKeys(p.wishes.callers) {
		if _, err := findService(c, name); err != nil {
			errs = append(errs, fmt.Errorf("--caller %s: %w", name, err))
		}
	}
	for _, name := range sortedKeys(p.wishes.admin) {
		if _, err := netip.ParseAddrPort(name); err == nil {
			continue
		}
		if _, err := findService(c, name); err != nil {
			errs = append(errs, fmt.Errorf("--admin %s: %w", name, err))
		}
	}
	return errors.Join(errs...)
}

func (p *planner) planServers(c *completed) error {
	now := make(map[netip.AddrPort]endpoint)
	for _, e := range c.endpoints {
		if _, taken := now[e.address]; !taken && isMeshed(e.pod) {
			now[e.address] = e
		}
	}
	p.servers = slices.DeleteFunc(p.servers, func(s *side) bool {
		gone := c.pods[s.pod] == nil || factsOf(c.pods[s.pod]) != s.facts
		return gone || slices.ContainsFunc(s.listen, func(l pair) bool {
			e, ok := now[l.destination]
			return ok && factsOf(e.pod) != s.facts
		})
	})
	for _, s := range p.servers {
		for _, l := range s.listen {
			delete(now, l.destination)
		}
	}
	// What is left has no server side yet: one for each Service, and kind of pod.
	groups := make(map[string]*side)
	for _, e := range c.endpoints {
		if got, ok := now[e.address]; !ok || got.service != e.service {
			continue
		}
		key := e.service + " " + factsOf(e.pod)
		s := groups[key]
		if s == nil {
			p.numbers++
			s = &side{
				name: fmt.Sprintf("server-%d", p.numbers), service: e.service, facts: factsOf(e.pod),
				pod: types.NamespacedName{Namespace: e.pod.Namespace, Name: e.pod.Name}, account: e.pod.Spec.ServiceAccountName,
			}
			groups[key] = s
			p.servers = append(p.servers, s)
		}
		at, ok := p.inbounds[e.address]
		if !ok {
			var err error
			if at, err = p.ports.free(); err != nil {
				return err
			}
			p.inbounds[e.address] = at
		}
		s.listen = append(s.listen, pair{at, e.address, e.address.String()})
	}
	var errs []error
	for _, s := range p.servers {
		if !s.admin.IsValid() {
			var err error
			s.admin, err = p.adminOfServer(s)
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

func (p *planner) adminOfServer(s *side) (netip.AddrPort, error) {
	for _, l := range s.listen {
		if at, ok := p.wishes.admin[l.destination.String()]; ok {
			return at, nil
		}
	}
	if p.options.InboundOnly {
		if at, ok := lookUp(p.wishes.admin, s.service); ok {
			return at, nil
		}
	}
	return p.ports.free()
}

// factsOf is what pods must have in common to share a proxy: their identity, and all that config can depend on.
func factsOf(p *corev1.Pod) string {
	ports := ""
	for _, c := range p.Spec.Containers {
		for _, port := range c.Ports {
			ports += fmt.Sprintf(" %s=%d", port.Name, port.ContainerPort)
		}
	}
	return fmt.Sprintf("%s/%s %v%s %t", p.Namespace, p.Spec.ServiceAccountName, p.Labels, ports, isMeshed(p))
}

func (p *planner) planClients(c *completed) ([]*side, error) {
	listen := p.wishes.listen
	if len(p.options.Listen) == 0 {
		listen = everyPort(c)
	}
	byService := make(map[string]*side)
	var out []*side
	var errs []error
	for _, l := range listen {
		key, err := findService(c, l.service)
		var port *corev1.ServicePort
		if err == nil {
			port, err = findPort(c.services[key], l.port)
		}
		if err != nil {
			errs = append(errs, fmt.Errorf("--listen %s: %w", l.service, err))
			continue
		}
		s := byService[key]
		if s == nil {
			if s, err = p.newClient(c, key); err != nil {
				return nil, err
			}
			byService[key] = s
			out = append(out, s)
		}
		vip, _ := netip.ParseAddr(c.services[key].Spec.ClusterIP)
		label := key + ":" + strconv.Itoa(int(port.Port))
		if !l.address.IsValid() {
			if l.address, err = p.keep(p.listens, label); err != nil {
				return nil, err
			}
		}
		s.listen = append(s.listen, pair{l.address, netip.AddrPortFrom(vip, uint16(port.Port)), label}) //nolint:gosec // findPort has judged it
	}
	return out, errors.Join(errs...)
}

// newClient makes the client side of a Service, without listeners.
func (p *planner) newClient(c *completed, key string) (*side, error) {
	service := c.services[key]
	s := &side{
		name: "client-" + key, client: true, service: key, account: "default",
		pod: types.NamespacedName{Namespace: service.Namespace, Name: callerPod + service.Name + "-" + service.Namespace},
	}
	if id, ok := lookUp(p.wishes.callers, key); ok {
		s.pod.Namespace, s.account = id.Namespace, id.ServiceAccount
	}
	if !p.options.OutboundOnly {
		for destination, at := range p.inbounds {
			s.paths = append(s.paths, pair{at, destination, destination.String()})
		}
		slices.SortFunc(s.paths, func(a, b pair) int { return a.destination.Compare(b.destination) })
	}
	var err error
	if at, ok := lookUp(p.wishes.admin, key); ok {
		s.admin = at
	} else {
		s.admin, err = p.keep(p.admins, s.name)
	}
	return s, err
}

// keep returns the address that a name has, or a free one that it has from now on.
func (p *planner) keep(known map[string]netip.AddrPort, name string) (netip.AddrPort, error) {
	if at, ok := known[name]; ok {
		return at, nil
	}
	at, err := p.ports.free()
	known[name] = at
	return at, err
}

// callerPod begins the names of the pods that client sides have.
const callerPod = "sandbox-caller-"

// callers are the pods of the client sides.
func callers(sides []*side) []*corev1.Pod {
	var out []*corev1.Pod
	for _, s := range sides {
		if s.client {
			pod := &corev1.Pod{}
			pod.Namespace, pod.Name = s.pod.Namespace, s.pod.Name
			pod.Spec.ServiceAccountName = s.account
			inject(pod)
			out = append(out, pod)
		}
	}
	return out
}

// everyPort is every port of every Service, at addresses that are free.
func everyPort(c *completed) []listenWish {
	var out []listenWish
	for _, key := range sortedKeys(c.services) {
		s := c.services[key]
		if _, err := netip.ParseAddr(s.Spec.ClusterIP); err != nil {
			continue
		}
		for i := range s.Spec.Ports {
			if s.Spec.Ports[i].Protocol == corev1.ProtocolTCP {
				out = append(out, listenWish{service: key, port: strconv.Itoa(int(s.Spec.Ports[i].Port))})
			}
		}
	}
	return out
}

// lookUp finds what was said of a Service, by name.namespace or by name.
func lookUp[V any](said map[string]V, key string) (V, bool) {
	if v, ok := said[key]; ok {
		return v, true
	}
	name, _, _ := strings.Cut(key, ".")
	v, ok := said[name]
	return v, ok
}

// findService returns the name.namespace of a Service that was named in one of both ways.
func findService(c *completed, name string) (string, error) {
	var found []string
	for _, key := range sortedKeys(c.services) {
		if short, _, _ := strings.Cut(key, "."); key == name || short == name {
			found = append(found, key)
		}
	}
	switch {
	case len(found) == 0:
		return "", fmt.Errorf("there is no Service %q", name)
	case len(found) > 1:
		return "", fmt.Errorf("%s: say which", strings.Join(found, ", "))
	}
	if _, err := netip.ParseAddr(c.services[found[0]].Spec.ClusterIP); err != nil {
		return "", fmt.Errorf("service %s has no cluster IP: leave spec.clusterIP out", found[0])
	}
	return found[0], nil
}

// findPort returns the port of a number or name, or the only one.
func findPort(s *corev1.Service, port string) (*corev1.ServicePort, error) {
	var all []string
	for i := range s.Spec.Ports {
		p := &s.Spec.Ports[i]
		if number := strconv.Itoa(int(p.Port)); p.Protocol == corev1.ProtocolTCP && p.Port > 0 && p.Port < 1<<16 {
			if port == number || port != "" && port == p.Name || port == "" && len(s.Spec.Ports) == 1 {
				return p, nil
			}
			all = append(all, cmp.Or(p.Name, number))
		}
	}
	return nil, fmt.Errorf("service %s.%s has the ports %s: say which as %s:PORT", s.Name, s.Namespace, strings.Join(all, ", "), s.Name)
}

// ports finds free ports of loopback. They are held until they are released together, so that no two are the same. They
// are none that the kernel gives out by itself: between the release and the proxy's listening it might.
type ports struct{ held []net.Listener }

func (p *ports) free() (netip.AddrPort, error) {
	const first, last, tries = 10_000, 30_000, 100
	for range tries {
		at := netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 0, 1}), uint16(first+rand.IntN(last-first)))
		l, err := net.Listen("tcp", at.String()) //nolint:noctx // it is there at once
		if err == nil {
			p.held = append(p.held, l)
			return at, nil
		}
	}
	return netip.AddrPort{}, fmt.Errorf("%d ports between %d and %d of 127.0.0.1 were tried, and none is free", tries, first, last)
}

func (p *ports) release() {
	for _, l := range p.held {
		_ = l.Close()
	}
	p.held = nil
}
