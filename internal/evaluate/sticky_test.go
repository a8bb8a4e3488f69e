// SPDX-License-Identifier: Apache-2.0

package evaluate

import (
	"math"
	"math/bits"
	"math/rand/v2"
	"net/http"
	"net/netip"
	"strconv"
	"strings"
	"testing"

	"github.com/heddle-mesh/heddle/internal/meshconfig"
)

var address = netip.MustParseAddr("10.0.0.7")

// checkShares asserts by a chi-square test that counts are as likely as the weights say. Seeds are fixed: it errs never or
// always, with a probability of 3e-7.
func checkShares(t *testing.T, counts, weights []float64) {
	t.Helper()
	var n, total, sum float64
	freedom := -1.0
	for i := range counts {
		n, total = n+counts[i], total+weights[i]
	}
	for i, w := range weights {
		if w == 0 {
			if counts[i] != 0 {
				t.Errorf("%d of weight 0 got %v", i, counts[i])
			}
			continue
		}
		freedom++
		expected := n * w / total
		sum += (counts[i] - expected) * (counts[i] - expected) / expected
	}
	if freedom == 0 {
		return
	}
	// Wilson and Hilferty's approximation of the quantile at five standard deviations.
	limit := freedom * math.Pow(1-2/(9*freedom)+5*math.Sqrt(2/(9*freedom)), 3)
	if sum > limit {
		t.Errorf("chi-square is %.1f of at most %.1f: %v for weights %v", sum, limit, counts, weights)
	}
}

func split(tb testing.TB, w ...uint32) *Split {
	tb.Helper()
	s, err := newSplit(weights(w...))
	if err != nil {
		tb.Fatal(err)
	}
	return s
}

// keyHash is that of the i-th user: names that differ little.
func keyHash(i int) uint64 { return mix(hashString(fnvOffset, "user-"+strconv.Itoa(i))) }

func TestSticksByTheShares(t *testing.T) {
	cases := map[string][]uint32{
		"halves":             {1, 1},
		"a canary":           {90, 10},
		"a share of 0.1 %":   {999, 1},
		"weights of 0":       {0, 5, 0, 5, 0},
		"three":              {50, 30, 20},
		"uneven":             {1_000_000, 333_333, 20_000, 1},
		"many":               {1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16},
		"one that takes all": {0, 1},
	}
	for name, w := range cases {
		t.Run(name, func(t *testing.T) {
			s := split(t, w...)
			counts, shares := make([]float64, len(w)), make([]float64, len(w))
			for i := range w {
				shares[i] = float64(w[i])
			}
			for i := range 100_000 {
				counts[s.stick(keyHash(i))]++
			}
			if name == "uneven" { // one in a million is too rare for chi-square
				counts, shares = counts[:3], shares[:3]
			}
			checkShares(t, counts, shares)
		})
	}
	if got := split(t, 0, 0).stick(1); got != -1 {
		t.Errorf("of no weights it sticks to %d", got)
	}
}

// moves counts the keys that two splits send to others, from backend to backend.
func moves(before, after *Split, n int) map[[2]int]float64 {
	moved := map[[2]int]float64{}
	for i := range n {
		if from, to := before.stick(keyHash(i)), after.stick(keyHash(i)); from != to {
			moved[[2]int{from, to}]++
		}
	}
	return moved
}

func sum(w []uint32) (total float64) {
	for _, x := range w {
		total += float64(x)
	}
	return total
}

func checkRate(t *testing.T, what string, count, n, p float64) {
	t.Helper()
	if sigma := math.Sqrt(n * p * (1 - p)); math.Abs(count-n*p) > 5*sigma+1e-9 {
		t.Errorf("%s: %.0f of %.0f, want %.0f +- %.0f", what, count, n, n*p, 5*sigma)
	}
}

