// SPDX-License-Identifier: Apache-2.0

//go:build linux

package main

import (
	"fmt"
	"math"
	"os"
	"runtime"
	"time"

	"github.com/heddle-mesh/heddle/test/bench/peers"
	"github.com/heddle-mesh/heddle/test/bench/stats"
	"github.com/heddle-mesh/heddle/test/bench/traffic"
)

// measurement is one peer, once.
type measurement struct {
	Peer     string          `json:"peer"`
	Topology peers.Topology  `json:"topology"`
	Work     string          `json:"work"`
	Round    int             `json:"round"`
	Rate     float64         `json:"rate,omitempty"` // 0: at saturation
	Result   *traffic.Result `json:"result,omitempty"`
	Failure  string          `json:"failure,omitempty"`
}

// key is what rounds have in common.
type key struct {
	peer     string
	topology peers.Topology
	work     string
	open     bool
}

func (m measurement) key() key { return key{m.Peer, m.Topology, m.Work, m.Rate > 0} }

// report collects what was measured.
type report struct {
	Began        time.Time         `json:"began"`
	Machine      string            `json:"machine"`
	Note         string            `json:"note,omitempty"`
	Rounds       int               `json:"rounds"`
	Versions     map[string]string `json:"versions"`
	Binaries     map[string]int64  `json:"binaries"`
	Measurements []measurement     `json:"measurements"`
	Memory       []memory          `json:"memory"`
	Limits       []attacked        `json:"limits,omitempty"`
	Features     []featured        `json:"features,omitempty"`
	Profiles     []profileOf       `json:"profiles,omitempty"`
	Problems     []string          `json:"problems"`

	run    *run
	by     map[key][]measurement
	failed bool
}

func newReport(r *run) *report {
	return &report{
		Began: time.Now().UTC(), Machine: machine(), Rounds: r.rounds, Note: r.note, run: r,
		Versions: map[string]string{}, Binaries: map[string]int64{}, by: map[key][]measurement{},
	}
}

func (r *report) started(p peers.Peer) {
	version, path, err := p.Version()
	if err != nil {
		r.problem(p.Name(), "", err.Error())
		return
	}
	r.Versions[p.Name()] = version
	if info, err := os.Stat(path); err == nil {
		r.Binaries[p.Name()] = info.Size()
	}
}

func (r *report) problem(peer string, topology peers.Topology, what string) {
	line := fmt.Sprintf("%s %s: %s", peer, topology, what)
	r.Problems = append(r.Problems, line)
	fmt.Fprintln(r.run.out, "!", line)
}

func (r *report) add(m measurement) {
	r.Measurements = append(r.Measurements, m)
	k := m.key()
	r.by[k] = append(r.by[k], m)
	line := fmt.Sprintf("round %d, %s, %s, %s: ", m.Round+1, m.Topology, m.Work, m.Peer)
	if m.Failure != "" {
		r.failed = true
		fmt.Fprintln(r.run.out, line+m.Failure)
		return
	}
	s := m.Result
	if s.Errors > 0 || s.Error != "" {
		r.failed = true
		line += fmt.Sprintf("%d errors (%s), ", s.Errors, s.Error)
	}
	if m.Rate > 0 {
		fmt.Fprintf(r.run.out, "%sat %.0f/s p50 %v, p99 %v, p99.9 %v, %d unfinished\n", line, m.Rate, s.P50, s.P99, s.P999, s.Unfinished)
		return
	}
	fmt.Fprintf(r.run.out, "%s%.1f µs each, %.0f/s, proxies busy %.0f %%, load %.0f %%\n", line, perRequest(m), rate(m), 100*busy(m),
		100*s.Other.Seconds()/s.Elapsed.Seconds())
}

func (r *report) addMemory(m memory) {
	r.Memory = append(r.Memory, m)
	fmt.Fprintf(r.run.out, "%s: idle %s in clear, client side %s, server side %s\n", m.Peer, bytesText(float64(m.Plain)), bytesText(float64(m.Client)),
		bytesText(float64(m.Server)))
	for _, kind := range idleKinds {
		if each, ok := m.Connections[kind.name]; ok {
			fmt.Fprintf(r.run.out, "%s: %s for each connection, %s\n", m.Peer, bytesText(each), kind.name)
		}
	}
}

// foreign is the share of the machine's processors that everybody else used while something was measured, for each
// measurement.
func (r *report) foreign() []float64 {
	var out []float64
	for _, m := range r.Measurements {
		if m.Result != nil && m.Result.Elapsed > 0 {
			out = append(out, m.Result.Foreign.Seconds()/m.Result.Elapsed.Seconds()/float64(runtime.NumCPU()))
		}
	}
	return out
}

// halfOf is half of a peer's saturation, the median of its rounds. 0 if it wasn't measured.
func (r *report) halfOf(peer string, topology peers.Topology, w work) float64 {
	median := stats.Summarize(r.values(key{peer, topology, w.Name, false}, rate)).Median
	if math.IsNaN(median) {
		return 0
	}
	return math.Round(median / 2)
}

// values are a figure's rounds, in order. A round that failed has none: NaN.
func (r *report) values(k key, figure func(measurement) float64) []float64 {
	out := make([]float64, r.Rounds)
	for i := range out {
		out[i] = math.NaN()
	}
	for _, m := range r.by[k] {
		if m.sound() {
			out[m.Round] = figure(m)
		}
	}
	return out
}

// sound tells whether a measurement is to be counted: with an error in a thousand requests it isn't.
func (m measurement) sound() bool {
	return m.Failure == "" && m.Result != nil && m.Result.Errors*1000 <= m.Result.Requests && (m.Result.Requests > 0 || m.Result.Bytes > 0)
}

// Figures of a measurement.

// perRequest is the proxies' processor time in microseconds for each request, or for each MiB where no requests are counted.
func perRequest(m measurement) float64 {
	return float64(m.Result.Processor.Nanoseconds()) / 1000 / units(m)
}

func rate(m measurement) float64 { return units(m) / m.Result.Elapsed.Seconds() }

func units(m measurement) float64 {
	if m.Result.Requests == 0 {
		return float64(m.Result.Bytes) / (1 << 20)
	}
	return float64(m.Result.Requests)
}

// busy is the share of one processor that the proxies used. Well under 1 at saturation, the generator was the limit.
func busy(m measurement) float64 { return m.Result.Processor.Seconds() / m.Result.Elapsed.Seconds() }

func p50(m measurement) float64 { return milliseconds(m.Result.P50) }

func p99(m measurement) float64 { return milliseconds(m.Result.P99) }

func p999(m measurement) float64 { return milliseconds(m.Result.P999) }

func milliseconds(d time.Duration) float64 { return float64(d.Nanoseconds()) / 1e6 }

func machine() string {
	return fmt.Sprintf("%d processors, %s/%s", runtime.NumCPU(), runtime.GOOS, runtime.GOARCH)
}
