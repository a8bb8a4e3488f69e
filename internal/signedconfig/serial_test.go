// SPDX-License-Identifier: Apache-2.0

package signedconfig_test

import (
	"crypto/sha256"
	"fmt"
	"testing"

	"github.com/heddle-mesh/heddle/internal/signedconfig"
)

func TestSerialsAreOrdered(t *testing.T) {
	t.Parallel()
	ascending := []signedconfig.Serial{
		{},
		{Counter: 1},
		{Counter: 2},
		{Term: 1},
		{Term: 1, Counter: 1},
		{Term: 2},
		{Epoch: 1},
		{Epoch: 1, Counter: 1},
		{Epoch: 1, Term: 1},
	}
	for i, a := range ascending {
		for j, b := range ascending {
			want := 0
			if i < j {
				want = -1
			} else if i > j {
				want = 1
			}
			if got := a.Compare(b); got != want {
				t.Errorf("%s against %s: %d, want %d", a, b, got, want)
			}
		}
		if got, err := signedconfig.ParseSerial(a.String()); err != nil || got != a {
			t.Errorf("%s read back: %v, %v", a, got, err)
		}
	}
}

func TestParseSerialRefuses(t *testing.T) {
	t.Parallel()
	for _, s := range []string{
		"", "1", "1.2", "1.2.3.4", "a.b.c", "1.2.-3", "01.2.3", "1.2.+3", " 1.2.3", "1.2.3\n", "4294967296.0.1",
		"0.18446744073709551616.1",
	} {
		if got, err := signedconfig.ParseSerial(s); err == nil {
			t.Errorf("%q read as %s", s, got)
		}
	}
}

func digest(text string) [32]byte { return sha256.Sum256([]byte(text)) }

func TestFloorsNeverGoBack(t *testing.T) {
	t.Parallel()
	serial := func(text string) signedconfig.Serial {
		s, err := signedconfig.ParseSerial(text)
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	cases := map[string]struct {
		serial, content string
		ok              bool
	}{
		"a higher counter":                    {"1.5.8", "b", true},
		"a higher term with a lower counter":  {"1.6.1", "b", true},
		"a higher epoch with a lower term":    {"2.0.1", "b", true},
		"the same again":                      {"1.5.7", "a", true},
		"the same serial for another content": {"1.5.7", "b", false},
		"a lower counter":                     {"1.5.6", "b", false},
		"a lower counter with equal content":  {"1.5.6", "a", false},
		"a lower term with a higher counter":  {"1.4.9", "b", false},
		"a lower epoch with a higher term":    {"0.9.9", "b", false},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			floors := signedconfig.NewFloors(0)
			if err := floors.Accept("mesh", serial("1.5.7"), digest("a")); err != nil {
				t.Fatal(err)
			}
			restored, err := signedconfig.UnmarshalFloors(floors.Marshal(), 0)
			if err != nil {
				t.Fatal(err)
			}
			for when, f := range map[string]*signedconfig.Floors{"in memory": floors, "after a restart": restored} {
				checked, accepted := f.Check("mesh", serial(c.serial), digest(c.content)), f.Accept("mesh", serial(c.serial), digest(c.content))
				if (checked == nil) != c.ok || (accepted == nil) != c.ok {
					t.Errorf("%s: Check %v, Accept %v; want ok %t", when, checked, accepted, c.ok)
				}
				if !c.ok && (reasonOf(t, checked) != signedconfig.ReasonSerial || reasonOf(t, accepted) != signedconfig.ReasonSerial) {
					t.Errorf("%s: %v, %v", when, checked, accepted)
				}
				want := serial("1.5.7")
				if c.ok {
					want = serial(c.serial)
				}
				if got, _, ok := f.Floor("mesh"); !ok || got != want {
					t.Errorf("%s: floor %s, want %s", when, got, want)
				}
			}
		})
	}
}

func TestFloorsForgetDroppedSectionsFirst(t *testing.T) {
	t.Parallel()
	floors := signedconfig.NewFloors(3)
	accept := func(name string, counter uint64) {
		t.Helper()
		if err := floors.Accept(name, signedconfig.Serial{Counter: counter}, digest(name)); err != nil {
			t.Fatal(err)
		}
	}
	has := func(name string) bool {
		_, _, ok := floors.Floor(name)
		return ok
	}
	accept("mesh", 1) // oldest of all, and held
	accept("address/10.0.0.1", 2)
	accept("address/10.0.0.2", 3)
	floors.Drop("address/10.0.0.2")
	floors.Drop("address/10.0.0.1")
	floors.Drop("nobody")
	if err := floors.Accept("address/10.0.0.1", signedconfig.Serial{Counter: 1}, digest("old")); err == nil {
		t.Error("a dropped section went back")
	}
	accept("address/10.0.0.3", 4)
	if has("address/10.0.0.2") || !has("address/10.0.0.1") || !has("mesh") {
		t.Error("want the section that was dropped first to be forgotten, and no other")
	}
	accept("address/10.0.0.1", 5) // held again
	accept("address/10.0.0.4", 6) // nothing is dropped: the one that changed longest ago goes
	if has("mesh") || floors.Len() != 3 {
		t.Errorf("want 3 floors without mesh, got %d", floors.Len())
	}
}

func TestUnmarshalFloorsKeepsTheBoundAndRefusesGarbage(t *testing.T) {
	t.Parallel()
	floors := signedconfig.NewFloors(10)
	for i := range 10 {
		if err := floors.Accept(fmt.Sprintf("inbound/%d", i), signedconfig.Serial{Counter: uint64(i + 1)}, digest("x")); err != nil {
			t.Fatal(err)
		}
	}
	floors.Drop("inbound/3")
	text := string(floors.Marshal())
	small, err := signedconfig.UnmarshalFloors([]byte(text), 9)
	if err != nil {
		t.Fatal(err)
	}
	if _, _, ok := small.Floor("inbound/3"); ok || small.Len() != 9 {
		t.Errorf("want 9 floors without the dropped one, got %d", small.Len())
	}
	for _, bad := range []string{
		"", "floors", text[1:], text[:len(text)-1], text + "x\n", text + "mesh 0.0.1 00 held\n",
		text + "mesh 0.1 " + fmt.Sprintf("%x", digest("x")) + " held\n",
		text + "mesh 0.0.1 " + fmt.Sprintf("%x", digest("x")) + " kept\n",
		text + fmt.Sprintf("%2000s\n", "x"),
	} {
		if _, err := signedconfig.UnmarshalFloors([]byte(bad), 0); err == nil {
			t.Errorf("read %.40q ... %.40q", bad, bad[max(0, len(bad)-40):])
		}
	}
}

func BenchmarkVerify(b *testing.B) {
	ca := newAuthority(b, "config", nil)
	data := sign(b, newSigner(b, ca, nil), statement())
	verifier := newVerifier(ca)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := verifier.Verify(data, signedconfig.OnArrival); err != nil {
			b.Fatal(err)
		}
	}
}
