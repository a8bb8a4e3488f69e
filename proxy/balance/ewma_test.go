// SPDX-License-Identifier: Apache-2.0

package balance

import (
	"math"
	"testing"
	"time"

	"github.com/heddle-mesh/heddle/proxy/upstream"
)

func TestEWMA(t *testing.T) {
	const ms = time.Millisecond
	type sample struct {
		at      time.Duration
		latency time.Duration
		failed  bool
	}
	several := func(n int, s sample, every time.Duration) []sample {
		var list []sample
		for range n {
			list = append(list, s)
			s.at += every
		}
		return list
	}
	cases := map[string]struct {
		samples []sample
		at      time.Duration
		want    time.Duration
	}{
		"nothing is known at first":              {},
		"the first latency is taken":             {[]sample{{0, 10 * ms, false}}, 0, 10 * ms},
		"a peak is taken at once":                {[]sample{{0, 10 * ms, false}, {ms, 200 * ms, false}}, ms, 200 * ms},
		"what is lower comes slowly":             {[]sample{{0, 100 * ms, false}, {time.Second, 10 * ms, false}}, time.Second, 91435 * time.Microsecond},
		"it fades while nothing is learnt":       {[]sample{{0, 100 * ms, false}}, decay, 36788 * time.Microsecond},
		"it fades to nothing":                    {[]sample{{0, 100 * ms, false}}, 20 * decay, 0},
		"a fast failure is slow":                 {[]sample{{0, 10 * ms, false}, {time.Second, ms, true}}, time.Second, 484862 * time.Microsecond},
		"so is one at the same time":             {[]sample{{0, 10 * ms, false}, {0, ms, true}}, 0, 14988 * time.Microsecond},
		"failures alone come near the penalty":   {several(100, sample{0, ms, true}, time.Second), 99 * time.Second, 4999800 * time.Microsecond},
		"a slow failure is as slow as it was":    {[]sample{{0, ms, false}, {100 * decay, 8 * time.Second, true}}, 100 * decay, 8 * time.Second},
		"a first failure is not the whole truth": {[]sample{{0, ms, true}}, 0, 500 * ms},
		"a sample that comes late is no day old": {[]sample{{time.Second, 100 * ms, false}, {0, ms, false}}, time.Second, 100 * ms},
		"a day later nothing is left":            {[]sample{{0, 100 * ms, false}, {24 * time.Hour, 10 * ms, false}}, 24 * time.Hour, 10 * ms},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			var e ewma
			for _, s := range c.samples {
				e.learn(s.latency, s.failed, start+int64(s.at))
			}
			got := float64(e.at(start + int64(c.at)))
			if want := float64(c.want); math.Abs(got-want) > want/500 {
				t.Errorf("%v, want %v", time.Duration(got), c.want)
			}
		})
	}
}

func TestWhatNobodyHasWaitedFor(t *testing.T) {
	const ms = time.Millisecond
	cases := map[string]struct {
		known  time.Duration // what was learnt at the start; 0: nothing
		at     time.Duration // when somebody gives up, and when it is asked what is known
		waited time.Duration
		want   time.Duration
	}{
		"it takes at least as long":                {10 * ms, time.Second, 900 * ms, 900 * ms},
		"what takes longer anyway stays":           {2 * time.Second, 0, time.Second, 2 * time.Second},
		"what has faded comes back":                {time.Second, 2 * time.Second, time.Second, time.Second},
		"who is in a hurry shows nothing":          {100 * ms, decay, ms, 36788 * time.Microsecond},
		"it is learnt where nothing is known":      {0, 0, time.Second, time.Second},
		"but not of who was in a hurry":            {0, 0, 9 * ms, 0},
		"nor where all was forgotten":              {ms, 20 * decay, ms, 0},
		"a silent stream is no worse than failing": {10 * ms, time.Hour, time.Hour, penalty},
		"who comes late is no day old":             {10 * ms, -time.Second, time.Second, time.Second},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			var e ewma
			if c.known > 0 {
				e.learn(c.known, false, start)
			}
			e.exceeds(c.waited, start+int64(c.at))
			got := float64(e.at(start + int64(c.at)))
			if want := float64(c.want); math.Abs(got-want) > want/500 {
				t.Errorf("%v, want %v", time.Duration(got), c.want)
			}
		})
	}
}

// One of three endpoints hangs, and no timeout is set: callers leave after a second.
func TestAnEndpointThatHangsDoesNotComeToLookFast(t *testing.T) {
	const every, patience, answers = 10 * time.Millisecond, time.Second, 10 * time.Millisecond
	s := set(Options{Policy: policies["PeakEWMA"]}, members(3)...)
	hangs := s.ready[0].Endpoint
	type request struct {
		pick Pick
		ends int64
	}
	var fast, stuck []request // those that end first are the first
	done := func(list []request, outcome Outcome, takes time.Duration, now int64) []request {
		for len(list) > 0 && list[0].ends <= now {
			list[0].pick.Done(outcome, takes, list[0].ends)
			list = list[1:]
		}
		return list
	}
	total, bad := 0, 0
	for now := start; now < start+120*second; now += int64(every) {
		fast, stuck = done(fast, Success, answers, now), done(stuck, Abandoned, patience, now)
		pick, _ := s.Pick(ask(now))
		total++
		if pick.Endpoint == hangs && now > start+10*second {
			bad++
			stuck = append(stuck, request{pick, now + int64(patience)})
			continue
		}
		fast = append(fast, request{pick, now + int64(answers)})
	}
	if bad == 0 || bad > total/100 {
		t.Errorf("it gets %d of %d requests, want some, and at most one in a hundred", bad, total)
	}
}

// spread lets each of a Set's endpoints answer as told, one request after the other, and says how often each was picked.
func spread(t *testing.T, answers ...func() (Outcome, time.Duration)) []int {
	t.Helper()
	m := members(len(answers))
	s := set(Options{Policy: policies["PeakEWMA"]}, m...)
	index := map[*upstream.Endpoint]int{}
	for i, m := range s.ready {
		index[m.Endpoint] = i
	}
	counts := make([]int, len(answers))
	now := start
	for range 4000 {
		now += int64(5 * time.Millisecond)
		pick, _ := s.Pick(ask(now))
		i := index[pick.Endpoint]
		counts[i]++
		outcome, latency := answers[i]()
		pick.Done(outcome, latency, now+int64(latency))
	}
	return counts
}

func TestPeakEWMAPrefersWhoAnswersSoon(t *testing.T) {
	answer := func(o Outcome, latency time.Duration) func() (Outcome, time.Duration) {
		return func() (Outcome, time.Duration) { return o, latency }
	}
	good := answer(Success, 10*time.Millisecond)
	for name, bad := range map[string]func() (Outcome, time.Duration){
		"a slow one": answer(Success, 200*time.Millisecond), "one that fails fast": answer(Failure, time.Millisecond),
		"one that hangs": answer(Abandoned, time.Second),
	} {
		t.Run(name, func(t *testing.T) {
			counts := spread(t, good, good, good, bad)
			if counts[3] > 4000/50 || counts[3] == 0 {
				t.Errorf("it gets %d of 4000 requests, want some and fewer than 80", counts[3])
			}
		})
	}
	if counts := spread(t, answer(Neutral, 0), answer(Neutral, 0)); counts[0] < 1800 || counts[1] < 1800 {
		t.Errorf("%v: who says nothing is known, want halves", counts)
	}
}
