// SPDX-License-Identifier: Apache-2.0

package sandbox

import (
	"errors"
	"fmt"
	"io"
	"net/netip"
	"strings"
	"time"

	"github.com/go-logr/logr"

	"github.com/heddle-mesh/heddle/internal/identity"
)

// Options are what `heddle sandbox` was told. Paths, Proxy, TrustDomain, Clock, Stdout and Stderr are required.
type Options struct {
	Paths []string // of files and directories with objects

	Listen  []string // SERVICE=ADDR
	Inbound []string // ENDPOINT=ADDR
	Callers []string // SERVICE=NAMESPACE/SERVICEACCOUNT
	Admin   []string // SERVICE=ADDR or ENDPOINT=ADDR

	InboundOnly, OutboundOnly bool

	PKI          string // directory of the workload CA; none: in memory
	TrustDomain  string
	LeafDuration time.Duration // 0: as the operator's

	Proxy     string   // path of the binary
	ProxyArgs []string // more arguments of each
	ProxyEnv  []string // NAME=VALUE, on top of this process's environment
	Version   string

	Stdout, Stderr io.Writer
	Log            logr.Logger // of the operator's parts
	Clock          func() time.Time
}

// wishes are the addresses and identities of Options.
type wishes struct {
	listen  []listenWish
	inbound map[netip.AddrPort]netip.AddrPort // by endpoint
	callers map[string]identity.ID            // by service as it was written
	admin   map[string]netip.AddrPort         // by service or endpoint as it was written
}

// listenWish is one --listen.
type listenWish struct {
	service string // name or name.namespace
	port    string // number or name; "": the only one
	address netip.AddrPort
}

func (o *Options) wishes() (*wishes, error) {
	w := &wishes{
		inbound: make(map[netip.AddrPort]netip.AddrPort), callers: make(map[string]identity.ID), admin: make(map[string]netip.AddrPort),
	}
	var errs []error
	note := func(flag, value, want string, err error) {
		if err != nil {
			errs = append(errs, fmt.Errorf("--%s %s: want %s: %w", flag, value, want, err))
		}
	}
	for _, value := range o.Listen {
		name, address, err := parseAt(value)
		service, port, _ := strings.Cut(name, ":")
		w.listen = append(w.listen, listenWish{service, port, address})
		note("listen", value, "SERVICE[:PORT]=IP:PORT", err)
	}
	for _, value := range o.Inbound {
		name, address, err := parseAt(value)
		at, errEndpoint := netip.ParseAddrPort(name)
		w.inbound[at] = address
		note("inbound", value, "ENDPOINT=IP:PORT, with the endpoint's IP:PORT", errors.Join(err, errEndpoint))
	}
	for _, value := range o.Callers {
		service, who, _ := strings.Cut(value, "=")
		namespace, account, _ := strings.Cut(who, "/")
		id := identity.ID{TrustDomain: o.TrustDomain, Namespace: namespace, ServiceAccount: account}
		w.callers[service] = id
		note("caller", value, "SERVICE=NAMESPACE/SERVICEACCOUNT", id.Validate())
	}
	for _, value := range o.Admin {
		name, address, err := parseAt(value)
		w.admin[name] = address
		note("admin", value, "SERVICE=IP:PORT or ENDPOINT=IP:PORT", err)
	}
	switch {
	case o.InboundOnly && o.OutboundOnly:
		errs = append(errs, errors.New("--inbound-only and --outbound-only: want one of them at most"))
	case o.InboundOnly && len(o.Listen)+len(o.Callers) > 0:
		errs = append(errs, errors.New("--listen and --caller are about the client side, which --inbound-only leaves out"))
	case o.OutboundOnly && len(o.Inbound) > 0:
		errs = append(errs, errors.New("--inbound is about the server side, which --outbound-only leaves out"))
	}
	return w, errors.Join(errs...)
}

// parseAt reads "NAME=IP:PORT".
func parseAt(value string) (name string, at netip.AddrPort, err error) {
	i := strings.LastIndex(value, "=")
	if i < 1 {
		return "", at, errors.New("there is no =")
	}
	at, err = netip.ParseAddrPort(value[i+1:])
	return value[:i], at, err
}
