// SPDX-License-Identifier: Apache-2.0

package forward

import (
	"math"
	"testing"
	"time"
)

func TestTimeoutsOfGRPCAreReadStrictly(t *testing.T) {
	for text, want := range map[string]time.Duration{
		"1H": time.Hour, "2M": 2 * time.Minute, "3S": 3 * time.Second, "4m": 4 * time.Millisecond, "5u": 5 * time.Microsecond, "6n": 6,
		"99999999S": 99_999_999 * time.Second, "99999999H": math.MaxInt64, "0m": 0, "007S": 7 * time.Second,
	} {
		if got, ok := parseTimeout(text); !ok || got != want {
			t.Errorf("%s: %v, %v; want %v", text, got, ok, want)
		}
	}
	for _, text := range []string{"", "1", "S", "123456789S", "-1S", "+1S", "1.5S", "1s", "1 S", " 1S", "1SS", "0x1S"} {
		if got, ok := parseTimeout(text); ok {
			t.Errorf("%q: %v", text, got)
		}
	}
}

func TestTimeoutsOfGRPCAreWrittenAsTheyAreRead(t *testing.T) {
	for d, want := range map[time.Duration]string{
		0: "0u", 999: "0u", 1500 * time.Microsecond: "1500u", 99 * time.Second: "99000000u", 100 * time.Second: "100000m",
		24 * time.Hour: "86400000m", 48 * time.Hour: "172800S", 40_000 * time.Hour: "2400000M", math.MaxInt64: "2562047H",
	} {
		got := formatTimeout(d)
		back, ok := parseTimeout(got)
		if !ok || back > d || len(got) > 9 {
			t.Errorf("%v: %s, which is read as %v, %v", d, got, back, ok)
		}
		if d < math.MaxInt64 && got != want {
			t.Errorf("%v: %s, want %s", d, got, want)
		}
	}
}