func TestOfTwoBackendsExactlyTheShareThatMustMoveMoves(t *testing.T) {
	r := rand.New(rand.NewPCG(5, 6))
	cases := [][4]uint32{{100, 0, 90, 10}, {90, 10, 10, 90}, {0, 1, 1, 0}, {3, 7, 30, 70}, {999_999, 1, 999_998, 2}, {50, 50, 50, 51}}
	for range 20 {
		cases = append(cases, [4]uint32{1 + r.Uint32N(1000), r.Uint32N(1000), 1 + r.Uint32N(1000), r.Uint32N(1000)})
	}
	const n = 20_000
	for _, c := range cases {
		before, after := c[:2], c[2:]
		moved := moves(split(t, before...), split(t, after...), n)
		grows := float64(after[0])/sum(after) - float64(before[0])/sum(before) // the share of the first
		if wrong := moved[[2]int{0, 1}]; grows >= 0 && wrong != 0 {
			t.Errorf("%v -> %v: %v leave the first, which takes more", before, after, wrong)
		}
		if wrong := moved[[2]int{1, 0}]; grows <= 0 && wrong != 0 {
			t.Errorf("%v -> %v: %v leave the second, which takes more", before, after, wrong)
		}
		checkRate(t, "moved", moved[[2]int{0, 1}]+moved[[2]int{1, 0}], n, math.Abs(grows))
	}
}

// distances returns which share of the keys must move at least when weights change, and which share does by weighted
// rendezvous hashing: 1 less the probability Jaccard index, which no hashing without memory betters for every change
// (Moulton and Jiang, "Maximally Consistent Sampling and the Jaccard Index of Probability Distributions", 2018).
func distances(before, after []uint32) (must, does float64) {
	a, b := sum(before), sum(after)
	does = 1
	for i := range before {
		p, q := float64(before[i])/a, float64(after[i])/b
		must += max(0, q-p)
		if p == 0 || q == 0 {
			continue
		}
		against := 0.0
		for j := range before {
			against += max(float64(before[j])/a/p, float64(after[j])/b/q)
		}
		does -= 1 / against
	}
	return must, does
}

func TestOfManyBackendsOnlyTheShareThatMustMoveMoves(t *testing.T) {
	const n = 20_000
	r := rand.New(rand.NewPCG(7, 8))
	for range 30 {
		before := make([]uint32, 3+r.IntN(4))
		for i := range before {
			before[i] = 1 + r.Uint32N(100)
		}
		after := append([]uint32(nil), before...)
		changed := r.IntN(len(before))
		after[changed] = r.Uint32N(200)
		must, does := distances(before, after)
		if math.Abs(must-does) > 1e-9 {
			t.Fatalf("%v -> %v: %v must move and %v does", before, after, must, does)
		}
		total := 0.0
		for way, count := range moves(split(t, before...), split(t, after...), n) {
			total += count
			into := after[changed] > before[changed]
			if into && way[1] != changed || !into && way[0] != changed {
				t.Errorf("%v -> %v: %v move from %d to %d", before, after, count, way[0], way[1])
			}
		}
		checkRate(t, "moved", total, n, must)
	}
}

func TestOfManyChangesNoMoreMoveThanTheoryHas(t *testing.T) {
	const n = 20_000
	r := rand.New(rand.NewPCG(9, 10))
	for range 30 {
		before, after := make([]uint32, 3+r.IntN(4)), []uint32(nil)
		for i := range before {
			before[i] = 1 + r.Uint32N(100)
			after = append(after, r.Uint32N(100))
		}
		after[0]++
		total := 0.0
		for _, count := range moves(split(t, before...), split(t, after...), n) {
			total += count
		}
		must, does := distances(before, after)
		if does > 2*must/(1+must)+1e-9 {
			t.Errorf("%v -> %v: %v must move and %v does", before, after, must, does)
		}
		checkRate(t, "moved", total, n, does)
	}
}

