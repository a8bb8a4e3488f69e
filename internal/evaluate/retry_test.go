// SPDX-License-Identifier: Apache-2.0

package evaluate

import (
	"math"
	"math/rand/v2"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/heddle-mesh/heddle/internal/meshconfig"
)

const (
	connectFailure = meshconfig.RetryCondition_RETRY_CONDITION_CONNECT_FAILURE
	refused        = meshconfig.RetryCondition_RETRY_CONDITION_REFUSED_STREAM
	broke          = meshconfig.RetryCondition_RETRY_CONDITION_RESET
	late           = meshconfig.RetryCondition_RETRY_CONDITION_TIMEOUT
	always         = meshconfig.Idempotency_IDEMPOTENCY_ALWAYS
	never          = meshconfig.Idempotency_IDEMPOTENCY_NEVER
)

func retry(tb testing.TB, m *meshconfig.Retry) *Retry {
	tb.Helper()
	r, err := newRetry(m)
	if err != nil {
		tb.Fatal(err)
	}
	return r
}

func TestWants(t *testing.T) {
	on := func(c ...meshconfig.RetryCondition) *meshconfig.Retry { return &meshconfig.Retry{On: c} }
	codes := &meshconfig.Retry{Codes: []uint32{400, 463, 464, 503, 599}, GrpcCodes: []uint32{1, 14, 16}}
	cases := map[string]struct {
		retry   *meshconfig.Retry
		outcome Outcome
		want    bool
	}{
		"no connection, which is listed":           {on(connectFailure), Outcome{Failure: connectFailure}, true},
		"no connection, which is not":              {on(refused, broke, late), Outcome{Failure: connectFailure}, false},
		"refused, which is listed":                 {on(refused), Outcome{Failure: refused}, true},
		"broken, which is listed":                  {on(connectFailure, broke), Outcome{Failure: broke}, true},
		"broken, which is not":                     {on(refused), Outcome{Failure: broke}, false},
		"late, which is listed":                    {on(late), Outcome{Failure: late}, true},
		"late, which is not":                       {on(broke), Outcome{Failure: late}, false},
		"a code that is listed":                    {codes, Outcome{Status: 503}, true},
		"the first code":                           {codes, Outcome{Status: 400}, true},
		"a code at the end of a word":              {codes, Outcome{Status: 463}, true},
		"a code at the start of a word":            {codes, Outcome{Status: 464}, true},
		"the last code":                            {codes, Outcome{Status: 599}, true},
		"a code that is not":                       {codes, Outcome{Status: 502}, false},
		"a success":                                {codes, Outcome{Status: 200}, false},
		"a code beyond HTTP":                       {codes, Outcome{Status: 600}, false},
		"a code of gRPC that is listed":            {codes, Outcome{Status: 200, GRPC: 14}, true},
		"the last code of gRPC":                    {codes, Outcome{Status: 200, GRPC: 16}, true},
		"a code of gRPC that is not":               {codes, Outcome{Status: 200, GRPC: 13}, false},
		"a code beyond gRPC":                       {codes, Outcome{Status: 200, GRPC: 46}, false},
		"a code below gRPC":                        {codes, Outcome{Status: 200, GRPC: -1}, false},
		"a failure has no code":                    {codes, Outcome{Failure: broke, Status: 503}, false},
		"nothing is listed":                        {&meshconfig.Retry{}, Outcome{Failure: connectFailure}, false},
		"nothing is listed, and an answer of 503":  {&meshconfig.Retry{}, Outcome{Status: 503}, false},
		"no connection, by default":                {nil, Outcome{Failure: connectFailure}, true},
		"refused, by default":                      {nil, Outcome{Failure: refused}, true},
		"broken, by default":                       {nil, Outcome{Failure: broke}, true},
		"late, by default":                         {nil, Outcome{Failure: late}, false},
		"an answer of 503, by default":             {nil, Outcome{Status: 503}, false},
		"an answer of gRPC unavailable by default": {nil, Outcome{Status: 200, GRPC: 14}, false},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			r := Unrouted().Retry
			if c.retry != nil {
				r = retry(t, c.retry)
			}
			if got := r.Wants(c.outcome); got != c.want {
				t.Errorf("got %v, want %v", got, c.want)
			}
		})
	}
}

