// SPDX-License-Identifier: Apache-2.0

//go:build linux

package main

import (
	"encoding/json"
	"io"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/heddle-mesh/heddle/internal/limits"
	"github.com/heddle-mesh/heddle/test/bench/peers"
	"github.com/heddle-mesh/heddle/test/bench/traffic"
)

// newTestReport has two rounds of one work for some peers: the cost of each round in µs.
func newTestReport(costs map[string][]float64) *report {
	r := newReport(&run{options: &options{rounds: 2, peers: []string{"heddle", "haproxy", "nginx", "envoy"}}, out: io.Discard})
	for peer, rounds := range costs {
		for round, cost := range rounds {
			r.add(measurement{
				Peer: peer, Topology: peers.Pair, Work: works[1].Name, Round: round,
				Result: &traffic.Result{Requests: 1000, Elapsed: time.Second, Processor: time.Duration(cost*1000) * time.Microsecond},
			})
		}
	}
	return r
}

func TestTargetsAreJudgedRoundByRound(t *testing.T) {
	r := newTestReport(map[string][]float64{"heddle": {30, 60}, "haproxy": {40, 40}, "nginx": {30, 70}, "envoy": {100, 100}})
	verdicts := map[string]verdict{}
	for _, v := range r.verdicts() {
		verdicts[v.Target+" "+v.Limit] = v
	}
	// 30/30 and 60/40, not the ratio of the medians.
	first := verdicts[works[1].Name+": processor time per request at most 1.00 x the better of nginx and haproxy"]
	if first.Verdict != missed+tooFew || !strings.HasPrefix(first.Measured, "1.250 (1.000..1.500)") {
		t.Errorf("%+v", first)
	}
	if v := verdicts[works[1].Name+": processor time per request at most 0.50 x envoy"]; v.Verdict != met+tooFew {
		t.Errorf("%+v", v)
	}
	if v := verdicts[works[0].Name+": processor time per request at most 0.50 x envoy"]; v.Verdict != unmeasured || v.Measured != unmeasured {
		t.Errorf("what wasn't measured: %+v", v)
	}
	for target, v := range verdicts {
		if strings.Contains(target, "memory") && v.Verdict != unmeasured {
			t.Errorf("what wasn't measured: %+v", v)
		}
	}
}

func TestARoundWithErrorsHasNoValue(t *testing.T) {
	r := newTestReport(map[string][]float64{"heddle": {30}})
	r.add(measurement{Peer: "heddle", Topology: peers.Pair, Work: works[1].Name, Round: 1, Result: &traffic.Result{Requests: 100, Errors: 1}})
	got := r.values(key{"heddle", peers.Pair, works[1].Name, false}, perRequest)
	if len(got) != 2 || got[0] != 30 || !math.IsNaN(got[1]) {
		t.Error(got)
	}
}

func TestTheRateOfLatencyIsHalfOfSaturation(t *testing.T) {
	r := newTestReport(map[string][]float64{"haproxy": {10, 10}})
	if got := r.halfOf("haproxy", peers.Pair, works[1]); got != 500 {
		t.Error(got)
	}
	if got := r.halfOf("nginx", peers.Pair, works[1]); got != 0 {
		t.Error(got)
	}
}

func TestThePageTellsWhatIsUnmeasured(t *testing.T) {
	r := newTestReport(map[string][]float64{"heddle": {30, 30}, "haproxy": {20, 40}})
	page := r.markdown()
	for _, want := range []string{"| heddle | haproxy | nginx | envoy |", "| 30.00 (30.00..30.00) | 30.00 (20.00..40.00) | unmeasured | unmeasured |"} {
		if !strings.Contains(page, want) {
			t.Errorf("it lacks %q:\n%s", want, page)
		}
	}
	for _, p := range plotted {
		if svg := r.svg(p); strings.Contains(svg, "NaN") || !strings.HasSuffix(svg, "</svg>\n") {
			t.Errorf("%s: %s", p.file, svg)
		}
	}
}

