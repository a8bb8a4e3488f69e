// SPDX-License-Identifier: Apache-2.0

package sandbox

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
)

// pollEvery is how often the files are looked at. What was written to is read when it has not been for that long: editors
// and shells leave files empty on the way.
const pollEvery = 25 * time.Millisecond

// runner is a sandbox that runs.
type runner struct {
	options *Options
	control *control
	files   *files
	world   *world
	planner *planner
	starter *starter
	dir     string // of the proxies
	out     *locked
	log     *locked

	processes map[string]*process // by side
	exits     chan *process
	over      chan struct{}
	waiting   sync.WaitGroup
	notes     map[string]bool   // that were printed
	from      map[string]string // the file of each object
	reporter  *reporter
	seen      map[string]stamp // at the last look
	read      map[string]stamp // what is read
	problem   string           // of the last look
}

// Run runs the mesh until the context ends.
func Run(ctx context.Context, o Options) error {
	wishes, err := o.wishes()
	if err != nil {
		return err
	}
	r := &runner{
		options: &o, world: newWorld(), planner: newPlanner(&o, wishes),
		out: &locked{out: bufio.NewWriter(o.Stdout)}, log: &locked{out: bufio.NewWriter(o.Stderr)},
		processes: make(map[string]*process), exits: make(chan *process, 64), over: make(chan struct{}), notes: make(map[string]bool),
	}
	if r.files, err = newFiles(o.Paths); err != nil {
		return err
	}
	if r.control, err = newControl(ctx, &o); err != nil {
		return err
	}
	if r.dir, err = os.MkdirTemp("", "heddle-sandbox-"); err != nil {
		return err
	}
	defer os.RemoveAll(r.dir)
	r.reporter = newReporter(r.control, r.out)

	outer := ctx
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var serving sync.WaitGroup
	defer serving.Wait()
	// The operator outlives the proxies.
	operating, stop := context.WithCancel(context.WithoutCancel(ctx))
	defer stop()
	listening := make(chan struct{})
	serving.Go(func() {
		if err := r.control.run(operating, listening); err != nil {
			cancel(err)
		}
	})
	select {
	case <-listening:
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	r.starter = newStarter()
	defer r.starter.stop()
	defer r.end()
	if err := r.run(ctx); outer.Err() == nil {
		return err
	}
	return nil // it was told to end
}

// run starts what the files say and follows them.
func (r *runner) run(ctx context.Context) error {
	stamps, err := r.files.stamps()
	if err != nil {
		return err
	}
	if err := errors.Join(r.files.read(stamps)...); err != nil {
		return err // there is no last good yet
	}
	if err := r.apply(ctx); err != nil {
		return err
	}
	r.out.printf("ready")
	r.seen, r.read = stamps, stamps
	tick := time.NewTicker(pollEvery)
	defer tick.Stop()
	for {
		r.reporter.report(r.from, r.options.Clock())
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case p := <-r.exits:
			if !p.asked {
				return fmt.Errorf("the proxy of %s, pid %d, ended: %w", p.title(), p.cmd.Process.Pid, errors.Join(p.err, errEnded))
			}
		case <-r.control.node.Changed():
			r.reporter.changed = true
		case <-tick.C:
			r.look(ctx)
		}
	}
}

// look reads the files if they were written to, and not since the last look.
func (r *runner) look(ctx context.Context) {
	now, err := r.files.stamps()
	if err != nil {
		if problem := err.Error(); problem != r.problem {
			r.problem = problem
			r.complain(fmt.Errorf("%w; all stays in force", err))
		}
		return
	}
	r.problem = ""
	quiet := maps.Equal(now, r.seen)
	r.seen = now
	if !quiet || maps.Equal(now, r.read) {
		return
	}
	r.read = now
	for _, err := range r.files.read(now) {
		r.complain(fmt.Errorf("%w; what was good of the file stays in force", err))
	}
	if err := r.apply(ctx); err != nil && ctx.Err() == nil {
		r.complain(err)
	}
}

func (r *runner) complain(err error) { r.log.printf("heddle sandbox: %v", err) }

// apply puts the objects of the files in force.
func (r *runner) apply(ctx context.Context) error {
	objects, from := r.files.objects()
	r.from = from
	c := r.world.complete(objects)
	for _, note := range c.notes {
		if !r.notes[note] {
			r.notes[note] = true
			r.complain(errors.New(note))
		}
	}
	sides, err := r.planner.plan(c)
	if err != nil {
		return err
	}
	all := c.objects()
	for _, pod := range callers(sides) {
		all = append(all, pod)
	}
	if r.control.cluster.replace(all) {
		r.reporter.changed = true
		if err := r.control.publish(ctx); err != nil {
			return err
		}
	}
	return r.reconcile(ctx, sides)
}

// reconcile ends the proxies that should not run, starts those that should, and waits until they can carry traffic.
func (r *runner) reconcile(ctx context.Context, sides []*side) error {
	wanted := make(map[string]*side, len(sides))
	for _, s := range sides {
		wanted[s.name] = s
	}
	var old []*process
	for name, p := range r.processes {
		if s := wanted[name]; s == nil || !s.equal(p.side) {
			old = append(old, p)
			delete(r.processes, name)
		}
	}
	r.retire(old)
	var started []*process
	for _, s := range sides {
		if r.processes[s.name] != nil {
			continue
		}
		pod := &corev1.Pod{}
		if err := r.control.cluster.Get(ctx, s.pod, pod); err != nil {
			return err
		}
		p, err := r.launch(s, string(pod.UID), r.control.tokens.give(pod))
		if err != nil {
			return err
		}
		r.processes[s.name] = p
		started = append(started, p)
	}
	for _, p := range started {
		if err := p.awaitReady(ctx); err != nil {
			return fmt.Errorf("%s: %w", p.title(), err)
		}
		r.announce(p)
	}
	return nil
}

// announce prints what listens where.
func (r *runner) announce(p *process) {
	for _, l := range p.listen {
		kind, what := "server", "endpoint"
		if p.client {
			kind, what = "client", "service"
		}
		r.out.printf("%s %s=%s listen=%s of=%s identity=spiffe://%s/ns/%s/sa/%s admin=%s pid=%d dir=%s",
			kind, what, l.label, l.listen, p.service, r.options.TrustDomain, p.pod.Namespace, p.account, p.admin, p.cmd.Process.Pid, p.dir)
	}
}

// retire ends proxies that are not wanted any more.
func (r *runner) retire(processes []*process) {
	end(processes)
	for _, p := range processes {
		r.control.tokens.take(p.token)
	}
}

// end ends all: the client sides first, so that what they carry can finish.
func (r *runner) end() {
	var clients, servers []*process
	for _, p := range r.processes {
		if p.client {
			clients = append(clients, p)
		} else {
			servers = append(servers, p)
		}
	}
	close(r.over)
	end(clients)
	end(servers)
	r.waiting.Wait()
}
