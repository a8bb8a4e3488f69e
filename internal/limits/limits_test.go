// SPDX-License-Identifier: Apache-2.0

package limits_test

import (
	"fmt"
	"math"
	"os"
	"reflect"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/heddle-mesh/heddle/internal/limits"
)

func TestEveryFieldIsInTheTableOnceAndHasADefaultInItsRange(t *testing.T) {
	all := limits.All()
	if n := reflect.TypeFor[limits.Set]().NumField(); n != len(all) {
		t.Errorf("%d fields, %d limits", n, len(all))
	}
	set := limits.Default()
	seen := map[limits.Name]bool{}
	for i := range all {
		l := &all[i]
		if seen[l.Name] {
			t.Errorf("%s is there twice", l.Name)
		}
		seen[l.Name] = true
		if got := l.Of(&set); got != l.Default {
			t.Errorf("%s is %d by default, not %d: another limit has its field", l.Name, got, l.Default)
		}
		if l.Default != 0 && (l.Default < l.Min || l.Default > l.Max) {
			t.Errorf("%s: default %d is not from %d to %d", l.Name, l.Default, l.Min, l.Max)
		}
		for _, value := range []int64{l.Min, l.Max} {
			item := string(l.Name) + "=" + l.Format(value)
			if l.Name == limits.StreamWindow {
				item += ",connection-window=64MiB"
			}
			got, err := limits.Parse(item)
			if l.Name == limits.ConnectionWindow && value == l.Min {
				got, err = limits.Parse(item + ",stream-window=16KiB")
			}
			if err != nil || l.Of(&got) != value {
				t.Errorf("%s: %d, %v", item, l.Of(&got), err)
			}
		}
		for _, value := range []int64{l.Min - 1, l.Max + 1} {
			if l.Default == 0 && value == 0 {
				continue
			}
			item := fmt.Sprintf("%s=%s", l.Name, l.Format(value))
			if _, err := limits.Parse(item); err == nil || !strings.Contains(err.Error(), l.Range()) {
				t.Errorf("%s: %v, want its range named", item, err)
			}
		}
	}
}

func TestParse(t *testing.T) {
	for name, c := range map[string]struct {
		list  string
		want  func(*limits.Set)
		wrong []string // parts of the error
	}{
		"nothing":                    {list: ""},
		"blanks and commas alone":    {list: " , ,"},
		"a size":                     {list: "header-bytes=64KiB", want: func(s *limits.Set) { s.HeaderBytes = 64 << 10 }},
		"a size in bytes":            {list: "header-bytes=5000", want: func(s *limits.Set) { s.HeaderBytes = 5000 }},
		"several":                    {list: "streams=100, idle=1m30s", want: func(s *limits.Set) { s.Streams, s.Idle = 100, 90*time.Second }},
		"no limit where that may be": {list: "connections-per-source=0"},
		"no limit where it may not":  {list: "streams=0", wrong: []string{`limit streams="0": want 1 to 100000`}},
		"a name that is none":        {list: "stream=1", wrong: []string{`there is no limit "stream": want one of header-bytes, `}},
		"no value":                   {list: "streams", wrong: []string{`"streams": want name=value`}},
		"a count with a unit":        {list: "streams=1KiB", wrong: []string{"limit streams"}},
		"a time without":             {list: "idle=60", wrong: []string{`limit idle="60": want 1s to 24h`}},
		"a size of another kind":     {list: "memory=64MB", wrong: []string{`limit memory="64MB": want 1MiB to 16GiB`}},
		"a size without end":         {list: "memory=99999999999999999999GiB", wrong: []string{"limit memory"}},
		"a size that would overflow": {list: "memory=4294967295GiB", wrong: []string{"limit memory"}},
		"a negative size":            {list: "memory=-1", wrong: []string{"limit memory"}},
		"a limit twice":              {list: "streams=1,streams=2", wrong: []string{"limit streams is there twice"}},
		"a stream's window above its connection's": {
			list: "stream-window=2MiB", wrong: []string{"limit connection-window is below stream-window"},
		},
		"all that is wrong is told": {list: "a=1,streams=x", wrong: []string{`"a"`, "limit streams"}},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := limits.Parse(c.list)
			if (err == nil) != (c.wrong == nil) {
				t.Fatal(err)
			}
			for _, part := range c.wrong {
				if !strings.Contains(err.Error(), part) {
					t.Errorf("error %q lacks %q", err, part)
				}
			}
			want := limits.Default()
			if c.want != nil {
				c.want(&want)
			}
			if err == nil && got != want {
				t.Errorf("got %+v", got)
			}
		})
	}
}

func FuzzParse(f *testing.F) {
	f.Add("header-bytes=64KiB,streams=100,idle=5m")
	f.Add("memory=,=,connections-per-source=0")
	f.Fuzz(func(t *testing.T, list string) {
		set, err := limits.Parse(list)
		if err != nil {
			return
		}
		var items []string
		for _, l := range limits.All() {
			items = append(items, string(l.Name)+"="+l.Format(l.Of(&set)))
		}
		if again, err := limits.Parse(strings.Join(items, ",")); err != nil || again != set {
			t.Errorf("%q: %v, %+v then %+v", list, err, set, again)
		}
	})
}

func TestZeroMeansTheDefault(t *testing.T) {
	got := limits.Set{Grace: 1, Streams: 7}.WithDefaults()
	want := limits.Default()
	want.Grace, want.Streams = 1, 7
	if got != want {
		t.Errorf("got %+v", got)
	}
}

func TestWhoeverIsRefusedIsToldWhichLimitItWas(t *testing.T) {
	set := limits.Set{HeaderBytes: 64 << 10}
	if got := set.Over(limits.HeaderBytes); !strings.HasPrefix(got, "limit header-bytes=64KiB: ") || !strings.Contains(got, "raised") {
		t.Error(got)
	}
	if got := set.Over("other"); got != "limit other" {
		t.Error(got)
	}
	limits.Nop{}.Exceeded(limits.Streams)
}

// The docs list the table, row by row.
func TestDocs(t *testing.T) {
	page, err := os.ReadFile("../../docs/limits.md")
	if err != nil {
		t.Fatal(err)
	}
	var want strings.Builder
	for _, l := range limits.All() {
		def := l.Format(l.Default)
		if l.Default == 0 {
			def = "none"
		}
		fmt.Fprintf(&want, "| `%s` | %s | %s | %s | %s |\n", l.Name, def, strings.TrimPrefix(l.Range(), "0 (no limit), or "), l.What, l.Over)
	}
	if !strings.Contains(string(page), want.String()) {
		t.Errorf("docs/limits.md lacks this table:\n%s", want.String())
	}
}

func TestBudget(t *testing.T) {
	b := limits.NewBudget(100)
	if !b.Take(60) || b.Take(41) || !b.Take(40) || b.Held() != 100 || !b.Full() {
		t.Errorf("%d held", b.Held())
	}
	b.Must(50)
	b.Give(60)
	if b.Take(11) || !b.Take(10) || b.Held() != 100 {
		t.Errorf("%d held", b.Held())
	}
	var none *limits.Budget
	none.Must(1)
	none.Give(1)
	if !none.Take(math.MaxInt) || none.Full() || none.Held() != 0 {
		t.Error("what is no budget has an end")
	}
}

func TestABudgetIsNeverOverdrawn(t *testing.T) {
	b := limits.NewBudget(10)
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for range 1000 {
				if b.Take(4) {
					b.Give(4)
				}
			}
		})
	}
	wg.Wait()
	if b.Held() != 0 {
		t.Errorf("%d held in the end", b.Held())
	}
}
