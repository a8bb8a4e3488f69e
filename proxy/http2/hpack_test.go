// SPDX-License-Identifier: Apache-2.0

package http2

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"golang.org/x/net/http2/hpack"

	"github.com/heddle-mesh/heddle/proxy/message"
)

func decoderOf(size, fields int) decoder {
	return decoder{most: tableMost, bytesMost: size, fieldsMost: fields}
}

// names and values of which blocks are made: some often, some long, some in the static table.
func someField(random *rand.Rand) (name, value string) {
	names := []string{":path", ":status", "cookie", "authorization", "x-a", "x-request-id", "content-type", "te", "date", "long"}
	values := []string{"", "/", "200", "trailers", "text/plain", "b"}
	name = names[random.IntN(len(names))]
	switch random.IntN(4) {
	case 0:
		return name, fmt.Sprint(random.Uint64())
	case 1:
		return name, strings.Repeat("v", random.IntN(600))
	}
	return name, values[random.IntN(len(values))]
}

// What the encoder writes, x/net's decoder reads, whatever the size of its table.
func TestEncoderAgainstOracle(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	for range 50 {
		enc := newEncoder()
		dec := hpack.NewDecoder(tableMost, nil)
		for range 200 {
			for range random.IntN(3) {
				if random.IntN(10) == 0 {
					size := random.IntN(5000)
					enc.resize(size)
				}
			}
			var want []string
			b := enc.begin(nil)
			for range random.IntN(12) {
				name, value := someField(random)
				// What the encoder is given lies in a buffer that is used again.
				scratch := []byte(name + value)
				b = enc.field(b, view(scratch[:len(name)]), view(scratch[len(name):]))
				clear(scratch)
				want = append(want, name+": "+value)
			}
			got, err := dec.DecodeFull(b)
			if err != nil {
				t.Fatal(err)
			}
			for i, f := range got {
				if f.Name+": "+f.Value != want[i] {
					t.Fatalf("field %d is %q, not %q", i, f, want[i])
				}
			}
			if len(got) != len(want) {
				t.Fatalf("%d fields, not %d", len(got), len(want))
			}
			if enc.size > enc.most || enc.count > len(enc.table) {
				t.Fatal("the table is too large")
			}
		}
	}
}

// What x/net's encoder writes, the decoder reads.
func TestDecoderAgainstOracle(t *testing.T) {
	random := rand.New(rand.NewPCG(3, 4))
	for range 50 {
		var b bytes.Buffer
		enc := hpack.NewEncoder(&b)
		dec := decoderOf(1<<20, 1000)
		for range 200 {
			if random.IntN(10) == 0 {
				enc.SetMaxDynamicTableSize(uint32(random.IntN(tableMost)))
			}
			b.Reset()
			var want []string
			for range random.IntN(12) {
				name, value := someField(random)
				_ = enc.WriteField(hpack.HeaderField{Name: name, Value: value, Sensitive: random.IntN(5) == 0})
				want = append(want, name+": "+value)
			}
			if err := dec.decode(b.Bytes()); err != nil {
				t.Fatal(err)
			}
			var got []string
			for _, f := range dec.fields {
				got = append(got, f.name+": "+f.value)
				if f.kind != kindOf(f.name) || f.bad != !message.ValidValue(f.value) {
					t.Errorf("%+v", f)
				}
			}
			if strings.Join(got, "\n") != strings.Join(want, "\n") {
				t.Fatalf("%q, not %q", got, want)
			}
		}
	}
}

func TestEncoderKeepsSecrets(t *testing.T) {
	enc := newEncoder()
	for name, value := range map[string]string{"authorization": "Bearer x", "Proxy-Authorization": "y", "cookie": "a=b"} {
		for range 3 {
			b := enc.field(nil, name, value)
			if b[0]&0xf0 != 0x10 {
				t.Errorf("%s: %x", name, b)
			}
		}
	}
	if enc.count != 0 {
		t.Errorf("%d fields are in the table", enc.count)
	}
}

// What must not be put into a table on one connection must not be on the next (RFC 7541, section 7.1.3).
func TestWhatIsNeverIndexedStaysSo(t *testing.T) {
	var block, again bytes.Buffer
	from := hpack.NewEncoder(&block)
	dec, enc, to := decoderOf(1<<20, 100), newEncoder(), hpack.NewDecoder(tableMost, nil)
	want := []hpack.HeaderField{
		{Name: "x-api-key", Value: "secret", Sensitive: true},
		{Name: "accept-encoding", Value: "gzip, deflate", Sensitive: true},
		{Name: "x-plain", Value: "plain"},
	}
	for range 5 { // as often as would put others into the table
		block.Reset()
		again.Reset()
		for _, f := range want {
			_ = from.WriteField(f)
		}
		if err := dec.decode(block.Bytes()); err != nil {
			t.Fatal(err)
		}
		b := build{head: &message.Head{}}
		if wrong := b.fields(dec.fields); wrong != "" {
			t.Fatal(wrong)
		}
		for i := range b.head.Fields {
			again.Write(enc.passed(nil, &b.head.Fields[i]))
		}
		if got, err := to.DecodeFull(again.Bytes()); err != nil || !slices.Equal(got, want) {
			t.Fatalf("%v became %v, %v", want, got, err)
		}
	}
	if enc.count != 1 {
		t.Errorf("%d fields are in the table", enc.count)
	}
}

