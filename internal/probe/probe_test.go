// SPDX-License-Identifier: Apache-2.0

package probe

import (
	"reflect"
	"strings"
	"testing"
	"time"
)

func TestWhatIsEncodedIsDecoded(t *testing.T) {
	specs := []Spec{
		{
			ID: "a1", Name: "app/readiness", Kind: HTTP, Port: 8080, Path: "/ready?x=1&y=2", HTTPS: true,
			Headers: []Header{{"Host", "shop"}, {"X-A", "<b>"}}, TimeoutMillis: 2500,
		},
		{ID: "b2", Kind: TCP, Port: 5432},
		{ID: "c3", Kind: GRPC, Port: 9000, Service: "payments"},
		{ID: "d4", Kind: Hook, Port: 8080, Path: "/stop"},
	}
	value, err := Encode(specs)
	if err != nil {
		t.Fatal(err)
	}
	if strings.ContainsAny(value, "\n\r") || !strings.Contains(value, "x=1&y=2") {
		t.Errorf("not one readable line: %q", value)
	}
	got, err := Decode(value)
	if err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(got, specs) {
		t.Errorf("got %+v, want %+v", got, specs)
	}
	for i, want := range []time.Duration{2500 * time.Millisecond, time.Second, time.Second, 0} {
		if d := got[i].Timeout(); d != want {
			t.Errorf("timeout of %s: %v, want %v", got[i].ID, d, want)
		}
	}
}

func TestDecodeRefuses(t *testing.T) {
	many := "[" + strings.TrimSuffix(strings.Repeat(`{"id":"a","kind":"tcp","port":1},`, MaxSpecs+1), ",") + "]"
	for name, c := range map[string]struct{ value, want string }{
		"what is no JSON":       {`[`, EnvProbes},
		"an unknown field":      {`[{"id":"a","kind":"tcp","port":1,"exec":true}]`, "exec"},
		"an unknown kind":       {`[{"id":"a","kind":"exec","port":1}]`, "kind"},
		"port 0":                {`[{"id":"a","kind":"tcp"}]`, "port 0"},
		"a port too large":      {`[{"id":"a","kind":"tcp","port":65536}]`, "port"},
		"an id with a slash":    {`[{"id":"a/b","kind":"tcp","port":1}]`, "id"},
		"no id":                 {`[{"kind":"tcp","port":1}]`, "id"},
		"an id that is twice":   {`[{"id":"a","kind":"tcp","port":1},{"id":"a","kind":"tcp","port":2}]`, "twice"},
		"a negative timeout":    {`[{"id":"a","kind":"tcp","port":1,"timeoutMillis":-1}]`, "timeout"},
		"too many":              {many, "at most"},
		"something behind it":   {`[] []`, "more than one"},
		"a bracket behind it":   {`[] ]`, "more than one"},
		"more than it can hold": {strings.Repeat(" ", maxEncoded+1), "bytes"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := Decode(c.value)
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("error %v: want one with %q", err, c.want)
			}
		})
	}
	if specs, err := Decode(""); specs != nil || err != nil {
		t.Errorf("empty value: %v, %v", specs, err)
	}
}

func TestScrape(t *testing.T) {
	value, err := EncodeScrape(Scrape{Port: 9090})
	if err != nil {
		t.Fatal(err)
	}
	got, err := DecodeScrape(value)
	if err != nil || *got != (Scrape{9090, "/metrics"}) {
		t.Errorf("got %+v, %v", got, err)
	}
	if got, err := DecodeScrape(""); got != nil || err != nil {
		t.Errorf("empty value: %v, %v", got, err)
	}
	for _, wrong := range []string{`{}`, `{"port":1,"x":2}`, `{"port":0,"path":"/"}`, `1`} {
		if _, err := DecodeScrape(wrong); err == nil {
			t.Errorf("%s is taken", wrong)
		}
	}
	if _, err := EncodeScrape(Scrape{}); err == nil {
		t.Error("port 0 is encoded")
	}
}

// FuzzDecode: whatever is taken is valid and encodes to what decodes to the same.
func FuzzDecode(f *testing.F) {
	f.Add(`[{"id":"a1","kind":"http","port":8080,"path":"/x?y","headers":[{"name":"Host","value":"h"}]}]`)
	f.Add(`[{"id":"b","kind":"grpc","port":1,"service":"s","timeoutMillis":3000}]`)
	f.Add(`null`)
	f.Fuzz(func(t *testing.T, value string) {
		specs, err := Decode(value)
		if err != nil {
			return
		}
		again, err := Encode(specs)
		if err != nil {
			t.Skip() // grew over the bound by escaping
		}
		got, err := Decode(again)
		if err != nil || len(got) != len(specs) {
			t.Fatalf("%q decodes to %v, encodes to %q, decodes to %v, %v", value, specs, again, got, err)
		}
	})
}