func TestOnlyWhatLiesBetweenTheMarksIsReplaced(t *testing.T) {
	page, err := between("a\n"+beginMark+"\nold\n"+endMark+"\nb", beginMark, endMark, "new")
	if want := "a\n" + beginMark + "\n\nnew\n" + endMark + "\nb"; err != nil || page != want {
		t.Errorf("%q, %v", page, err)
	}
	if _, err := between("no marks", beginMark, endMark, "new"); err == nil {
		t.Error("a page without marks is taken")
	}
}

func TestConnectionsBetweenTheSidesAreCounted(t *testing.T) {
	const table = `  sl  local_address rem_address   st tx_queue rx_queue
   0: 0100007F:1F90 00000000:0000 0A 00000000:00000000
   1: 0100007F:9C40 0100007F:1F90 01 00000000:00000000
   2: 0100007F:1F90 0100007F:9C40 01 00000000:00000000
   3: 0100007F:9C41 0100007F:1F91 01 00000000:00000000
   4: 0100007F:9C42 0100007F:1F90 06 00000000:00000000
`
	if got := established(table, []int{0x1F90, 0x1F91}); got != 2 {
		t.Error(got)
	}
}

func TestNames(t *testing.T) {
	if got := slug("HTTP/1.1, 1 KiB, 8,000 connections"); got != "http-1-1-1-kib-8-000-connections" {
		t.Error(got)
	}
	if got := stateDir("A=b\x00HEDDLE_STATE_DIR=state\x00"); got != "state" {
		t.Error(got)
	}
	for v, want := range map[float64]string{0.1234: "0.123", 12.345: "12.35", 123.45: "123.5", 12345.6: "12346"} {
		if got := number(v); got != want {
			t.Errorf("%v: %s, want %s", v, got, want)
		}
	}
	if number(math.NaN()) != unmeasured {
		t.Error("NaN is written as a number")
	}
}

func TestFlags(t *testing.T) {
	t.Setenv("XDG_CACHE_HOME", t.TempDir())
	o, err := parse([]string{"-quick", "-only", "http1,tls", "-rounds", "5"})
	if err != nil || o.rounds != 5 || len(o.peers) != 2 || len(o.topologies) != 1 || o.duration != time.Second {
		t.Errorf("%+v, %v", o, err)
	}
	if got := selected(o.only, true, ""); len(got) != 3 {
		t.Error(got)
	}
	if got := selected(o.only, true, "8,000"); len(got) != 1 || got[0].Connections != 8000 {
		t.Error(got)
	}
	for _, args := range [][]string{{"-only", "http9"}, {"-peers", "squid"}, {"-topology", "ring"}, {"-rounds", "0"}, {"-proxy-cpus", "x"}} {
		if _, err := parse(args); err == nil {
			t.Errorf("%v is taken", args)
		}
	}
}

func TestABudgetIsForTheTargetsFirst(t *testing.T) {
	target, other := work{Name: "target", Target: true, Open: true}, work{Name: "other", Open: true}
	closed, open, rest := plan([]work{other, target}, 2, true)
	want := []step{{target, 0, false}, {target, 1, false}}
	if !slices.Equal(closed, want) {
		t.Errorf("closed: %+v", closed)
	}
	if want := []step{{target, 0, true}, {target, 1, true}}; !slices.Equal(open, want) {
		t.Errorf("open: %+v", open)
	}
	if want := []step{{other, 0, false}, {other, 1, false}}; !slices.Equal(rest, want) {
		t.Errorf("rest: %+v", rest)
	}
	closed, open, rest = plan([]work{other, target}, 2, false)
	if want := []step{{other, 0, false}, {target, 0, false}, {other, 1, false}, {target, 1, false}}; !slices.Equal(closed, want) || len(open) != 4 || len(rest) != 0 {
		t.Errorf("without a budget: %+v, %+v, %+v", closed, open, rest)
	}
}

