// SPDX-License-Identifier: Apache-2.0

//go:build linux

package traffic

import (
	"testing"
	"time"

	"github.com/heddle-mesh/heddle/test/bench/epoll"
	"github.com/heddle-mesh/heddle/test/bench/stats"
)

// sink is a client that sends nothing: the test answers.
type sink struct{ sent []*slot }

func (s *sink) Data(*epoll.Conn, []byte)  {}
func (s *sink) Closed(*epoll.Conn, error) {}
func (s *sink) attach(*epoll.Conn)        {}
func (s *sink) issue(sl *slot)            { s.sent = append(s.sent, sl) }

// newTestGenerator has slots of one client, and a window that began and goes on for as long as the test wants.
func newTestGenerator(slots int, rate float64) (*generator, *sink) {
	client := &sink{}
	g := &generator{epoch: time.Now().Add(-time.Second), until: time.Hour, free: newRing(slots), active: slots}
	for range slots {
		s := &slot{client: client}
		g.slots = append(g.slots, s)
		g.free.push(s)
	}
	if rate > 0 {
		g.schedule = stats.NewSchedule(rate, 1)
	}
	return g, client
}

func TestAnOpenLoopCountsFromWhenARequestWasMeantToBeSent(t *testing.T) {
	g, client := newTestGenerator(1, 1000)
	g.sendDue(time.Hour) // a second has passed: some 1,000 are due, and there is one slot
	waiting := len(g.due)
	if waiting < 800 || len(client.sent) != 1 {
		t.Fatalf("%d wait, %d sent", waiting, len(client.sent))
	}
	first := client.sent[0].meant
	g.done(client.sent[0])
	if len(client.sent) != 2 || len(g.due) != waiting-1 {
		t.Errorf("an answer sends the next: %d sent, %d wait", len(client.sent), len(g.due))
	}
	if first > 100*time.Millisecond {
		t.Errorf("the first one was meant for %v", first)
	}
	// It was answered at once, but a second late.
	if got := g.latency.Quantile(1); got < 800*time.Millisecond {
		t.Errorf("its latency is %v: what it waited for a connection is left out", got)
	}
}

func TestWhatHasNoAnswerCountsAsLate(t *testing.T) {
	g, client := newTestGenerator(1, 100)
	g.sendDue(time.Hour)
	g.until = g.now()
	missing := int64(len(g.due) + len(client.sent))
	g.count()
	if g.result.Unfinished != missing || g.latency.Count() != missing {
		t.Errorf("%d unfinished, %d latencies, want %d", g.result.Unfinished, g.latency.Count(), missing)
	}
	if g.result.Requests != 0 {
		t.Error("they are no requests that were answered")
	}
}

func TestOnlyWhatWasMeantForTheWindowCounts(t *testing.T) {
	g, client := newTestGenerator(1, 100)
	g.from, g.until = 500*time.Millisecond, 600*time.Millisecond
	for meant, want := range map[time.Duration]int64{499 * time.Millisecond: 0, 500 * time.Millisecond: 1, 600 * time.Millisecond: 0} {
		g.result.Requests = 0
		g.send(g.free.pop(), meant)
		g.done(client.sent[len(client.sent)-1])
		if g.result.Requests != want {
			t.Errorf("meant for %v: %d counted, want %d", meant, g.result.Requests, want)
		}
	}
}

func TestAClosedLoopSendsOnEveryAnswerAndTakesTurns(t *testing.T) {
	g, client := newTestGenerator(4, 0)
	g.active = 2
	g.fill(g.now())
	if len(client.sent) != 2 {
		t.Fatalf("%d sent, want 2 under way", len(client.sent))
	}
	for n := range 6 {
		g.done(client.sent[n])
	}
	if len(client.sent) != 8 || g.result.Requests != 6 {
		t.Fatalf("%d sent, %d answered", len(client.sent), g.result.Requests)
	}
	for n, s := range client.sent {
		if s != g.slots[n%4] {
			t.Errorf("request %d isn't the turn of its slot", n)
		}
	}
	g.stopped = true
	g.done(client.sent[6])
	if len(client.sent) != 8 || g.result.Requests != 6 {
		t.Error("it goes on after the end")
	}
}

func TestRing(t *testing.T) {
	r := newRing(3)
	a, b, c := &slot{}, &slot{}, &slot{}
	for range 5 {
		r.push(a)
		r.push(b)
		r.push(c)
		if r.n != 3 || r.pop() != a || r.pop() != b || r.pop() != c || r.n != 0 {
			t.Fatal("not first in, first out")
		}
	}
}

func TestTheMachinesTimeIsAllButIdle(t *testing.T) {
	const stat = "cpu  100 20 30 4000 500 6 7 8 0 0\ncpu0 1 2 3 4 5 6 7 8 0 0\n"
	if got, want := busyTime(stat), 1710*time.Millisecond; got != want {
		t.Errorf("%v, want %v", got, want)
	}
	for _, wrong := range []string{"", "cpu 1 2\n", "intr 1 2 3 4 5 6 7 8 9\n", "cpu a b c d e f g h i\n"} {
		if got := busyTime(wrong); got != 0 {
			t.Errorf("%q: %v", wrong, got)
		}
	}
}
