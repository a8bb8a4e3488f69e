// SPDX-License-Identifier: Apache-2.0

package http2

import (
	"unsafe"

	"golang.org/x/net/http2/hpack"

	"github.com/heddle-mesh/heddle/proxy/message"
)

// entry is a field of the decoder's table.
type entry struct {
	name, value string
	kind        kind
	bad         bool // the value is not one that a field may have
}

func (e *entry) size() int { return len(e.name) + len(e.value) + headSizeExtra }

// decoded is a field of the block that was decoded last. Strings that are not in the table are cut from one string, when
// all of it is known: until then it is known where they begin and how long they are.
type decoded struct {
	entry
	nameAt, nameLen, valueAt, valueLen int
	ownName, ownValue                  bool
	never                              bool // it must not be put into a table
}

// decoder reads header blocks (RFC 7541). It is written for a proxy: what is in its table was judged once, fields beside
// the table cost one allocation a block, and a block that is too large is read to its end for the table's sake alone.
type decoder struct {
	table   []entry // a ring: the newest is at (first+count-1)%len
	first   int
	count   int
	size    int // as RFC 7541, section 4.1, counts
	most    int // what the peer's encoder said last
	scratch []byte
	fields  []decoded
	block   []byte

	// Limits, and whether the block was over one.
	bytesMost, fieldsMost int
	bytes                 int
	overBytes, overFields bool
}

// errCompression is the connection error COMPRESSION_ERROR with a reason.
func errCompression(detail string) error {
	return &ConnError{Code: CompressionError, Detail: detail}
}

// decode reads a block. Its fields are in d.fields until the next one, unless it was over a limit.
func (d *decoder) decode(block []byte) error {
	clear(d.fields)
	d.fields, d.scratch, d.block = d.fields[:0], d.scratch[:0], block
	d.bytes, d.overBytes, d.overFields = 0, false, false
	begun := false
	for len(d.block) > 0 {
		var err error
		switch b := d.block[0]; {
		case b&0x80 != 0:
			err = d.indexed()
		case b&0xc0 == 0x40:
			err = d.literal(6, true)
		case b&0xe0 == 0x20:
			if begun {
				return errCompression("a table size after a field")
			}
			if err = d.resize(); err != nil {
				return err
			}
			continue
		default:
			err = d.literal(4, false)
		}
		if err != nil {
			return err
		}
		begun = true
	}
	d.block = nil
	d.cut()
	return nil
}

// over says whether the block is over a limit, so that its fields are not there.
func (d *decoder) over() bool { return d.overBytes || d.overFields }

// cut makes the strings that are not in the table.
func (d *decoder) cut() {
	if len(d.scratch) == 0 || d.over() {
		return
	}
	all := string(d.scratch)
	for i := range d.fields {
		f := &d.fields[i]
		if f.ownName {
			f.name = all[f.nameAt : f.nameAt+f.nameLen]
		}
		if f.ownValue {
			f.value = all[f.valueAt : f.valueAt+f.valueLen]
		}
	}
	if cap(d.scratch) > 4*frameMost {
		d.scratch = nil
	}
}

// emit counts a field and returns where to put it, or nil if the block is over a limit.
func (d *decoder) emit(size int) *decoded {
	d.bytes += size
	switch {
	case d.bytes > d.bytesMost:
		d.overBytes = true
	case len(d.fields) >= d.fieldsMost+pseudoFields:
		d.overFields = true
	}
	if d.over() {
		return nil
	}
	d.fields = append(d.fields, decoded{})
	return &d.fields[len(d.fields)-1]
}

// pseudoFields is how many pseudo-fields a request may have; they do not count as fields.
const pseudoFields = 5

// at returns the entry of an index, or nil.
func (d *decoder) at(index uint64) *entry {
	switch {
	case index == 0:
		return nil
	case index <= uint64(len(staticFields)):
		return &staticFields[index-1]
	case index-uint64(len(staticFields)) > uint64(d.count):
		return nil
	}
	return &d.table[(d.first+d.count-int(index-uint64(len(staticFields))))%len(d.table)]
}

func (d *decoder) indexed() error {
	index, ok := d.integer(7)
	e := d.at(index)
	if !ok || e == nil {
		return errCompression("an index that is not in the table")
	}
	if f := d.emit(e.size()); f != nil {
		f.entry = *e
	}
	return nil
}

