// SPDX-License-Identifier: Apache-2.0

package message

import (
	"slices"
	"testing"
)

func fieldsOf(pairs ...string) []Field {
	var fields []Field
	for i := 0; i < len(pairs); i += 2 {
		fields = append(fields, Field{Name: pairs[i], Value: pairs[i+1]})
	}
	return fields
}

func TestDropHopByHop(t *testing.T) {
	for name, c := range map[string]struct{ fields, want []Field }{
		"nothing to drop": {fieldsOf("Host", "a", "Accept", "*/*"), fieldsOf("Host", "a", "Accept", "*/*")},
		"all that never passes": {
			fieldsOf("A", "1", "connection", "close", "Keep-Alive", "5", "B", "2", "Proxy-Connection", "x", "Transfer-Encoding", "chunked", "UPGRADE", "h2c", "C", "3"),
			fieldsOf("A", "1", "B", "2", "C", "3"),
		},
		"what Connection lists, in any case": {
			fieldsOf("X-One", "1", "Connection", "x-one, Keep-Alive", "x-two", "2", "CONNECTION", "X-TWO", "X-Three", "3"),
			fieldsOf("X-Three", "3"),
		},
		"Connection cannot hide which message it is": {
			fieldsOf("Host", "a", "Content-Length", "1", "Connection", "host, content-length, x", "X", "y"),
			fieldsOf("Host", "a", "Content-Length", "1"),
		},
		"TE keeps trailers, even where Connection lists it": {
			fieldsOf("Te", "gzip;q=0.5, trailers;x", "Connection", "TE, x"), fieldsOf("Te", "trailers"),
		},
		"TE without trailers": {fieldsOf("TE", "gzip", "A", "1"), fieldsOf("A", "1")},
		"Trailer stays":       {fieldsOf("Trailer", "X", "Connection", "close"), fieldsOf("Trailer", "X")},
		"fields of the same length stay": {
			fieldsOf("Pragmas", "1", "Keep-Alivf", "1", "Connectiom", "1", "XA", "1"), fieldsOf("Pragmas", "1", "Keep-Alivf", "1", "Connectiom", "1", "XA", "1"),
		},
	} {
		t.Run(name, func(t *testing.T) {
			h := &Head{Fields: slices.Clone(c.fields)}
			if DropHopByHop(h); !slices.Equal(h.Fields, c.want) {
				t.Errorf("got %q, want %q", h.Fields, c.want)
			}
			if n := testing.AllocsPerRun(10, func() {
				h.Fields = append(h.Fields[:0], c.fields...)
				DropHopByHop(h)
			}); n != 0 {
				t.Errorf("%v allocations", n)
			}
		})
	}
}

func TestFields(t *testing.T) {
	h := &Head{Method: "GET", Fields: fieldsOf("A", "1", "b", "2", "a", "3")}
	if v, ok := h.Get("B"); v != "2" || !ok {
		t.Errorf("B is %q, %v", v, ok)
	}
	if v, ok := h.Get("C"); v != "" || ok {
		t.Errorf("C is %q, %v", v, ok)
	}
	h.Set("a", "4")
	h.Set("C", "5")
	if want := fieldsOf("A", "4", "b", "2", "C", "5"); !slices.Equal(h.Fields, want) {
		t.Errorf("got %q, want %q", h.Fields, want)
	}
	h.Del("B")
	if want := fieldsOf("A", "4", "C", "5"); !slices.Equal(h.Fields, want) {
		t.Errorf("got %q, want %q", h.Fields, want)
	}
	memory := cap(h.Fields)
	if h.Reset(); h.Method != "" || len(h.Fields) > 0 || cap(h.Fields) != memory {
		t.Errorf("reset, it is %+v", h)
	}
	if h.Release(); cap(h.Fields) != memory {
		t.Error("a few fields' memory was given up")
	}
	for range 100 {
		h.Add("A", "1")
	}
	if h.Release(); cap(h.Fields) != 0 {
		t.Error("many fields' memory was kept")
	}
}
