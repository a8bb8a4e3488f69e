// SPDX-License-Identifier: Apache-2.0

package distribute

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/go-logr/logr"
	"google.golang.org/protobuf/proto"

	"github.com/heddle-mesh/heddle/internal/meshconfig"
	"github.com/heddle-mesh/heddle/internal/signedconfig"
)

// HeartbeatInterval is how often the heartbeat section is signed.
const HeartbeatInterval = time.Minute

// maxAsked bounds what is remembered of what proxies hold before the first Publish.
const maxAsked = 100_000

// Errors of Publish.
var (
	// ErrNotLeader says that the publisher is not, or no longer, the one of its node.
	ErrNotLeader = errors.New("this replica does not lead")
	// ErrFenced says that a leader of a later term has published: this one must stop.
	ErrFenced = errors.New("a leader of a later term has published")
)

// Signer signs statements; *signedconfig.Signer does.
type Signer interface {
	Sign(st *signedconfig.Statement) ([]byte, error)
}

// PublisherOptions are what a leader begins its term with. All but Epoch, Clock and Log are required.
type PublisherOptions struct {
	MeshID string
	Epoch  uint32
	Term   uint64 // leaseTransitions of the Lease, read after it was acquired
	Signer Signer
	// Resolve returns the message of an on-demand section (kind address), as of what was last published. It is total.
	Resolve func(name meshconfig.Name) proto.Message
	Clock   func() time.Time
	Log     logr.Logger
}

// Publisher signs what changed and puts it into the hub of the node that it leads (Node.SetLeader). A publisher serves
// one term.
type Publisher struct {
	opts PublisherOptions

	mu       sync.Mutex
	hub      *Hub // nil: not the leader
	counters *counters
	signer   Signer
	renewals int // of the signer
	counter  uint64
	known    map[meshconfig.Name]*published
	demand   map[meshconfig.Name]struct{} // of known: on demand
	failed   map[meshconfig.Name]error    // why a section is not what it should be: absent or of an older version
	asked    map[meshconfig.Name]struct{} // before the first Publish
	synced   bool
}

// published is what was last signed of a section.
type published struct {
	message  proto.Message
	digest   [32]byte
	renewals int
}

// NewPublisher returns a publisher for one term of leading.
func NewPublisher(opts PublisherOptions) *Publisher {
	if opts.Clock == nil {
		opts.Clock = time.Now
	}
	return &Publisher{
		opts: opts, signer: opts.Signer,
		known:  make(map[meshconfig.Name]*published),
		demand: make(map[meshconfig.Name]struct{}),
		failed: make(map[meshconfig.Name]error),
		asked:  make(map[meshconfig.Name]struct{}),
	}
}

// Publish makes sections the whole of what there is, on-demand sections and the heartbeat apart. It signs what changed
// since the last call and tombstones what vanished. A message that is the same pointer as in the last call is taken as
// unchanged: messages must not be modified. A section that cannot be signed keeps its last version and is part of the
// error; the others are published all the same.
//
// The first call of a term must be made from a consistent read of the cluster: what it lacks is tombstoned.
func (p *Publisher) Publish(sections map[meshconfig.Name]proto.Message) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.hub == nil {
		return ErrNotLeader
	}
	var changed []meshconfig.Name
	for name, m := range sections {
		if old := p.known[name]; old == nil || old.message != m || old.renewals != p.renewals || p.failed[name] != nil {
			changed = append(changed, name)
		}
	}
	slices.SortFunc(changed, func(a, b meshconfig.Name) int { return cmp.Or(cmp.Compare(rank(a), rank(b)), cmp.Compare(a, b)) })
	var errs []error
	for _, name := range changed {
		p.counters.update(func(c *Counters) { c.Encoded++ })
		errs = append(errs, p.publish(name, sections[name]))
	}
	errs = append(errs, p.bury(sections))
	for name := range p.demand {
		errs = append(errs, p.evaluate(name))
	}
	if !p.synced {
		p.synced = true
		errs = append(errs, p.beat(), p.answerAll())
	}
	return errors.Join(errs...)
}