func TestEncoderShrinksWhatComesAgain(t *testing.T) {
	enc := newEncoder()
	var sizes []int
	for range 4 {
		sizes = append(sizes, len(enc.field(nil, "X-Long-Name", "some value")))
	}
	if sizes[1] < 20 || sizes[2] != 1 || sizes[3] != 1 {
		t.Errorf("sizes %v", sizes)
	}
}

// However many fields a request has that come again, each takes an index in the third one.
func TestEncoderFindsAllThatComesAgain(t *testing.T) {
	enc := newEncoder()
	for round := range 3 {
		b := enc.begin(nil)
		for i := range 40 {
			b = enc.field(b, fmt.Sprintf("x-name-%d", i), fmt.Sprintf("value %d", i))
		}
		if round == 2 && len(b) > 2*40 {
			t.Errorf("%d bytes", len(b))
		}
	}
}

func TestDecoderRefuses(t *testing.T) {
	for name, block := range map[string][]byte{
		"index 0":                         {0x80},
		"an index beyond the table":       {0xff, 0x00},
		"a name's index beyond the table": {0x7f, 0x40, 0x01, 'x'},
		"a number that does not end":      {0xff, 0xff, 0xff, 0xff},
		"a number of too many bytes":      {0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f},
		"a string beyond the block":       {0x40, 0x05, 'x'},
		"a name without a value":          {0x40, 0x01, 'x'},
		"a table that is too large":       {0x3f, 0xe2, 0x1f},
		"a table size after a field":      {0x82, 0x20},
		"Huffman code that is cut short":  {0x40, 0x81, 0xff, 0x01, 'x'},
	} {
		t.Run(name, func(t *testing.T) {
			d := decoderOf(1000, 100)
			var told *ConnError
			if err := d.decode(block); !errors.As(err, &told) || told.Code != CompressionError {
				t.Error(err)
			}
		})
	}
}

// A block over a limit leaves the table as it has to be.
func TestDecoderSkipsWhatIsTooMuch(t *testing.T) {
	var b bytes.Buffer
	enc := hpack.NewEncoder(&b)
	d := decoderOf(500, 100)
	for i := range 20 {
		_ = enc.WriteField(hpack.HeaderField{Name: fmt.Sprintf("x-%d", i), Value: strings.Repeat("v", 50)})
	}
	if err := d.decode(b.Bytes()); err != nil || !d.overBytes {
		t.Fatal(err, d.overBytes)
	}
	b.Reset()
	for _, i := range []int{0, 10, 19} {
		_ = enc.WriteField(hpack.HeaderField{Name: fmt.Sprintf("x-%d", i), Value: strings.Repeat("v", 50)})
	}
	if err := d.decode(b.Bytes()); err != nil || d.over() || len(d.fields) != 3 || d.fields[1].name != "x-10" {
		t.Fatal(err, d.fields)
	}
}

func FuzzDecoder(f *testing.F) {
	f.Add([]byte{0x82, 0x86, 0x84, 0x41, 0x0f, 'w', 'w', 'w'}, []byte{0xbe})
	f.Add([]byte{0x40, 0x01, 'x', 0x81, 0x1f}, []byte{0x20, 0x3f, 0xe1, 0x1f, 0xbe})
	f.Fuzz(func(t *testing.T, first, second []byte) {
		d := decoderOf(1<<20, 10_000)
		oracle := hpack.NewDecoder(tableMost, nil)
		for _, block := range [][]byte{first, second} {
			err := d.decode(block)
			want, wanted := oracle.DecodeFull(block)
			if d.size > d.most || d.size < 0 {
				t.Fatal("the table's size is wrong")
			}
			if err != nil || wanted != nil {
				// x/net takes a table size after fields while its table is empty, not two of them at the beginning, and
				// larger numbers.
				return
			}
			if len(want) != len(d.fields) {
				t.Fatalf("%d fields, not %d", len(d.fields), len(want))
			}
			for i, f := range d.fields {
				if f.name != want[i].Name || f.value != want[i].Value {
					t.Fatalf("%q: %q, not %v", f.name, f.value, want[i])
				}
			}
		}
	})
}
