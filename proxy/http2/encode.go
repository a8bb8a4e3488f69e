// SPDX-License-Identifier: Apache-2.0

package http2

import "strings"

// encoder writes header blocks (RFC 7541). It is written for a proxy: a field goes into the table when it is met for the second
// time, so that what differs in each request (paths, trace contexts) does not push out what does not; strings are
// copied when they are kept, so that callers may pass what lies in their buffers; nothing is Huffman-coded, which
// costs more time on both sides than the bytes are worth in a cluster.
type encoder struct {
	table  []sent   // a ring whose size is a power of two: the newest is at (added-1)%len
	tags   []uint32 // of their fields, at the same places: what is looked through
	added  uint32   // entries ever added; it may wrap
	count  int
	size   int
	most   int // bytes that the table may take
	least  int // no more than the smallest that most was since the last block, or -1 if it did not change
	seen   [seenOnce]uint32
	marks  uint32 // ever put into seen
	lower  []byte
	number []byte
}

// sent is a field of the encoder's table.
type sent struct{ name, value string }

func (e *sent) size() int { return len(e.name) + len(e.value) + headSizeExtra }

// seenOnce is how many fields are remembered that have been sent once. Of a request, few are not in the table.
const seenOnce = 64

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
	tag := uint32(hash >> 32)
	if n := e.find(tag, name, value); n != 0 {
		return appendInteger(b, 0x80, 7, n)
	}
	index := staticName(hashN, name)
	if index == 0 {
		index = e.findName(name)
	}
	switch e.worth(tag, name, value) {
	case keepIt:
		b = appendInteger(b, 0x40, 6, index)
		e.add(tag, name, value)
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

// never appends a field that nobody on the way may put into a table (RFC 7541, section 6.2.3). The name is put in lower case.
func (e *encoder) never(b []byte, name, value string) []byte {
	name = e.lowered(name)
	index := staticName(hashName(name), name)
	if index == 0 {
		index = e.findName(name)
	}
	b = appendInteger(b, 0x10, 4, index)
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
func (e *encoder) worth(tag uint32, name, value string) worth {
	if kind := kindOf(name); kind == kindSecret || kind == kindCookie && len(value) < cookieShort {
		return keepNever
	}
	if len(name)+len(value)+headSizeExtra > e.most/2 {
		return keepNot
	}
	for _, seen := range e.seen {
		if seen == tag {
			return keepIt
		}
	}
	e.seen[e.marks%seenOnce] = tag
	e.marks++
	return keepNot
}

// find returns the index on the wire of a field of the table, or 0.
func (e *encoder) find(tag uint32, name, value string) uint64 {
	mask := uint32(len(e.tags)) - 1
	for age := range uint32(e.count) {
		if at := (e.added - 1 - age) & mask; e.tags[at] == tag && e.table[at].value == value && e.table[at].name == name {
			return uint64(len(staticTable)) + uint64(age) + 1
		}
	}
	return 0
}

// findName returns the index on the wire of some field of a name, or 0.
func (e *encoder) findName(name string) uint64 {
	mask := uint32(len(e.tags)) - 1
	for age := range uint32(e.count) {
		if e.table[(e.added-1-age)&mask].name == name {
			return uint64(len(staticTable)) + uint64(age) + 1
		}
	}
	return 0
}

func (e *encoder) add(tag uint32, name, value string) {
	entry := sent{name: strings.Clone(name), value: strings.Clone(value)}
	e.evict(e.most - entry.size())
	if e.count == len(e.table) {
		e.grow()
	}
	at := e.added & (uint32(len(e.table)) - 1)
	e.table[at], e.tags[at] = entry, tag
	e.added++
	e.count++
	e.size += entry.size()
}

// grow doubles the ring.
func (e *encoder) grow() {
	table := make([]sent, max(8, 2*len(e.table)))
	tags := make([]uint32, len(table))
	mask := uint32(len(table)) - 1
	for n := e.added - uint32(e.count); n != e.added; n++ {
		from := n & (uint32(len(e.table)) - 1)
		table[n&mask], tags[n&mask] = e.table[from], e.tags[from]
	}
	e.table, e.tags = table, tags
}

func (e *encoder) evict(most int) {
	for e.count > 0 && e.size > most {
		old := &e.table[(e.added-uint32(e.count))&(uint32(len(e.table))-1)]
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
