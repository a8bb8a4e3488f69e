// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"strings"
	"sync"
	"time"

	"github.com/go-logr/logr"

	"github.com/heddle-mesh/heddle/proxy/admin"
	"github.com/heddle-mesh/heddle/proxy/listener"
	"github.com/heddle-mesh/heddle/proxy/observe"
)

// finishWait is how long what still runs at SIGTERM may go on. The kubelet sends it to a sidecar when the pod's other
// containers have ended, so there is hardly anything left to wait for.
const finishWait = 5 * time.Second

// carry is `heddle-proxy` without a command. The access log goes to stdout, the proxy's own log to stderr.
func carry(ctx context.Context, args []string, getenv func(string) string, stdout, stderr io.Writer) error {
	list := getenv(envLimits)
	fixed, err := parseFixed(args, &list, stderr)
	if err != nil {
		return err
	}
	c, err := readConfig(func(variable string) string {
		if variable == envLimits {
			return list
		}
		return getenv(variable)
	})
	if err != nil {
		return err
	}
	c.fixed = fixed
	log := logr.FromSlogHandler(slog.NewJSONHandler(stderr, &slog.HandlerOptions{Level: c.logLevel}))
	p, err := newProxy(c, log, stdout) //nolint:contextcheck // what it makes ends by draining, after ctx
	if err != nil {
		return err
	}
	return p.run(ctx)
}

// ports that are open. Those of the redirect and fixed ones exclude each other.
type openPorts struct {
	outbound, inbound, admin, socket net.Listener
	fixed                            []fixedListener
}

func (o *openPorts) close() {
	all := []net.Listener{o.outbound, o.inbound, o.admin, o.socket}
	for _, l := range o.fixed {
		all = append(all, l.listener)
	}
	for _, l := range all {
		if l != nil {
			_ = l.Close()
		}
	}
}

func (p *proxy) open(ctx context.Context) (*openPorts, error) {
	o := &openPorts{}
	var errs [4]error
	if fixed := p.config.fixed; fixed != nil {
		o.fixed, errs[0] = fixed.open(ctx)
		o.admin, errs[1] = listenOn(ctx, fixed.admin)
	} else {
		o.outbound, errs[0] = listener.Listen(ctx, p.config.ports.outbound)
		o.inbound, errs[1] = listener.Listen(ctx, p.config.ports.inbound)
		o.admin, errs[2] = listener.Listen(ctx, p.config.ports.admin)
	}
	o.socket, errs[3] = admin.ListenSocket(ctx, p.config.stateDir+"/admin.sock")
	if err := errors.Join(errs[:]...); err != nil {
		o.close()
		return nil, err
	}
	return o, nil
}

// run carries traffic until ctx ends, and then until what runs has ended.
func (p *proxy) run(ctx context.Context) error {
	ports, err := p.open(ctx)
	if err != nil {
		return err
	}
	defer ports.close()
	return p.carry(ctx, ports)
}

// carry is run with ports that are open.
func (p *proxy) carry(ctx context.Context, ports *openPorts) error {
	// The log outlives what it is about.
	logCtx, stopLog := context.WithCancel(context.WithoutCancel(ctx))
	var logging sync.WaitGroup
	logging.Go(func() { p.accessLog.Run(logCtx) })
	defer logging.Wait()
	defer stopLog()

	// What carries traffic ends only after it has drained.
	work, stop := context.WithCancelCause(context.WithoutCancel(ctx))
	var running sync.WaitGroup
	start := func(f func(context.Context) error) {
		running.Go(func() {
			if err := f(work); err != nil {
				stop(err)
			}
		})
	}
	start(newTidier().run)
	start(p.agent.Run)
	start(func(ctx context.Context) error { p.tables.Run(ctx, p.agent); return nil })
	for _, l := range p.listeners(ports) {
		start(l.Run)
	}
	start(func(ctx context.Context) error { return p.server.Serve(ctx, ports.admin) })
	start(func(ctx context.Context) error { return p.socket.Serve(ctx, ports.socket) })
	p.log.Info("Carrying traffic", "version", version, "identity", p.config.identity.String(), "pod", p.config.podName,
		"node", p.config.nodeName, "listeners", ports.String(), "maxConnections", p.maxConnections, "memory", p.budget.Most())

	select {
	case <-ctx.Done():
		p.finish(work)
	case <-work.Done():
	}
	stop(nil)
	running.Wait()
	p.callees.Close()
	p.applications.Close()
	if err := context.Cause(work); !errors.Is(err, context.Canceled) {
		return err
	}
	p.log.Info("Ended")
	return nil
}

// listeners makes the accept loops.
func (p *proxy) listeners(ports *openPorts) []*listener.Listener {
	if ports.outbound == nil {
		return p.fixedListeners(ports.fixed)
	}
	return []*listener.Listener{
		listener.New(ports.outbound, p.listenerOptions(observe.Outbound)),
		listener.New(ports.inbound, p.listenerOptions(observe.Inbound)),
	}
}

// String says where connections are taken, for the log.
func (o *openPorts) String() string {
	if o.outbound != nil {
		return fmt.Sprintf("outbound %v, inbound %v", o.outbound.Addr(), o.inbound.Addr())
	}
	var all []string
	for _, l := range o.fixed {
		all = append(all, fmt.Sprintf("%v %v for %v", l.direction, l.listener.Addr(), l.destination))
	}
	return strings.Join(all, ", ")
}

// finish ends what runs.
func (p *proxy) finish(work context.Context) {
	p.beginDrain("the proxy is told to end")
	ctx, cancel := context.WithTimeout(work, finishWait)
	defer cancel()
	if err := p.drain.Finish(ctx); err != nil {
		p.log.Info("Cut what had not ended in time", "wait", finishWait.String(), "err", err.Error())
	}
}
