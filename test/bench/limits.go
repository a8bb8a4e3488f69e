// SPDX-License-Identifier: Apache-2.0

//go:build linux

package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"slices"
	"strconv"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/heddle-mesh/heddle/internal/limits"
	"github.com/heddle-mesh/heddle/test/bench/peers"
	"github.com/heddle-mesh/heddle/test/bench/traffic"
	"github.com/heddle-mesh/heddle/test/hostile"
)

// How a neighbour of attackers is measured.
const (
	neighbourRate = 500 // requests a second, of 16 slots: no proxy is busy
	neighbours    = 16
	attackRounds  = 5
	attackTime    = time.Second
	attackWarmup  = 800 * time.Millisecond
	attackLead    = 300 * time.Millisecond // the neighbour has its connections before others take all
	perQuiet      = 4                      // attacks that share a measurement without any
)

// attacked is how a good client fared in one round of one attack.
type attacked struct {
	Attack string      `json:"attack"`
	Limit  limits.Name `json:"limit"`
	Round  int         `json:"round"`
	// Rate is how many attacks began in a second.
	Rate float64 `json:"rate"`
	// Quiet is the p99 without an attack, Under that with it.
	Quiet time.Duration `json:"quiet"`
	Under time.Duration `json:"under"`
	// Errors are the good client's requests that failed, of both measurements.
	Errors int64 `json:"errors"`
	// Made are the attacks that came to their end, Wrong is an outcome that was not what the limit says.
	Made    int    `json:"made"`
	Wrong   string `json:"wrong,omitempty"`
	Failure string `json:"failure,omitempty"`
}

// onslaught is what the attacking process is told.
type onslaught struct {
	Attack      string              `json:"attack"`
	HTTP1       netip.AddrPort      `json:"http1"`
	HTTP2       netip.AddrPort      `json:"http2"`
	TCP         netip.AddrPort      `json:"tcp"`
	Inbound     netip.AddrPort      `json:"inbound"`
	Credentials traffic.Credentials `json:"credentials"`
}

// outcome is what it tells.
type outcome struct {
	Made  int    `json:"made"`
	Wrong string `json:"wrong"`
}

// attackable says whether an attack can be made here: every port of the bench is declared.
func attackable(a *hostile.Attack) bool { return a.Port != hostile.Undeclared }

// underAttack measures a good client beside attackers, on a pair whose limits are low.
func (r *run) underAttack(ctx context.Context) error {
	p := peers.Limited(ours, r.heddle, r.proxy, hostile.Limits)
	i, err := p.Start(r.site, peers.Pair)
	if err != nil {
		r.report.problem(ours, peers.Pair, "limits: "+err.Error())
		return nil
	}
	defer i.Stop()
	r.report.started(p)
	up := []running{{p, i}}
	attacks := slices.DeleteFunc(hostile.All(), func(a *hostile.Attack) bool { return !attackable(a) })
	for round := range min(r.rounds, attackRounds) {
		for _, http2 := range []bool{false, true} {
			of := slices.DeleteFunc(slices.Clone(attacks), func(a *hostile.Attack) bool { return (a.Port == hostile.HTTP2) != http2 })
			for some := range slices.Chunk(of, perQuiet) {
				if err := r.attackWith(ctx, up, some, round, http2); err != nil {
					return err
				}
			}
		}
	}
	return nil
}

// attackWith takes a quiet measurement, and one under each of some attacks.
func (r *run) attackWith(ctx context.Context, up []running, some []*hostile.Attack, round int, http2 bool) error {
	i := up[0].Instance
	l := traffic.Load{
		Target: i.HTTP1, Protocol: traffic.HTTP1, Size: "1k", Connections: neighbours, Streams: 1, Rate: neighbourRate,
		Seed: uint64(round) + 1, Warmup: attackWarmup, Duration: attackTime, Processes: i.Processes(), Others: []int{r.origin.PID}, //nolint:gosec // a small number
	}
	if http2 {
		l.Target, l.Protocol, l.Connections, l.Streams = i.HTTP2, traffic.HTTP2, neighbours/4, 4
	}
	var quiet *traffic.Result
	for _, what := range append([]*hostile.Attack{nil}, some...) {
		if err := r.settle(ctx, up); err != nil {
			return err
		}
		result, told, err := r.besides(ctx, i, l, what)
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if err == nil {
			err = up[0].Alive()
		}
		if what == nil {
			if quiet = result; err != nil {
				return fmt.Errorf("without an attack: %w", err)
			}
			continue
		}
		m := attacked{Attack: what.Name, Limit: what.Limit, Round: round, Rate: rateOf(what), Quiet: quiet.P99, Made: told.Made, Wrong: told.Wrong, Failure: text(err)}
		if result != nil {
			m.Under, m.Errors = result.P99, result.Errors+quiet.Errors
			if result.Error != "" && m.Failure == "" {
				m.Failure = result.Error
			}
		}
		r.report.addAttacked(m)
	}
	return nil
}