func TestSafe(t *testing.T) {
	keyed := HeaderList{{"Idempotency-Key", "k"}}
	cases := map[string]struct {
		idempotency meshconfig.Idempotency
		outcome     Outcome
		method      string
		headers     Headers
		want        bool
	}{
		"a GET that broke":                                   {0, Outcome{Failure: broke}, "GET", nil, true},
		"a PUT that broke":                                   {0, Outcome{Failure: broke}, "PUT", nil, true},
		"a DELETE that was late":                             {0, Outcome{Failure: late}, "DELETE", nil, true},
		"a HEAD, OPTIONS or TRACE that got 503":              {0, Outcome{Status: 503}, "HEAD", nil, true},
		"a POST that broke":                                  {0, Outcome{Failure: broke}, "POST", nil, false},
		"a POST that was late":                               {0, Outcome{Failure: late}, "POST", nil, false},
		"a POST that got 503":                                {0, Outcome{Status: 503}, "POST", nil, false},
		"a PATCH that got UNAVAILABLE":                       {0, Outcome{Status: 200, GRPC: 14}, "PATCH", nil, false},
		"a method that nobody knows":                         {0, Outcome{Failure: broke}, "get", nil, false},
		"a POST that found no connection":                    {0, Outcome{Failure: connectFailure}, "POST", nil, true},
		"a POST that was refused":                            {0, Outcome{Failure: refused}, "POST", nil, true},
		"a POST with a key that broke":                       {0, Outcome{Failure: broke}, "POST", keyed, true},
		"a POST with an empty key that broke":                {0, Outcome{Failure: broke}, "POST", HeaderList{{"Idempotency-Key", ""}}, false},
		"a POST of a route that says always":                 {always, Outcome{Failure: broke}, "POST", nil, true},
		"a GET of a route that says never":                   {never, Outcome{Failure: broke}, "GET", keyed, false},
		"a GET of a route that says never, that was refused": {never, Outcome{Failure: refused}, "GET", nil, true},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			r := retry(t, &meshconfig.Retry{Idempotency: c.idempotency})
			if got := r.Safe(c.outcome, &Request{Method: c.method, Headers: c.headers}); got != c.want {
				t.Errorf("got %v, want %v", got, c.want)
			}
		})
	}
}

func TestUnroutedRetriesOnceAtOnce(t *testing.T) {
	r := Unrouted().Retry
	if wait, ok := r.Backoff(1, math.MaxUint64, Advice{}); r.Attempts != 1 || wait != 0 || !ok {
		t.Errorf("got %d attempts, after %v, %v", r.Attempts, wait, ok)
	}
	if r.Safe(Outcome{Failure: broke}, &Request{Method: "POST"}) {
		t.Error("a POST that may have been delivered is sent again")
	}
}