func (d *decoder) literal(bits uint, keep bool) error {
	never := d.block[0]&0xf0 == 0x10
	index, ok := d.integer(bits)
	if !ok {
		return errCompression("a number that does not end")
	}
	at := len(d.scratch)
	var known *entry
	if index > 0 {
		if known = d.at(index); known == nil {
			return errCompression("an index that is not in the table")
		}
	} else if err := d.text(); err != nil {
		return err
	}
	valueAt := len(d.scratch)
	if err := d.text(); err != nil {
		return err
	}
	f := decoded{nameAt: at, nameLen: valueAt - at, ownName: known == nil, valueAt: valueAt, valueLen: len(d.scratch) - valueAt, ownValue: true, never: never}
	if known != nil {
		f.name, f.kind = known.name, known.kind
	} else {
		f.name = view(d.scratch[at:valueAt])
		f.kind = kindOf(f.name)
	}
	f.value = view(d.scratch[valueAt:])
	f.bad = !message.ValidValue(f.value)
	size := f.size()
	if keep {
		// The table outlives the block: it has strings of its own, which the field shares.
		if known == nil {
			f.name = string(d.scratch[at:valueAt])
		}
		f.value = string(d.scratch[valueAt:])
		f.ownName, f.ownValue = false, false
		d.add(f.entry)
	}
	if out := d.emit(size); out != nil {
		*out = f
	}
	if keep || d.over() {
		d.scratch = d.scratch[:at]
	}
	return nil
}

// add puts an entry in the table (RFC 7541, section 4.4).
func (d *decoder) add(e entry) {
	size := e.size()
	d.evict(d.most - size)
	if size > d.most {
		return
	}
	if d.count == len(d.table) {
		grown := make([]entry, max(8, 2*len(d.table)))
		for i := range d.count {
			grown[i] = d.table[(d.first+i)%len(d.table)]
		}
		d.table, d.first = grown, 0
	}
	d.table[(d.first+d.count)%len(d.table)] = e
	d.count++
	d.size += size
}

// evict removes the oldest entries until the others take no more than so many bytes.
func (d *decoder) evict(most int) {
	for d.count > 0 && d.size > most {
		e := &d.table[d.first]
		d.size -= e.size()
		*e = entry{}
		d.first = (d.first + 1) % len(d.table)
		d.count--
	}
}

// resize reads a dynamic table size update (RFC 7541, section 6.3).
func (d *decoder) resize() error {
	most, ok := d.integer(5)
	if !ok || most > tableMost {
		return errCompression("a table size over what was offered")
	}
	d.most = int(most)
	d.evict(d.most)
	return nil
}

// integer reads a number with a prefix of so many bits (RFC 7541, section 5.1).
func (d *decoder) integer(bits uint) (n uint64, ok bool) {
	if len(d.block) == 0 {
		return 0, false
	}
	mask := uint64(1)<<bits - 1
	n = uint64(d.block[0]) & mask
	d.block = d.block[1:]
	if n < mask {
		return n, true
	}
	for shift := uint(0); shift < 32; shift += 7 {
		if len(d.block) == 0 {
			return 0, false
		}
		b := d.block[0]
		d.block = d.block[1:]
		n += uint64(b&0x7f) << shift
		if b&0x80 == 0 {
			return n, true
		}
	}
	return 0, false
}

// text reads a string (RFC 7541, section 5.2) and appends it to the scratch buffer.
func (d *decoder) text() error {
	if len(d.block) == 0 {
		return errCompression("a block that is cut short")
	}
	coded := d.block[0]&0x80 != 0
	n, ok := d.integer(7)
	if !ok || n > uint64(len(d.block)) {
		return errCompression("a string that is cut short")
	}
	raw := d.block[:n]
	d.block = d.block[n:]
	if !coded {
		d.scratch = append(d.scratch, raw...)
		return nil
	}
	if _, err := hpack.HuffmanDecode((*scratchWriter)(&d.scratch), raw); err != nil {
		return errCompression("a string that is not Huffman code")
	}
	return nil
}

// scratchWriter appends what is written.
type scratchWriter []byte

func (w *scratchWriter) Write(p []byte) (int, error) {
	*w = append(*w, p...)
	return len(p), nil
}

// view is a string over bytes that do not change while it is looked at.
func view(b []byte) string { return unsafe.String(unsafe.SliceData(b), len(b)) }