func TestDifferentServicesPutOthersIntoTheCanary(t *testing.T) {
	a, b := weights(1, 1), weights(1, 1)
	for i := range b {
		a[i].Service, b[i].Service = "cart.shop", "pay.shop"
	}
	one, err := newSplit(a)
	if err != nil {
		t.Fatal(err)
	}
	other, err := newSplit(b)
	if err != nil {
		t.Fatal(err)
	}
	const n = 20_000
	same := 0.0
	for i := range n {
		if one.stick(keyHash(i)) == other.stick(keyHash(i)) {
			same++
		}
	}
	checkRate(t, "in the same of both", same, n, 0.5)
}

// TestSticksEverywhereAlike holds values that every processor and version must find.
func TestSticksEverywhereAlike(t *testing.T) {
	s := split(t, 50, 30, 20)
	var got strings.Builder
	for i := range 40 {
		got.WriteByte("abc"[s.stick(keyHash(i))])
	}
	if want := "aacbacbcbbcaabcaaaabbacaababacbaaacaacbb"; got.String() != want {
		t.Errorf("got %s, want %s", got.String(), want)
	}
	for x, want := range map[uint64]uint64{1: 64 << logBits, 1 << 63: 1 << logBits, math.MaxUint64: 1, 3 << 62: 0x6a3fe5c604} {
		if got := negativeLog2(x); got-want > 1 { // the lowest bit counts as 1
			t.Errorf("-log2(%x) is %x, want %x", x, got, want)
		}
	}
}

func TestNegativeLog2(t *testing.T) {
	r := rand.New(rand.NewPCG(11, 12))
	previous := negativeLog2(1)
	for at := uint64(3); at < 1<<63; at += at/100 + 2 {
		got := negativeLog2(at)
		if got > previous+1 { // to within the last digit
			t.Errorf("it grows at %x", at)
		}
		previous = got
	}
	for range 10_000 {
		y := r.Uint64() | 1<<63
		if got, want := log2(y), log2ByDigits(y); got-want+1<<20 > 1<<21 {
			t.Errorf("log2(%x) is %x, digit by digit %x", y, got, want)
		}
		x := r.Uint64()>>r.Uint32N(60) | 1
		want := 64 - math.Log2(float64(x))
		if x > 1<<63 { // the difference of two large numbers, otherwise
			want = -math.Log1p(-float64(-x)/(1<<64)) / math.Ln2
		}
		if got := float64(negativeLog2(x)) / (1 << logBits); math.Abs(got-want) > 4.0/(1<<logBits) {
			t.Errorf("-log2(%x) is %v, want %v", x, got, want)
		}
	}
}

func TestOneInAMillionIsOneInAMillion(t *testing.T) {
	counts := [3]int{}
	choice := Choice{Split: split(t, 1, 999_998, 1)}
	for i := range uint64(1_000_000) {
		random, _ := bits.Div64(i, 0, 1_000_000) // a point of each millionth of all numbers
		backend, setCookie := choice.Pick(&Request{}, random+1)
		if counts[backend]++; setCookie {
			t.Fatal("a cookie without stickiness")
		}
	}
	if counts != [3]int{1, 999_998, 1} {
		t.Errorf("got %v", counts)
	}
}

func sticky(tb testing.TB, by meshconfig.Stickiness_By, name string, ttl int64, w ...uint32) Choice {
	tb.Helper()
	s, err := newStickiness(&meshconfig.Stickiness{By: by, Name: name, Ttl: ttl})
	if err != nil {
		tb.Fatal(err)
	}
	return Choice{Split: split(tb, w...), Stickiness: s}
}