// rateOf is how many of an attack begin in a second.
func rateOf(a *hostile.Attack) float64 {
	if a.Rate > 0 {
		return a.Rate
	}
	return hostile.Rate
}

// besides runs the generator, with an attack beside it if one is given.
func (r *run) besides(ctx context.Context, i *peers.Instance, l traffic.Load, what *hostile.Attack) (*traffic.Result, outcome, error) {
	if what == nil {
		result, err := r.generate(ctx, l)
		return result, outcome{}, err
	}
	spec, err := json.Marshal(onslaught{what.Name, i.HTTP1, i.HTTP2, i.TCP, i.Inbound, i.Credentials})
	if err != nil {
		return nil, outcome{}, err
	}
	self, err := os.Executable()
	if err != nil {
		return nil, outcome{}, err
	}
	var (
		group  sync.WaitGroup
		result *traffic.Result
		failed error
	)
	group.Go(func() { result, failed = r.generate(ctx, l) })
	defer group.Wait()
	if err := pause(ctx, attackLead); err != nil {
		return nil, outcome{}, err
	}
	var out, problems bytes.Buffer
	p, err := peers.StartTo(r.loadOn, &out, &problems, []string{"GOMAXPROCS=1"}, self, "attack", string(spec))
	if err != nil {
		return nil, outcome{}, err
	}
	group.Wait()
	p.Stop()
	var told outcome
	if err := json.Unmarshal(out.Bytes(), &told); err != nil {
		return result, told, fmt.Errorf("the attackers: %w: %s", err, problems.Bytes())
	}
	return result, told, failed
}

// attackUntil makes an attack at its rate until ctx ends, and tells what came of it.
func attackUntil(ctx context.Context, spec string, out *os.File) error {
	var o onslaught
	if err := json.Unmarshal([]byte(spec), &o); err != nil {
		return err
	}
	all := hostile.All()
	n := slices.IndexFunc(all, func(a *hostile.Attack) bool { return a.Name == o.Attack })
	if n < 0 {
		return fmt.Errorf("no attack %q", o.Attack)
	}
	if err := yield(); err != nil {
		return err
	}
	caller, err := o.Credentials.Config()
	if err != nil {
		return err
	}
	raiseFiles()
	attacker := hostile.New(hostile.Target{
		HTTP1: o.HTTP1, HTTP2: o.HTTP2, TCP: o.TCP, Inbound: o.Inbound, Caller: caller,
		Authority: traffic.Host, Path: "/r00/items/1k", Large: "/r00/items/1m", Stuck: "/r00" + traffic.Stuck,
	})
	told := repeat(ctx, attacker, all[n])
	attacker.Close()
	return json.NewEncoder(out).Encode(told)
}

// repeat begins an attack at its rate, whether or not those before have ended, until ctx ends.
func repeat(ctx context.Context, attacker *hostile.Attacker, what *hostile.Attack) outcome {
	var (
		mu   sync.Mutex
		told outcome
		all  sync.WaitGroup
	)
	tick := time.NewTicker(time.Duration(float64(time.Second) / rateOf(what)))
	defer tick.Stop()
	for ctx.Err() == nil {
		all.Go(func() {
			err := attacker.Make(ctx, what)
			mu.Lock()
			defer mu.Unlock()
			switch {
			case ctx.Err() != nil: // it was broken off
			case err == nil:
				told.Made++
			case told.Wrong == "":
				told.Wrong = err.Error()
			}
		})
		select {
		case <-tick.C:
		case <-ctx.Done():
		}
	}
	all.Wait()
	return told
}

// yield makes every thread of the process one that others go before: the neighbour's generator and the origin, which share
// the processor, are not to wait for the attackers.
func yield() error {
	tasks, err := os.ReadDir("/proc/self/task")
	if err != nil {
		return err
	}
	for _, task := range tasks {
		tid, err := strconv.Atoi(task.Name())
		if err != nil {
			return err
		}
		err = unix.SchedSetAttr(tid, &unix.SchedAttr{Size: unix.SizeofSchedAttr, Policy: unix.SCHED_NORMAL, Nice: 19}, 0)
		if err != nil && !errors.Is(err, unix.ESRCH) {
			return fmt.Errorf("scheduling of a thread: %w", err)
		}
	}
	return nil
}
