// SPDX-License-Identifier: Apache-2.0

package meshconfig_test

import (
	"bytes"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"

	"github.com/heddle-mesh/heddle/internal/meshconfig"
)

func TestEverySectionSurvivesItsEncoding(t *testing.T) {
	t.Parallel()
	for name, m := range samples(t) {
		t.Run(string(name), func(t *testing.T) {
			t.Parallel()
			if err := meshconfig.Validate(name, m); err != nil {
				t.Fatal(err)
			}
			payload := meshconfig.Encode(m)
			got, err := meshconfig.Decode(name, payload)
			if err != nil || !proto.Equal(got, m) {
				t.Fatalf("got %v, %v; want %v", got, err, m)
			}
			if again := meshconfig.Encode(got); !bytes.Equal(again, payload) {
				t.Error("the same message has two encodings")
			}
		})
	}
}

func TestDecodeRefusesOtherEncodings(t *testing.T) {
	t.Parallel()
	service := protowire.AppendString(protowire.AppendTag(nil, 1, protowire.BytesType), "web.shop")
	shards := protowire.AppendVarint(protowire.AppendTag(nil, 3, protowire.VarintType), 1)
	name := meshconfig.EndpointsName("web.shop", 0)
	good := slices.Concat(service, shards)
	if _, err := meshconfig.Decode(name, good); err != nil {
		t.Fatal(err)
	}
	cases := map[string]struct {
		name    meshconfig.Name
		payload []byte
	}{
		"fields out of order":         {name, slices.Concat(shards, service)},
		"a field twice":               {name, slices.Concat(service, service, shards)},
		"an unknown field":            {name, protowire.AppendVarint(protowire.AppendTag(slices.Clone(good), 99, protowire.VarintType), 1)},
		"an unknown field, nested":    {name, slices.Concat(good, []byte{0x22, 2, 0x78, 1})},
		"a zero that is written out":  {name, slices.Concat(service, []byte{0x10, 0}, shards)},
		"a number in too many bytes":  {name, slices.Concat(service, []byte{0x18, 0x81, 0})},
		"a length in too many bytes":  {name, slices.Concat([]byte{0x0a, 0x88, 0}, []byte("web.shop"), shards)},
		"a cut":                       {name, good[:len(good)-1]},
		"bytes behind":                {name, append(slices.Clone(good), 0)},
		"text that is not UTF-8":      {name, slices.Concat([]byte{0x0a, 2, 0xff, 0xfe}, shards)},
		"a kind that there is not":    {"elsewhere/x", good},
		"more than a megabyte":        {name, make([]byte, meshconfig.MaxPayload+1)},
		"the payload of another kind": {meshconfig.MeshName, meshconfig.Encode(&meshconfig.Heartbeat{At: 1})},
	}
	for title, c := range cases {
		t.Run(title, func(t *testing.T) {
			t.Parallel()
			if m, err := meshconfig.Decode(c.name, c.payload); err == nil {
				t.Errorf("decoded as %v", m)
			}
		})
	}
}

func TestPayloadTypeNamesTheKind(t *testing.T) {
	t.Parallel()
	if got, want := meshconfig.PayloadType(meshconfig.KindRoutes), "application/vnd.heddle.routes.v1+protobuf"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

func FuzzDecode(f *testing.F) {
	for name, m := range samples(f) {
		f.Add(string(name), meshconfig.Encode(m))
	}
	f.Add("mesh", []byte(nil))
	f.Add("endpoints/a.b/0", []byte{0x22, 2, 0x78, 1})
	f.Fuzz(func(t *testing.T, text string, payload []byte) {
		name := meshconfig.Name(text)
		m, err := meshconfig.Decode(name, payload)
		if err != nil {
			return
		}
		if !bytes.Equal(meshconfig.Encode(m), payload) {
			t.Fatal("decoded from two encodings")
		}
		_ = meshconfig.Validate(name, m) // must not panic on whatever decodes
	})
}

func FuzzParseName(f *testing.F) {
	for name := range samples(f) {
		f.Add(string(name))
	}
	for _, s := range []string{"", "/", "mesh/", "endpoints/a.b/*", "endpoints/a.b/01", "address/::ffff:10.0.0.1", "routes/a.b"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		name, err := meshconfig.ParseName(s)
		if err != nil {
			return
		}
		if string(name) != s || len(s) > 600 || strings.ContainsAny(s, " \n\x00\\") {
			t.Fatalf("ParseName(%q) = %q", s, name)
		}
		if _, err := meshconfig.ParseName(string(name.Subscription())); err != nil {
			t.Fatalf("the subscription of %q: %v", s, err)
		}
		if name.Kind() == meshconfig.KindAddress {
			if ip, err := netip.ParseAddr(name.Subject()); err != nil || meshconfig.AddressName(ip) != name {
				t.Fatalf("%q is not the one name of an address", s)
			}
		}
	})
}