func TestReadAdvice(t *testing.T) {
	in := func(d time.Duration) string { return epoch.Add(d).UTC().Format(http.TimeFormat) }
	lines := func(pairs ...string) (l HeaderList) {
		for i := 0; i < len(pairs); i += 2 {
			l = append(l, HeaderField{pairs[i], pairs[i+1]})
		}
		return l
	}
	const pushback = "Grpc-Retry-Pushback-Ms"
	no := Advice{Never: true}
	cases := map[string]struct {
		headers Headers
		want    Advice
	}{
		"no headers":                             {nil, Advice{}},
		"none of both":                           {lines("a", "b"), Advice{}},
		"seconds":                                {lines("Retry-After", "3"), Advice{After: 3 * time.Second}},
		"seconds with zeros before":              {lines("Retry-After", "003"), Advice{After: 3 * time.Second}},
		"seconds that are none":                  {lines("Retry-After", "0"), Advice{}},
		"negative seconds are no seconds":        {lines("Retry-After", "-3"), Advice{}},
		"parts of seconds are no seconds":        {lines("Retry-After", "1.5"), Advice{}},
		"an empty value":                         {lines("Retry-After", ""), Advice{}},
		"more seconds than fit":                  {lines("Retry-After", strings.Repeat("9", 40)), Advice{After: maxDigits * time.Second}},
		"a date":                                 {lines("Retry-After", in(5*time.Second)), Advice{After: 5 * time.Second}},
		"a date of RFC 850":                      {lines("Retry-After", epoch.Add(time.Minute).UTC().Format("Monday, 02-Jan-06 15:04:05 GMT")), Advice{After: time.Minute}},
		"a date of asctime":                      {lines("Retry-After", epoch.Add(time.Minute).UTC().Format(time.ANSIC)), Advice{After: time.Minute}},
		"a date that is over":                    {lines("Retry-After", in(-time.Hour)), Advice{}},
		"a date that is none":                    {lines("Retry-After", "tomorrow"), Advice{}},
		"pushback":                               {lines(pushback, "250"), Advice{After: 250 * time.Millisecond}},
		"pushback of 0":                          {lines(pushback, "0"), Advice{}},
		"pushback before Retry-After":            {lines("Retry-After", "9", pushback, "250"), Advice{After: 250 * time.Millisecond}},
		"negative pushback forbids":              {lines(pushback, "-1"), no},
		"pushback that is none forbids":          {lines(pushback, "soon"), no},
		"empty pushback forbids":                 {lines(pushback, ""), no},
		"pushback with a sign forbids":           {lines(pushback, "+5"), no},
		"pushback twice forbids":                 {lines(pushback, "5", pushback, "6"), Advice{After: 5 * time.Millisecond, Never: true}},
		"more pushback than fits is a long time": {lines(pushback, strings.Repeat("9", 40)), Advice{After: maxDigits * time.Millisecond}},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			if got := ReadAdvice(c.headers, epoch); got != c.want {
				t.Errorf("got %+v, want %+v", got, c.want)
			}
		})
	}
}

func TestBackoff(t *testing.T) {
	r := retry(t, &meshconfig.Retry{BackoffBase: 25, BackoffMax: 250})
	cases := map[string]struct {
		n      int
		random uint64
		advice Advice
		want   time.Duration
		ok     bool
	}{
		"the least":                          {1, 0, Advice{}, 0, true},
		"the most before the first":          {1, math.MaxUint64, Advice{}, 25 * time.Millisecond, true},
		"half of it":                         {1, 1 << 63, Advice{}, 12500 * time.Microsecond, true},
		"the most before the second":         {2, math.MaxUint64, Advice{}, 50 * time.Millisecond, true},
		"the most before the fourth":         {4, math.MaxUint64, Advice{}, 200 * time.Millisecond, true},
		"the most before the fifth":          {5, math.MaxUint64, Advice{}, 250 * time.Millisecond, true},
		"the most before any":                {1 << 40, math.MaxUint64, Advice{}, 250 * time.Millisecond, true},
		"never before what is asked for":     {1, 0, Advice{After: time.Second}, time.Second, true},
		"and not all at once":                {1, math.MaxUint64, Advice{After: time.Second}, 1025 * time.Millisecond, true},
		"as long as is borne":                {1, 0, Advice{After: MaxRetryAfter}, MaxRetryAfter, true},
		"longer than is borne":               {1, 0, Advice{After: MaxRetryAfter + 1}, 0, false},
		"what is forbidden is not done":      {1, 0, Advice{Never: true}, 0, false},
		"and neither is what is asked, then": {1, 0, Advice{Never: true, After: time.Second}, 0, false},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			if got, ok := r.Backoff(c.n, c.random, c.advice); got != c.want || ok != c.ok {
				t.Errorf("got %v, %v, want %v, %v", got, ok, c.want, c.ok)
			}
		})
	}
}