func TestPickGoesByTheKey(t *testing.T) {
	const cookie, header, caller, ip = meshconfig.Stickiness_BY_COOKIE, meshconfig.Stickiness_BY_HEADER, meshconfig.Stickiness_BY_SOURCE_IDENTITY, meshconfig.Stickiness_BY_SOURCE_IP
	headers := func(name, value string) Request { return Request{Headers: HeaderList{{name, value}}} }
	cases := map[string]struct {
		choice  Choice
		request Request
		key     string // whose backend it is; "": it is drawn
		cookie  bool
	}{
		"a cookie":                              {sticky(t, cookie, "user", 0, 1, 1, 1), headers("Cookie", "a=b; user=ann"), "ann", false},
		"no cookie":                             {sticky(t, cookie, "user", 0, 1, 1, 1), Request{}, "", true},
		"another cookie":                        {sticky(t, cookie, "user", 0, 1, 1, 1), headers("Cookie", "USER=ann"), "", true},
		"an empty cookie":                       {sticky(t, cookie, "user", 0, 1, 1, 1), headers("Cookie", "user="), "", true},
		"no cookie where one backend takes all": {sticky(t, cookie, "user", 0, 0, 1, 0), Request{}, "", false},
		"a cookie where one backend takes all":  {sticky(t, cookie, "user", 0, 0, 1, 0), headers("Cookie", "user=ann"), "ann", false},
		"a header":                              {sticky(t, header, "X-User", 0, 1, 1, 1), headers("x-user", "ann"), "ann", false},
		"no header":                             {sticky(t, header, "X-User", 0, 1, 1, 1), Request{}, "", false},
		"the authority":                         {sticky(t, header, "Host", 0, 1, 1, 1), Request{Authority: "shop"}, "shop", false},
		"a caller":                              {sticky(t, caller, "", 0, 1, 1, 1), Request{Caller: &web}, "cluster.local/shop/web", false},
		"nobody":                                {sticky(t, caller, "", 0, 1, 1, 1), Request{}, "", false},
		"an address":                            {sticky(t, ip, "", 0, 1, 1, 1), Request{Source: address}, "\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\xff\xff\x0a\x00\x00\x07", false},
		"an address of IPv4 that came as of IPv6": {sticky(t, ip, "", 0, 1, 1, 1), Request{Source: netip.MustParseAddr("::ffff:10.0.0.7")}, "\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\xff\xff\x0a\x00\x00\x07", false},
		"no address": {sticky(t, ip, "", 0, 1, 1, 1), Request{}, "", false},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			seen := map[int]bool{}
			for i := range uint64(50) {
				backend, setCookie := c.choice.Pick(&c.request, mix(i))
				if seen[backend] = true; setCookie != c.cookie {
					t.Fatalf("sets a cookie: %v", setCookie)
				}
			}
			all := 0
			for _, b := range c.choice.Split.Backends() {
				if b.GetWeight() > 0 {
					all++
				}
			}
			if c.key == "" {
				if len(seen) != all {
					t.Errorf("of %d backends %v are drawn", all, seen)
				}
				return
			}
			if want := c.choice.Split.stick(mix(hashString(fnvOffset, c.key))); len(seen) != 1 || !seen[want] {
				t.Errorf("picks %v, want %d", seen, want)
			}
		})
	}
	if backend, setCookie := (&Choice{Split: split(t, 0, 0), Stickiness: cases["no cookie"].choice.Stickiness}).Pick(&Request{}, 1); backend != -1 || setCookie {
		t.Errorf("of no weights it picks %d, %v", backend, setCookie)
	}
}

func TestANewCookieLeadsToTheBackendThatWasPicked(t *testing.T) {
	choice := sticky(t, meshconfig.Stickiness_BY_COOKIE, "user", 0, 90, 9, 1)
	counts := make([]float64, 3)
	for i := range uint64(20_000) {
		random := mix(i)
		first, setCookie := choice.Pick(&Request{}, random)
		if !setCookie {
			t.Fatal("no cookie")
		}
		counts[first]++
		line := choice.Stickiness.SetCookie(random)
		pair, _, _ := strings.Cut(line, ";")
		again, setCookie := choice.Pick(&Request{Headers: HeaderList{{"cookie", "x=y; " + pair}}}, mix(i+1))
		if again != first || setCookie {
			t.Fatalf("%s leads to %d, %v, want %d", line, again, setCookie, first)
		}
	}
	checkShares(t, counts, []float64{90, 9, 1})
}

