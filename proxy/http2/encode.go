// SPDX-License-Identifier: Apache-2.0

package http2

import "strings"

// encoder writes header blocks (RFC 7541). It is written for a proxy: a field goes into the table when it is met for the second
// time, so that what differs in each request (paths, trace contexts) does not push out what does not; strings are
// copied when they are kept, so that callers may pass what lies in their buffers; nothing is Huffman-coded, which
// costs more time on both sides than the bytes are worth in a cluster.
type encoder struct {
	table  []sent // a ring: the newest is at (added-1)%len
	added  uint32 // entries ever added; it may wrap: what a slot finds is compared
	count  int
	size   int
	most   int // bytes that the table may take
	least  int // no more than the smallest that most was since the last block, or -1 if it did not change
	fields [indexSlots]uint32
	names  [indexSlots]uint32
	seen   [indexSlots]uint32
	lower  []byte
	number []byte
}

// sent is a field of the encoder's table.
type sent struct {
	name, value string
	hash        uint64 // of the field
}

func (e *sent) size() int { return len(e.name) + len(e.value) + headSizeExtra }

// indexSlots is how many fields are found again by hash. A table of 4,096 bytes has at most 128, mostly some 30; a field
// whose slot another one has taken is sent as if it were new.
const indexSlots = 64

func newEncoder() encoder { return encoder{most: tableMost, least: -1} }

// resize takes the table size that the peer's decoder allows.
func (e *encoder) resize(most int) {
	most = min(most, tableMost)
	if most == e.most {
		return
	}
	if e.least < 0 {
		e.least = most
	} else {
		// Of two sizes before a block, x/net's decoder takes the second if its table is empty by then.
		e.least = 0
		e.evict(0)
	}
	e.most = most
	e.evict(most)
}

// begin appends what has to stand before the first field of a block: table size updates (RFC 7541, section 4.2).
func (e *encoder) begin(b []byte) []byte {
	if e.least < 0 {
		return b
	}
	if e.least < e.most {
		b = appendInteger(b, 0x20, 5, uint64(e.least))
	}
	e.least = -1
	return appendInteger(b, 0x20, 5, uint64(e.most))
}

// field appends one field. The name is put in lower case.
func (e *encoder) field(b []byte, name, value string) []byte {
	name = e.lowered(name)
	hashN := hashName(name)
	hash := hashField(hashN, value)
	if at := staticField(hash, name, value); at != 0 {
		return append(b, 0x80|byte(at))
	}
	if at := e.find(&e.fields, hash); at != nil && at.hash == hash && at.name == name && at.value == value {
		return appendInteger(b, 0x80, 7, e.index(e.fields[hash%indexSlots]))
	}
	index := staticName(hashN, name)
	if index == 0 {
		if at := e.find(&e.names, hashN); at != nil && at.name == name {
			index = e.index(e.names[hashN%indexSlots])
		}
	}
	switch e.worth(hash, name, value) {
	case keepIt:
		b = appendInteger(b, 0x40, 6, index)
		e.add(hashN, hash, name, value)
	case keepNever:
		b = appendInteger(b, 0x10, 4, index)
	default:
		b = appendInteger(b, 0, 4, index)
	}
	if index == 0 {
		b = appendText(b, name)
	}
	return appendText(b, value)
}

type worth uint8

const (
	keepNot   worth = iota
	keepIt          // put it in the table
	keepNever       // nor may anybody on the way
)

// cookieShort is the length below which a cookie could be guessed from how well it is compressed.
const cookieShort = 20

// worth decides whether a field goes into the table.
func (e *encoder) worth(hash uint64, name, value string) worth {
	if kind := kindOf(name); kind == kindSecret || kind == kindCookie && len(value) < cookieShort {
		return keepNever
	}
	if len(name)+len(value)+headSizeExtra > e.most/2 {
		return keepNot
	}
	if mark := &e.seen[hash%indexSlots]; *mark != uint32(hash>>32) {
		*mark = uint32(hash >> 32)
		return keepNot
	}
	return keepIt
}

// find returns the entry of a slot, which may be of another field, or nil.
func (e *encoder) find(slots *[indexSlots]uint32, hash uint64) *sent {
	n := slots[hash%indexSlots]
	if n == 0 || e.added-n >= uint32(e.count) {
		return nil
	}
	return &e.table[(n-1)%uint32(len(e.table))]
}

// index is the one on the wire of the n-th entry that was added.
func (e *encoder) index(n uint32) uint64 { return uint64(len(staticTable)) + uint64(e.added-n) + 1 }

func (e *encoder) add(hashN, hash uint64, name, value string) {
	entry := sent{name: strings.Clone(name), value: strings.Clone(value), hash: hash}
	e.evict(e.most - entry.size())
	if e.count == len(e.table) {
		e.grow()
	}
	e.added++
	e.table[(e.added-1)%uint32(len(e.table))] = entry
	e.count++
	e.size += entry.size()
	e.fields[hash%indexSlots], e.names[hashN%indexSlots] = e.added, e.added
}

// grow doubles the ring, which stays a power of two so that numbers may wrap.
func (e *encoder) grow() {
	grown := make([]sent, max(8, 2*len(e.table)))
	for n := e.added - uint32(e.count); n != e.added; n++ {
		grown[n%uint32(len(grown))] = e.table[n%uint32(len(e.table))]
	}
	e.table = grown
}

func (e *encoder) evict(most int) {
	for e.count > 0 && e.size > most {
		old := &e.table[(e.added-uint32(e.count))%uint32(len(e.table))]
		e.size -= old.size()
		*old = sent{}
		e.count--
	}
}

// lowered returns a name in lower case: itself, or in the encoder's memory until the next call.
func (e *encoder) lowered(name string) string {
	for i := range len(name) {
		if c := name[i]; c >= 'A' && c <= 'Z' {
			e.lower = append(e.lower[:0], name...)
			for j := i; j < len(e.lower); j++ {
				if c := e.lower[j]; c >= 'A' && c <= 'Z' {
					e.lower[j] = c | 0x20
				}
			}
			return view(e.lower)
		}
	}
	return name
}

// appendInteger appends a number with a prefix of so many bits after a pattern (RFC 7541, section 5.1).
func appendInteger(b []byte, pattern byte, bits uint, n uint64) []byte {
	mask := uint64(1)<<bits - 1
	if n < mask {
		return append(b, pattern|byte(n))
	}
	b = append(b, pattern|byte(mask))
	for n -= mask; n >= 0x80; n >>= 7 {
		b = append(b, byte(n)|0x80)
	}
	return append(b, byte(n))
}

// appendText appends a string (RFC 7541, section 5.2).
func appendText(b []byte, s string) []byte {
	return append(appendInteger(b, 0, 7, uint64(len(s))), s...)
}
