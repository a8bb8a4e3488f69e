// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"connectrpc.com/connect"

	"github.com/heddle-mesh/heddle/internal/controlapi"
	"github.com/heddle-mesh/heddle/internal/meshconfig"
)

const (
	// acceptTimeout bounds the time to the operator's first answer.
	acceptTimeout = 10 * time.Second
	// settled is how long a stream must last for the next to be tried at once.
	settled = 5 * time.Second
	// namesPerMessage keeps a list of names well below the size of a message.
	namesPerMessage = 500
)

// follow keeps a stream to the operator, from the first certificate until the context ends.
func (a *Agent) follow(ctx context.Context) {
	pause := controlapi.Backoff{Min: 100 * time.Millisecond, Max: 5 * time.Second}
	for {
		certificate := a.identity.await(ctx)
		if certificate == nil {
			return
		}
		begun := time.Now()
		err := a.stream(ctx, certificate)
		if ctx.Err() != nil {
			return
		}
		a.status.disconnected(err)
		if connect.CodeOf(err) == connect.CodeUnauthenticated {
			a.identity.refused()
		}
		if time.Since(begun) >= settled {
			pause.Reset()
		}
		wait := pause.Next()
		a.opts.Log.Info("the stream from the operator ended; what is in force stays", "error", err.Error(), "retryAfter", wait.String())
		timer := time.NewTimer(wait)
		select {
		case <-ctx.Done():
			timer.Stop()
			return
		case <-timer.C:
		}
	}
}

// endpoint is the operator, with or without a certificate of our own.
func (a *Agent) endpoint(certificate *tls.Certificate) controlapi.Endpoint {
	return controlapi.Endpoint{
		Address: a.opts.ControlAddress, ServerName: a.opts.ControlServerName, Roots: a.operatorRoots.get(),
		Certificate: certificate, Time: a.opts.Clock,
	}
}

// stream follows one stream to its end.
func (a *Agent) stream(ctx context.Context, certificate *tls.Certificate) error {
	client := a.endpoint(certificate).Client()
	defer client.Close()
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	timeout := time.AfterFunc(acceptTimeout, func() { cancel(errors.New("the operator does not answer")) })
	defer timeout.Stop()
	l := &line{agent: a, conn: client.Config().Stream(ctx), told: make(map[meshconfig.Name]*subscription)}
	if err := l.conn.Send(a.hello()); err != nil {
		return l.failure(ctx, err)
	}
	first, err := l.conn.Receive() // a hint: we are accepted
	if err != nil {
		return because(ctx, err)
	}
	timeout.Stop()
	a.holdings.newStream()
	a.outbox.open(true)
	defer a.outbox.open(false)
	a.status.connect()
	a.identity.accepted()
	a.opts.Log.Info("connected to the operator", "address", a.opts.ControlAddress)
	var wg sync.WaitGroup
	defer wg.Wait()
	defer func() { cancel(nil); client.Close() }()
	wg.Go(func() { cancel(l.receive(first)) })
	return l.send(ctx)
}

func (a *Agent) hello() *controlapi.StreamRequest {
	a.turn.Lock()
	defer a.turn.Unlock()
	a.session = max(a.session+1, uint64(max(0, a.opts.Clock().UnixMilli()))) //nolint:gosec // not negative
	return &controlapi.StreamRequest{Message: &controlapi.StreamRequest_Hello{
		Hello: &controlapi.Hello{PodUid: a.opts.PodUID, Version: a.opts.Version, Session: a.session},
	}}
}

// because returns why the context ended, if it did, and err otherwise.
func because(ctx context.Context, err error) error {
	if c := context.Cause(ctx); c != nil {
		return c
	}
	return err
}

// line is one open stream.
type line struct {
	agent *Agent
	conn  *connect.BidiStreamForClient[controlapi.StreamRequest, controlapi.StreamResponse]
	told  map[meshconfig.Name]*subscription // what the operator was told of
}

// failure returns what the operator said when sending failed: Send itself says no more than that it ended.
func (l *line) failure(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return because(ctx, err)
	}
	if _, said := l.conn.Receive(); said != nil {
		return said
	}
	return err
}

// receive takes what the operator sends until the stream ends.
func (l *line) receive(m *controlapi.StreamResponse) error {
	a := l.agent
	for {
		switch m := m.GetMessage().(type) {
		case *controlapi.StreamResponse_Envelope:
			a.take(m.Envelope)
		case *controlapi.StreamResponse_Hint:
			a.hinted(m.Hint.GetNames())
		case *controlapi.StreamResponse_Terminating:
			a.terminated.Do(a.opts.Terminating)
		}
		var err error
		if m, err = l.conn.Receive(); err != nil {
			return fmt.Errorf("receive: %w", err)
		}
	}
}

// hinted asks for what other pods of this identity use.
func (a *Agent) hinted(names []string) {
	for _, s := range names[:min(len(names), maxHints)] {
		name, err := meshconfig.ParseName(s)
		if err != nil || name != name.Subscription() {
			continue
		}
		switch name.Kind() {
		case meshconfig.KindAddress, meshconfig.KindRoutes, meshconfig.KindEndpoints:
			a.holdings.prefetch(name)
		default: // not a name that a workload dials
		}
	}
}

// maxHints bounds the names of a hint that are asked for.
const maxHints = 256

// send tells all subscriptions, then what changes, until the stream ends.
func (l *line) send(ctx context.Context) error {
	err := l.tell(l.agent.holdings.subscriptions())
	for err == nil {
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-l.agent.outbox.wake:
		}
		subs, words := l.agent.outbox.take()
		if err = l.tell(subs); err != nil {
			break
		}
		for _, m := range words {
			if err = l.conn.Send(m); err != nil {
				break
			}
		}
	}
	return because(ctx, err)
}

// tell brings the operator up to date about subscriptions.
func (l *line) tell(names []meshconfig.Name) error {
	var begun []*controlapi.Subscription
	var ended []string
	slices.Sort(names)
	for _, name := range names {
		s, m := l.agent.holdings.message(name)
		switch {
		case s == nil && l.told[name] != nil:
			delete(l.told, name)
			ended = append(ended, string(name))
		case s != nil && l.told[name] != s:
			l.told[name] = s
			begun = append(begun, m)
		}
	}
	for part := range slices.Chunk(ended, namesPerMessage) {
		if err := l.conn.Send(&controlapi.StreamRequest{Message: &controlapi.StreamRequest_Unsubscribe{
			Unsubscribe: &controlapi.Unsubscribe{Names: part},
		}}); err != nil {
			return err
		}
	}
	for _, part := range controlapi.Chunks(begun) {
		if err := l.conn.Send(&controlapi.StreamRequest{Message: &controlapi.StreamRequest_Subscribe{
			Subscribe: &controlapi.Subscribe{Subscriptions: part},
		}}); err != nil {
			return err
		}
	}
	return nil
}
