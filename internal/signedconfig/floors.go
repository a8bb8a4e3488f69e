// SPDX-License-Identifier: Apache-2.0

package signedconfig

import (
	"bufio"
	"bytes"
	"container/list"
	"encoding/hex"
	"fmt"
	"strings"
	"sync"
)

// DefaultMaxFloors bounds the floors of a proxy: some 200 bytes each.
const DefaultMaxFloors = 8192

// Floors remembers, per section, the highest serial that was accepted and the digest that came with it, so that nothing
// goes back. Sections that are dropped keep their floors, up to a bound: when it is reached, the section that was
// dropped first is forgotten, or, if none is dropped, the one that changed longest ago. It may be used concurrently.
type Floors struct {
	mu      sync.Mutex
	limit   int
	entries map[string]*list.Element // of *floor, in held or dropped
	held    *list.List               // by last change, oldest first
	dropped *list.List               // by when they were dropped, oldest first
}

type floor struct {
	name    string
	serial  Serial
	digest  [32]byte
	dropped bool
}

// NewFloors returns floors for at most limit sections; 0 or less means DefaultMaxFloors.
func NewFloors(limit int) *Floors {
	if limit <= 0 {
		limit = DefaultMaxFloors
	}
	return &Floors{limit: limit, entries: make(map[string]*list.Element), held: list.New(), dropped: list.New()}
}

// Check says whether a version of a section may be accepted: its serial is higher than the floor, or equal with an equal
// digest (the same content, signed again). Its error is an *Error with ReasonSerial.
func (f *Floors) Check(name string, serial Serial, digest [32]byte) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.check(name, serial, digest)
}

func (f *Floors) check(name string, serial Serial, digest [32]byte) error {
	element, ok := f.entries[name]
	if !ok {
		return nil
	}
	old := entry(element)
	switch c := serial.Compare(old.serial); {
	case c < 0:
		return refuse(ReasonSerial, "section %s: serial %s is lower than %s, which was accepted before", name, serial, old.serial)
	case c == 0 && digest != old.digest:
		return refuse(ReasonSerial, "section %s: serial %s was accepted before with another content", name, serial)
	}
	return nil
}

// Accept is Check, and makes the version the floor when it passes. The section counts as held from then on.
func (f *Floors) Accept(name string, serial Serial, digest [32]byte) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if err := f.check(name, serial, digest); err != nil {
		return err
	}
	f.put(&floor{name: name, serial: serial, digest: digest})
	return nil
}

// Drop says that a section is no longer held. Its floor stays while there is room.
func (f *Floors) Drop(name string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if element, ok := f.entries[name]; ok && !entry(element).dropped {
		moved := *entry(element)
		moved.dropped = true
		f.put(&moved)
	}
}

// Floor returns the floor of a section.
func (f *Floors) Floor(name string) (serial Serial, digest [32]byte, ok bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	element, ok := f.entries[name]
	if !ok {
		return Serial{}, [32]byte{}, false
	}
	return entry(element).serial, entry(element).digest, true
}

// Len returns how many floors there are.
func (f *Floors) Len() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return len(f.entries)
}

// put makes e the newest of its list, in place of what had its name. Callers hold f.mu.
func (f *Floors) put(e *floor) {
	if old, ok := f.entries[e.name]; ok {
		f.remove(old)
	} else if len(f.entries) >= f.limit {
		if oldest := f.dropped.Front(); oldest != nil {
			f.remove(oldest)
		} else {
			f.remove(f.held.Front())
		}
	}
	f.entries[e.name] = f.listOf(e).PushBack(e)
}

func (f *Floors) remove(element *list.Element) {
	e := entry(element)
	f.listOf(e).Remove(element)
	delete(f.entries, e.name)
}

func (f *Floors) listOf(e *floor) *list.List {
	if e.dropped {
		return f.dropped
	}
	return f.held
}

// entry reads what put stored: the lists hold nothing else.
func entry(element *list.Element) *floor { return element.Value.(*floor) }

const (
	floorsHeader = "heddle floors 1\n"
	maxFloorLine = maxSection + 256 // bytes
)

// Marshal writes the floors as text, a line each: "<section> <serial> <digest> held|dropped", oldest first.
func (f *Floors) Marshal() []byte {
	f.mu.Lock()
	defer f.mu.Unlock()
	var out bytes.Buffer
	out.WriteString(floorsHeader)
	for _, l := range []*list.List{f.dropped, f.held} {
		for element := l.Front(); element != nil; element = element.Next() {
			e := entry(element)
			state := "held"
			if e.dropped {
				state = "dropped"
			}
			fmt.Fprintf(&out, "%s %s %s %s\n", e.name, e.serial, hex.EncodeToString(e.digest[:]), state)
		}
	}
	return out.Bytes()
}

// UnmarshalFloors reads what Marshal wrote. Of more than limit floors it keeps what Floors would have kept.
func UnmarshalFloors(data []byte, limit int) (*Floors, error) {
	rest, ok := bytes.CutPrefix(data, []byte(floorsHeader))
	if !ok {
		return nil, fmt.Errorf("floors: want a file that begins with %q", floorsHeader)
	}
	if len(rest) > 0 && rest[len(rest)-1] != '\n' {
		return nil, fmt.Errorf("floors: the last line is cut")
	}
	f := NewFloors(limit)
	lines := bufio.NewScanner(bytes.NewReader(rest))
	lines.Buffer(make([]byte, 0, maxFloorLine), maxFloorLine)
	for n := 2; lines.Scan(); n++ {
		e, err := parseFloor(lines.Text())
		if err != nil {
			return nil, fmt.Errorf("floors: line %d: %w", n, err)
		}
		f.put(e)
	}
	if err := lines.Err(); err != nil {
		return nil, fmt.Errorf("floors: %w", err)
	}
	return f, nil
}

func parseFloor(line string) (*floor, error) {
	fields := strings.Split(line, " ")
	if len(fields) != 4 || !isText(fields[0], maxSection) {
		return nil, fmt.Errorf("%.80q: want <section> <serial> <digest> held|dropped", line)
	}
	serial, err := ParseSerial(fields[1])
	if err != nil {
		return nil, err
	}
	e := &floor{name: fields[0], serial: serial, dropped: fields[3] == "dropped"}
	digest, err := hex.DecodeString(fields[2])
	if err != nil || len(digest) != len(e.digest) {
		return nil, fmt.Errorf("digest %.80q: want %d bytes in hex", fields[2], len(e.digest))
	}
	copy(e.digest[:], digest)
	if !e.dropped && fields[3] != "held" {
		return nil, fmt.Errorf("state %.80q: want held or dropped", fields[3])
	}
	return e, nil
}