func TestBackoffIsUniform(t *testing.T) {
	r := retry(t, &meshconfig.Retry{BackoffBase: 100, BackoffMax: 100})
	random := rand.New(rand.NewPCG(3, 4))
	counts := make([]float64, 10)
	const n = 100_000
	for range n {
		wait, _ := r.Backoff(1, random.Uint64(), Advice{})
		counts[min(9, int(wait/(10*time.Millisecond)))]++
	}
	checkShares(t, counts, []float64{1, 1, 1, 1, 1, 1, 1, 1, 1, 1})
}

func TestNewRetryRefuses(t *testing.T) {
	cases := map[string]struct {
		retry *meshconfig.Retry
		want  string
	}{
		"too many attempts":         {&meshconfig.Retry{Attempts: 11}, "attempts: 11"},
		"no condition":              {&meshconfig.Retry{On: []meshconfig.RetryCondition{broke, 0}}, "on[1]: unknown condition 0"},
		"an unknown condition":      {&meshconfig.Retry{On: []meshconfig.RetryCondition{5}}, "on[0]: unknown condition 5"},
		"a negative condition":      {&meshconfig.Retry{On: []meshconfig.RetryCondition{-1}}, "on[0]: unknown condition -1"},
		"a success":                 {&meshconfig.Retry{Codes: []uint32{503, 200}}, "codes[1]: 200"},
		"a code beyond HTTP":        {&meshconfig.Retry{Codes: []uint32{600}}, "codes[0]: 600"},
		"the OK of gRPC":            {&meshconfig.Retry{GrpcCodes: []uint32{0}}, "grpc_codes[0]: 0"},
		"a code beyond gRPC":        {&meshconfig.Retry{GrpcCodes: []uint32{17}}, "grpc_codes[0]: 17"},
		"an unknown idempotency":    {&meshconfig.Retry{Idempotency: 9}, "idempotency: unknown value 9"},
		"a negative base":           {&meshconfig.Retry{BackoffBase: -1}, "backoff_base"},
		"a maximum beyond time":     {&meshconfig.Retry{BackoffMax: math.MaxInt64}, "backoff_max"},
		"a maximum below the base":  {&meshconfig.Retry{BackoffBase: 25, BackoffMax: 24}, "backoff_max: 24ms is below"},
		"a base without a maximum ": {&meshconfig.Retry{BackoffBase: 25}, "backoff_max: 0s is below"},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			if _, err := newRetry(c.retry); err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("got error %v, want one that holds %q", err, c.want)
			}
		})
	}
}

// FuzzReadAdvice compares with packages strconv and http.
func FuzzReadAdvice(f *testing.F) {
	for _, s := range []string{"3", "-1", "", "1e3", "0x10", "99999999999999999999", "Sun, 06 Nov 1994 08:49:37 GMT", "Sunday, 06-Nov-94 08:49:37 GMT", "Sun Nov  6 08:49:37 1994", "+5", "1_0"} {
		f.Add(s)
	}
	r := retry(f, &meshconfig.Retry{BackoffBase: 25, BackoffMax: 250})
	f.Fuzz(func(t *testing.T, value string) {
		after := ReadAdvice(HeaderList{{"retry-after", value}}, epoch)
		pushback := ReadAdvice(HeaderList{{"grpc-retry-pushback-ms", value}}, epoch)
		value = strings.Trim(value, " \t")
		var want time.Duration
		number := value != "" && strings.Trim(value, "0123456789") == ""
		n, err := strconv.ParseInt(value, 10, 64)
		if err != nil || n > maxDigits {
			n = maxDigits
		}
		if date, err := http.ParseTime(value); number {
			want = time.Duration(n) * time.Second
		} else if err == nil {
			want = max(0, date.Sub(epoch))
		}
		if after.Never || after.After != want {
			t.Errorf("Retry-After %q: got %+v, want %v", value, after, want)
		}
		if pushback.Never == number || number && pushback.After != time.Duration(n)*time.Millisecond {
			t.Errorf("pushback %q: got %+v", value, pushback)
		}
		if wait, ok := r.Backoff(1, math.MaxUint64, after); ok && (wait < want || wait > MaxRetryAfter+250*time.Millisecond) {
			t.Errorf("Retry-After %q: waits %v", value, wait)
		}
	})
}
