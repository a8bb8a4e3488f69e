// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"cmp"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/heddle-mesh/heddle/internal/meshconfig"
	"github.com/heddle-mesh/heddle/internal/signedconfig"
)

// status is what is not said by what is held.
type status struct {
	mu        sync.Mutex
	connected bool
	lastError error
	heartbeat time.Time
	rejected  map[string]uint64
}

func (s *status) connect() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.connected, s.lastError = true, nil
}

func (s *status) disconnected(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.connected, s.lastError = false, err
}

func (s *status) last() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.lastError
}

func (s *status) beat(at int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.heartbeat = time.UnixMilli(at)
}

func (s *status) reject(reason string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.rejected[reason]++
}

// Connected says whether the operator's stream is up.
func (a *Agent) Connected() bool {
	a.status.mu.Lock()
	defer a.status.mu.Unlock()
	return a.status.connected
}

// Heartbeat returns when the newest signed heartbeat was made; the zero time before the first.
func (a *Agent) Heartbeat() time.Time {
	a.status.mu.Lock()
	defer a.status.mu.Unlock()
	return a.status.heartbeat
}

// Rejected returns how much config was refused, by reason.
func (a *Agent) Rejected() map[string]uint64 {
	a.status.mu.Lock()
	defer a.status.mu.Unlock()
	return maps.Clone(a.status.rejected)
}

// Serial returns the highest serial of what is held.
func (a *Agent) Serial() signedconfig.Serial {
	var highest signedconfig.Serial
	a.holdings.each(func(_ meshconfig.Name, held section) {
		if held.serial.Compare(highest) > 0 {
			highest = held.serial
		}
	})
	return highest
}

// Dump is what `heddle-proxy admin config` shows.
type Dump struct {
	Connected bool              `json:"connected"`
	Ready     string            `json:"ready"` // "yes", or what is missing
	LastError string            `json:"lastError,omitempty"`
	Heartbeat time.Time         `json:"heartbeat,omitzero"`
	Rejected  map[string]uint64 `json:"rejected,omitempty"`
	Pending   string            `json:"pending,omitempty"` // inbound section that a binding waits for
	Sections  []Section         `json:"sections"`
	Unheld    []meshconfig.Name `json:"unheld,omitempty"` // subscriptions without an answer yet
}

// Section is one section of a dump.
type Section struct {
	Name      meshconfig.Name `json:"name"`
	Serial    string          `json:"serial"`
	Digest    string          `json:"digest"` // hex
	Tombstone bool            `json:"tombstone,omitempty"`
	Bytes     int             `json:"bytes"` // of the envelope
	Issued    time.Time       `json:"issued"`
	Applied   time.Time       `json:"applied"`
	File      string          `json:"file"` // that keeps the envelope: see `heddle config verify`
}

// Envelope returns the envelope that is kept of a section, as it came.
func (a *Agent) Envelope(section string) ([]byte, error) {
	name, err := meshconfig.ParseName(section)
	if err != nil {
		return nil, err
	}
	data, err := readBounded(a.store.envelopePath(name), signedconfig.MaxEnvelopeSize)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("no envelope of %s is kept: `admin config` lists what is", name)
	}
	return data, err
}

// Dump returns what is held, sorted by name.
func (a *Agent) Dump() Dump {
	d := Dump{Ready: "yes", Connected: a.Connected(), Heartbeat: a.Heartbeat(), Rejected: a.Rejected(), Sections: []Section{}}
	if err := a.Ready(); err != nil {
		d.Ready = err.Error()
	}
	if err := a.status.last(); err != nil {
		d.LastError = err.Error()
	}
	a.turn.Lock()
	d.Pending = string(a.awaited())
	a.turn.Unlock()
	answered := make(map[meshconfig.Name]bool)
	a.holdings.each(func(name meshconfig.Name, held section) {
		answered[name.Subscription()] = true
		d.Sections = append(d.Sections, Section{
			Name: name, Serial: held.serial.String(), Digest: hex.EncodeToString(held.digest[:]), Tombstone: held.tombstone,
			Bytes: held.size, Issued: held.issued, Applied: held.applied, File: a.store.envelopePath(name),
		})
	})
	slices.SortFunc(d.Sections, func(x, y Section) int { return cmp.Compare(x.Name, y.Name) })
	for _, name := range a.holdings.subscriptions() {
		if !answered[name] {
			d.Unheld = append(d.Unheld, name)
		}
	}
	return d
}
