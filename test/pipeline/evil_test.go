// SPDX-License-Identifier: Apache-2.0

package pipeline

import (
	"context"
	"sync"
	"time"

	"connectrpc.com/connect"
	"google.golang.org/protobuf/proto"

	"github.com/heddle-mesh/heddle/internal/controlapi"
	"github.com/heddle-mesh/heddle/internal/meshconfig"
	"github.com/heddle-mesh/heddle/internal/signedconfig"
)

// evil is a server that has taken over the control server's TLS identity, but not the config signer: it sends whatever it
// is told to, and remembers what it hears.
type evil struct {
	mesh    *mesh
	address string

	mu      sync.Mutex
	streams map[string]*evilStream // by pod UID; "" is a replica's
}

type evilStream struct {
	send  chan []byte
	nacks chan *controlapi.Nack
}

func (m *mesh) evil() *evil {
	m.Helper()
	e := &evil{mesh: m, streams: make(map[string]*evilStream)}
	path, handler := controlapi.NewConfigServiceHandler(e)
	address, stop := m.serve(path, handler)
	m.Cleanup(stop)
	e.address = address
	return e
}

// Stream implements controlapi.ConfigServiceHandler.
func (e *evil) Stream(ctx context.Context, s *connect.BidiStream[controlapi.StreamRequest, controlapi.StreamResponse]) error {
	hello, err := s.Receive()
	if err != nil {
		return err
	}
	if err := s.Send(&controlapi.StreamResponse{Message: &controlapi.StreamResponse_Hint{Hint: &controlapi.Hint{}}}); err != nil {
		return err
	}
	stream := &evilStream{send: make(chan []byte), nacks: make(chan *controlapi.Nack, 100)}
	e.mu.Lock()
	e.streams[hello.GetHello().GetPodUid()] = stream
	e.mu.Unlock()
	go func() { // it ends with the stream
		for {
			m, err := s.Receive()
			if err != nil {
				return
			}
			if nack := m.GetNack(); nack != nil {
				select {
				case stream.nacks <- nack:
				default:
				}
			}
		}
	}()
	for {
		select {
		case <-ctx.Done():
			return nil
		case data := <-stream.send:
			if err := s.Send(&controlapi.StreamResponse{Message: &controlapi.StreamResponse_Envelope{Envelope: data}}); err != nil {
				return err
			}
		}
	}
}

// connected waits for the stream of a pod, or of a replica for "".
func (e *evil) connected(uid string) *evilStream {
	e.mesh.Helper()
	var s *evilStream
	await(e.mesh, "a stream to the evil server", func() bool {
		e.mu.Lock()
		defer e.mu.Unlock()
		s = e.streams[uid]
		return s != nil
	})
	return s
}

// nack waits for a nack.
func (s *evilStream) nack(m *mesh) *controlapi.Nack {
	m.Helper()
	timer := time.NewTimer(patience)
	defer timer.Stop()
	select {
	case n := <-s.nacks:
		return n
	case <-timer.C:
		m.Fatal("in vain: a nack")
		return nil
	}
}

// statement is a sound statement about a section, with a serial that is above all others. nil is a tombstone.
func statement(name meshconfig.Name, message proto.Message) *signedconfig.Statement {
	st := &signedconfig.Statement{
		Section: string(name), MeshID: meshID, Audience: signedconfig.AudienceMesh, IssuedAt: time.Now(),
		Serial: signedconfig.Serial{Term: 1000, Counter: 1}, PayloadType: meshconfig.PayloadType(name.Kind()),
	}
	if name.Kind() == meshconfig.KindBinding {
		st.Audience = signedconfig.AudiencePod(name.Subject())
	}
	if message == nil {
		st.Tombstone = true
	} else {
		st.Payload = meshconfig.Encode(message)
	}
	return st
}

func (m *mesh) sign(by *signedconfig.Signer, st *signedconfig.Statement) []byte {
	m.Helper()
	data, err := by.Sign(st)
	check(m, err)
	return data
}
