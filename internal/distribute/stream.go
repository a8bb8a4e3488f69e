// SPDX-License-Identifier: Apache-2.0

package distribute

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"

	"connectrpc.com/connect"

	"github.com/heddle-mesh/heddle/internal/controlapi"
	"github.com/heddle-mesh/heddle/internal/meshconfig"
)

// unblockAfter is how long a stream that must end may still be stuck in sending: its far end does not read.
const unblockAfter = 5 * time.Second

// stream is one proxy's or replica's stream.
type stream struct {
	server    *server
	conn      *bidi
	transport transport
	caller    caller
	watcher   *watcher
	owner     uint64          // to the tracker
	ctx       context.Context //nolint:containedctx // a stream is no longer than its context
	cancel    context.CancelCauseFunc

	uid    string // of a proxy's pod
	pod    Pod
	hinted map[meshconfig.Name]struct{}

	subscriptions, complaints budget
}

func newStream(ctx context.Context, s *server, t transport, conn *bidi, who caller) *stream {
	st := &stream{
		server: s, conn: conn, transport: t, caller: who,
		watcher:       newWatcher(s.node.hub, who.replica),
		owner:         s.node.tracker.newOwner(),
		subscriptions: budget{burst: maxSubscriptions, perSecond: 1000},
		complaints:    budget{burst: 10, perSecond: 1},
	}
	st.ctx, st.cancel = context.WithCancelCause(ctx)
	return st
}

func (st *stream) greetReplica() error {
	if st.server.node.leader() == nil {
		return refuse(RefusedNotLeader, connect.CodeUnavailable, "this replica does not lead")
	}
	return nil
}

func (st *stream) greetProxy(hello *controlapi.Hello) error {
	uid := hello.GetPodUid()
	if len(uid) > 64 {
		return refuse(RefusedProtocol, connect.CodeInvalidArgument, "pod UID of %d bytes", len(uid))
	}
	pod, ok := st.server.node.opts.Pods(uid)
	if !ok {
		return refuse(RefusedPod, connect.CodeNotFound, "%q is not the UID of a live injected pod", uid)
	}
	if pod.ID != st.caller.id {
		return refuse(RefusedIdentity, connect.CodePermissionDenied, "pod %s does not run as %s", uid, st.caller.id)
	}
	st.uid, st.pod = uid, pod
	st.server.node.tracker.connect(st.owner, uid, hello.GetSession())
	return nil
}

// run serves the stream until an end of it ends it.
func (st *stream) run() error {
	defer st.cancel(nil)
	if err := st.server.add(st); err != nil {
		st.leave()
		return err
	}
	defer st.leave()
	defer st.server.remove(st)
	// Between the check of the role and add, the role may have changed.
	if st.caller.replica && st.server.node.leader() == nil {
		return errDemoted
	}
	if err := st.conn.Send(&controlapi.StreamResponse{Message: &controlapi.StreamResponse_Hint{Hint: st.hint()}}); err != nil {
		return err
	}
	var wg sync.WaitGroup
	wg.Go(func() { st.cancel(st.receive()) })
	unblock := st.unblockLater()
	st.send()
	unblock()
	// Receive returns only when the far end sends or ends, or when the body's deadline has passed.
	_ = st.transport.deadline.SetReadDeadline(time.Unix(1, 0))
	wg.Wait()
	if err := context.Cause(st.ctx); !errors.Is(err, io.EOF) && !errors.Is(err, context.Canceled) {
		return err
	}
	return nil
}

// leave tells those who follow the stream that it is over.
func (st *stream) leave() {
	st.watcher.close()
	if st.caller.replica {
		st.server.node.tracker.lose(st.owner, st.server.node.opts.Clock())
	} else {
		st.server.node.tracker.disconnect(st.owner, st.uid)
	}
}

// unblockLater resets the stream if it is to end and still sends a while later. What it returns ends that.
func (st *stream) unblockLater() (stop func()) {
	done := make(chan struct{})
	var wg sync.WaitGroup
	wg.Add(1)
	never := context.AfterFunc(st.ctx, func() {
		defer wg.Done()
		timer := time.NewTimer(unblockAfter)
		defer timer.Stop()
		select {
		case <-done:
		case <-timer.C:
			_ = st.transport.deadline.SetWriteDeadline(time.Unix(1, 0))
		}
	})
	return func() {
		close(done)
		if never() {
			wg.Done()
		}
		wg.Wait()
	}
}

// send sends what changed, until the stream ends.
func (st *stream) send() {
	terminating := st.pod.Terminating
	for {
		select {
		case <-st.ctx.Done():
			return
		case <-st.pod.Gone:
			st.cancel(errGone)
		case <-terminating:
			terminating = nil
			st.say(&controlapi.StreamResponse{
				Message: &controlapi.StreamResponse_Terminating{Terminating: &controlapi.Terminating{}},
			})
		case <-st.watcher.wake:
			st.sendDue()
		}
	}
}

func (st *stream) sendDue() {
	for _, name := range st.watcher.take() {
		if st.ctx.Err() != nil {
			return
		}
		e := st.watcher.due(name)
		if e == nil {
			continue
		}
		// Counted before, so that what has been acked has been counted.
		st.server.node.counters.update(func(c *Counters) { c.Sent[name.Kind()]++ })
		st.say(&controlapi.StreamResponse{Message: &controlapi.StreamResponse_Envelope{Envelope: e.Envelope}})
	}
}

func (st *stream) say(m *controlapi.StreamResponse) {
	if err := st.conn.Send(m); err != nil {
		st.cancel(fmt.Errorf("send: %w", err))
	}
}

// hint returns what other pods of the identity use, and remembers it.
func (st *stream) hint() *controlapi.Hint {
	if st.caller.replica {
		return &controlapi.Hint{}
	}
	names := st.server.hints.of(st.caller.id, func(name meshconfig.Name) bool {
		_, entries := st.server.node.hub.watched(name)
		for _, e := range entries {
			if !e.Tombstone {
				return true
			}
		}
		return len(entries) == 0
	})
	st.hinted = make(map[meshconfig.Name]struct{}, len(names))
	for _, name := range names {
		st.hinted[meshconfig.Name(name)] = struct{}{}
	}
	return &controlapi.Hint{Names: names}
}