func TestSetCookie(t *testing.T) {
	for ttl, want := range map[int64]string{
		0:       "user=00000000000000ff; Path=/; HttpOnly; SameSite=Lax",
		1:       "user=00000000000000ff; Path=/; Max-Age=1; HttpOnly; SameSite=Lax",
		3600000: "user=00000000000000ff; Path=/; Max-Age=3600; HttpOnly; SameSite=Lax",
	} {
		choice := sticky(t, meshconfig.Stickiness_BY_COOKIE, "user", ttl, 1)
		got := choice.Stickiness.SetCookie(255)
		if got != want {
			t.Errorf("got %q, want %q", got, want)
		}
		if parsed, err := http.ParseSetCookie(got); err != nil || parsed.String() != want {
			t.Errorf("%q is read as %v, %v", got, parsed, err)
		}
	}
}

func TestNewStickinessRefuses(t *testing.T) {
	cases := map[string]struct {
		stickiness *meshconfig.Stickiness
		want       string
	}{
		"by nothing":                   {&meshconfig.Stickiness{}, "by: unknown value 0"},
		"by what it does not know":     {&meshconfig.Stickiness{By: 9}, "by: unknown value 9"},
		"a cookie without a name":      {&meshconfig.Stickiness{By: meshconfig.Stickiness_BY_COOKIE}, "name"},
		"a cookie that is no token":    {&meshconfig.Stickiness{By: meshconfig.Stickiness_BY_COOKIE, Name: "a;b"}, "name"},
		"a cookie that must be Secure": {&meshconfig.Stickiness{By: meshconfig.Stickiness_BY_COOKIE, Name: "__Host-a"}, "Secure"},
		"a header that is no token":    {&meshconfig.Stickiness{By: meshconfig.Stickiness_BY_HEADER, Name: ":path"}, "name"},
		"a negative ttl":               {&meshconfig.Stickiness{By: meshconfig.Stickiness_BY_COOKIE, Name: "a", Ttl: -1}, "ttl"},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			port := testPort()
			port.Stickiness = c.stickiness
			if _, err := NewRouter(port); err == nil || !strings.Contains(err.Error(), "stickiness: ") || !strings.Contains(err.Error(), c.want) {
				t.Errorf("got error %v, want one that holds %q", err, c.want)
			}
		})
	}
}

func TestConnectionsStickByTheirSourceAlone(t *testing.T) {
	for by, want := range map[meshconfig.Stickiness_By]bool{
		meshconfig.Stickiness_BY_COOKIE: false, meshconfig.Stickiness_BY_HEADER: false,
		meshconfig.Stickiness_BY_SOURCE_IDENTITY: true, meshconfig.Stickiness_BY_SOURCE_IP: true,
	} {
		port := testPort()
		port.Stickiness = &meshconfig.Stickiness{By: by, Name: "a"}
		router, err := NewRouter(port)
		if err != nil {
			t.Fatal(err)
		}
		if got := router.Connection().Stickiness != nil; got != want {
			t.Errorf("%v: got %v, want %v", by, got, want)
		}
		if router.Route(&Request{}).Stickiness == nil {
			t.Errorf("%v: a request does not stick", by)
		}
	}
}

func BenchmarkPick(b *testing.B) {
	request := &Request{Headers: &HeaderList{{"Accept", "*/*"}, {"Cookie", "a=b; user=1b671a64-40d5-491e-99b0-da01ff1f3341"}}}
	random := func(w ...uint32) Choice { return Choice{Split: split(b, w...)} }
	sixteen := []uint32{1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16}
	for name, choice := range map[string]Choice{
		"random/2":  random(90, 10),
		"random/16": random(sixteen...),
		"cookie/2":  sticky(b, meshconfig.Stickiness_BY_COOKIE, "user", 0, 90, 10),
		"cookie/16": sticky(b, meshconfig.Stickiness_BY_COOKIE, "user", 0, sixteen...),
		"new/2":     sticky(b, meshconfig.Stickiness_BY_COOKIE, "other", 0, 90, 10),
	} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				choice.Pick(request, 42)
			}
		})
	}
}