func TestStepsEndWithTheBudget(t *testing.T) {
	r := &run{options: &options{}, out: io.Discard}
	r.report = newReport(r)
	steps := []step{{works[1], 0, false}, {works[1], 0, true}}
	if err := r.steps(t.Context(), peers.Pair, nil, steps, time.Now().Add(-time.Second)); err != nil || len(r.report.Problems) != 0 {
		t.Errorf("after its end: %v, %v", err, r.report.Problems)
	}
	if err := r.steps(t.Context(), peers.Pair, nil, steps, time.Now().Add(time.Hour)); err != nil || len(r.report.Problems) != 1 {
		t.Errorf("without a rate: %v, %v", err, r.report.Problems)
	}
}

func TestWhatIsMergedKeepsTheNewer(t *testing.T) {
	earlier := newTestReport(map[string][]float64{"heddle": {90, 90}, "haproxy": {90, 90}})
	earlier.Measurements[0].Work = works[0].Name // all else of it was measured anew
	earlier.Memory = []memory{{Peer: "heddle", Plain: 1}, {Peer: "nginx", Plain: 2}}
	raw, err := json.Marshal(earlier)
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "earlier.json")
	if err := os.WriteFile(file, raw, 0o600); err != nil {
		t.Fatal(err)
	}
	r := newTestReport(map[string][]float64{"heddle": {30, 30}})
	r.Memory = []memory{{Peer: "heddle", Plain: 3}}
	if err := r.mergeWith(file); err != nil {
		t.Fatal(err)
	}
	if len(r.Measurements) != 3 || len(r.by[key{"haproxy", peers.Pair, works[1].Name, false}]) != 0 {
		t.Errorf("%d measurements", len(r.Measurements))
	}
	if len(r.Memory) != 2 || r.Memory[0].Plain != 3 || r.Memory[1].Peer != "nginx" {
		t.Errorf("%+v", r.Memory)
	}
}

func TestTheWorstLimitIsJudged(t *testing.T) {
	r := newTestReport(nil)
	if v := r.limitsVerdict(); v.Verdict != unmeasured || r.attackRows() != nil {
		t.Errorf("what wasn't measured: %+v", v)
	}
	fares := func(attack string, limit limits.Name, under ...time.Duration) {
		for round, p99 := range under {
			r.addAttacked(attacked{Attack: attack, Limit: limit, Round: round, Quiet: time.Millisecond, Under: p99})
		}
	}
	fares("a flood of PING", limits.ControlFrames, 3*time.Millisecond, 1500*time.Microsecond, time.Millisecond)
	fares("rapid resets", limits.Resets, 1900*time.Microsecond)
	if v := r.limitsVerdict(); v.Verdict != met || !strings.HasPrefix(v.Measured, "resets, rapid resets: 1.900") {
		t.Errorf("%+v", v)
	}
	r.Limits = append(r.Limits, attacked{Attack: "a flood of SETTINGS", Limit: limits.ControlFrames, Quiet: time.Millisecond, Under: time.Millisecond, Wrong: "it was let in"})
	if v := r.limitsVerdict(); !strings.HasPrefix(v.Verdict, missed) || !strings.Contains(v.Measured, "SETTINGS") {
		t.Errorf("a wrong outcome: %+v", v)
	}
	fares("too many streams", limits.Streams, 2*time.Millisecond)
	if v := r.limitsVerdict(); v.Verdict != missed || !strings.Contains(v.Measured, "too many streams") {
		t.Errorf("twice is not under twice: %+v", v)
	}
	page := r.markdown()
	for _, want := range []string{
		"| control-frames | a flood of PING | 10/s | 1.000 | 1.500 | 1.500 (1.000..3.000) | met |",
		"| continuations | a flood of CONTINUATION | 10/s | unmeasured | unmeasured | unmeasured | unmeasured |", "| memory | of the whole proxy",
	} {
		if !strings.Contains(page, want) {
			t.Errorf("it lacks %q:\n%s", want, page)
		}
	}
}
