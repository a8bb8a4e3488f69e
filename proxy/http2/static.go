// SPDX-License-Identifier: Apache-2.0

package http2

import "hash/maphash"

// staticTable is that of RFC 7541, appendix A. An index on the wire is one more than here.
var staticTable = [...][2]string{
	{":authority"},
	{":method", "GET"},
	{":method", "POST"},
	{":path", "/"},
	{":path", "/index.html"},
	{":scheme", "http"},
	{":scheme", "https"},
	{":status", "200"},
	{":status", "204"},
	{":status", "206"},
	{":status", "304"},
	{":status", "400"},
	{":status", "404"},
	{":status", "500"},
	{"accept-charset"},
	{"accept-encoding", "gzip, deflate"},
	{"accept-language"},
	{"accept-ranges"},
	{"accept"},
	{"access-control-allow-origin"},
	{"age"},
	{"allow"},
	{"authorization"},
	{"cache-control"},
	{"content-disposition"},
	{"content-encoding"},
	{"content-language"},
	{"content-length"},
	{"content-location"},
	{"content-range"},
	{"content-type"},
	{"cookie"},
	{"date"},
	{"etag"},
	{"expect"},
	{"expires"},
	{"from"},
	{"host"},
	{"if-match"},
	{"if-modified-since"},
	{"if-none-match"},
	{"if-range"},
	{"if-unmodified-since"},
	{"last-modified"},
	{"link"},
	{"location"},
	{"max-forwards"},
	{"proxy-authenticate"},
	{"proxy-authorization"},
	{"range"},
	{"referer"},
	{"refresh"},
	{"retry-after"},
	{"server"},
	{"set-cookie"},
	{"strict-transport-security"},
	{"transfer-encoding"},
	{"user-agent"},
	{"vary"},
	{"via"},
	{"www-authenticate"},
}

// staticFields are the entries as the decoder has them.
var staticFields = func() (fields [len(staticTable)]entry) {
	for i, f := range staticTable {
		fields[i] = entry{name: f[0], value: f[1], kind: kindOf(f[0])}
	}
	return fields
}()

// staticSlots finds entries of the static table by hash: whole fields, and the first of each name. Nothing is looked for
// twice: a slot that is taken by another entry passes to the next one.
const staticSlots = 256

var staticIndex = func() (index struct{ fields, names [staticSlots]uint8 }) {
	put := func(slots *[staticSlots]uint8, hash uint64, at uint8) {
		for i := hash; ; i++ {
			if slot := &slots[i%staticSlots]; *slot == 0 {
				*slot = at
				return
			}
		}
	}
	last := ""
	for i, f := range staticTable {
		name := hashName(f[0])
		if f[1] != "" {
			put(&index.fields, hashField(name, f[1]), uint8(i+1))
		}
		if f[0] != last {
			put(&index.names, name, uint8(i+1))
			last = f[0]
		}
	}
	return index
}()

var hashSeed = maphash.MakeSeed()

func hashName(name string) uint64 { return maphash.String(hashSeed, name) }

func hashField(name uint64, value string) uint64 {
	return (name<<7 | name>>57) ^ maphash.String(hashSeed, value)
}

// staticField returns the index on the wire of a whole field, or 0.
func staticField(hash uint64, name, value string) uint64 {
	for i := hash; ; i++ {
		at := staticIndex.fields[i%staticSlots]
		if at == 0 {
			return 0
		}
		if f := &staticTable[at-1]; f[0] == name && f[1] == value {
			return uint64(at)
		}
	}
}

// staticName returns the index on the wire of the first field of a name, or 0.
func staticName(hash uint64, name string) uint64 {
	for i := hash; ; i++ {
		at := staticIndex.names[i%staticSlots]
		if at == 0 {
			return 0
		}
		if staticTable[at-1][0] == name {
			return uint64(at)
		}
	}
}