// SetSigner replaces the signer, after its certificate was renewed, and signs everything anew. Contents and digests stay,
// so that proxies are sent nothing; replicas are.
func (p *Publisher) SetSigner(s Signer) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.signer = s
	p.renewals++
	if p.hub == nil || !p.synced {
		return nil
	}
	var errs []error
	for name, k := range p.known {
		why := p.failed[name]
		errs = append(errs, p.publish(name, k.message))
		if why != nil {
			p.failed[name] = why // what was signed anew is still the older version
		}
	}
	var tombstones []meshconfig.Name
	p.hub.each(func(e *Entry) {
		if e.Tombstone {
			tombstones = append(tombstones, e.Name)
		}
	})
	for _, name := range tombstones {
		errs = append(errs, p.tombstone(name))
	}
	return errors.Join(append(errs, p.beat())...)
}

// Term returns epoch and term of all that the publisher signs.
func (p *Publisher) Term() signedconfig.Serial {
	return signedconfig.Serial{Epoch: p.opts.Epoch, Term: p.opts.Term}
}

// unpublished returns why those of sections are not published that should be; each error names its section. A nil
// publisher, which is that of a relay, knows of none.
func (p *Publisher) unpublished(names []meshconfig.Name) map[meshconfig.Name]error {
	if p == nil {
		return nil
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	out := make(map[meshconfig.Name]error)
	for _, name := range names {
		if why := p.failed[name]; why != nil {
			out[name] = why
		}
	}
	return out
}

// bind gives the publisher its hub; nil takes it away.
func (p *Publisher) bind(h *Hub, c *counters) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.hub, p.counters = h, c
}

// run signs the heartbeat until the context ends.
func (p *Publisher) run(ctx context.Context) {
	tick := time.NewTicker(HeartbeatInterval)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		p.mu.Lock()
		var err error
		if p.hub != nil && p.synced {
			err = p.beat()
		}
		p.mu.Unlock()
		if err != nil {
			p.opts.Log.Error(err, "the heartbeat was not signed; proxies will report that their config is old")
		}
	}
}

// publish signs a section if its content changed, or its signer. Callers hold p.mu.
func (p *Publisher) publish(name meshconfig.Name, m proto.Message) error {
	st := p.statement(name)
	st.Payload = meshconfig.Encode(m)
	digest := st.Digest()
	if old := p.known[name]; old != nil && old.digest == digest && old.renewals == p.renewals {
		old.message = m
		delete(p.failed, name)
		return nil
	}
	err := meshconfig.Validate(name, m)
	if err == nil {
		if err = p.sign(st); err != nil {
			err = fmt.Errorf("section %s: %w", name, err)
		}
	}
	if err != nil {
		p.failed[name] = err
		p.counters.update(func(c *Counters) { c.Failed++ })
		return fmt.Errorf("not published: %w", err)
	}
	delete(p.failed, name)
	p.known[name] = &published{message: m, digest: digest, renewals: p.renewals}
	return nil
}

// statement begins a statement. Callers hold p.mu.
func (p *Publisher) statement(name meshconfig.Name) *signedconfig.Statement {
	audience := signedconfig.AudienceMesh
	if name.Kind() == meshconfig.KindBinding {
		audience = signedconfig.AudiencePod(name.Subject())
	}
	return &signedconfig.Statement{
		Section: string(name), MeshID: p.opts.MeshID, Audience: audience, PayloadType: meshconfig.PayloadType(name.Kind()),
	}
}

// sign gives a statement its serial, signs it and puts it into the hub. Callers hold p.mu.
func (p *Publisher) sign(st *signedconfig.Statement) error {
	p.counter++
	st.Serial = signedconfig.Serial{Epoch: p.opts.Epoch, Term: p.opts.Term, Counter: p.counter}
	st.IssuedAt = p.opts.Clock()
	envelope, err := p.signer.Sign(st)
	if err != nil {
		return err
	}
	name := meshconfig.Name(st.Section)
	p.counters.update(func(c *Counters) {
		c.Signed[name.Kind()]++
		if st.Tombstone {
			c.Tombstones++
		}
	})
	if !p.hub.Put(&Entry{Name: name, Serial: st.Serial, Digest: st.Digest(), Tombstone: st.Tombstone, Envelope: envelope}) {
		return fmt.Errorf("serial %s: %w", st.Serial, ErrFenced)
	}
	return nil
}
