// SPDX-License-Identifier: Apache-2.0

//go:build linux

// Command bench measures Heddle and its peers side by side: `make bench` runs all of it, docs/performance.md has what came
// of it and says what each figure means.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/heddle-mesh/heddle/test/bench/peers"
	"github.com/heddle-mesh/heddle/test/bench/traffic"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	var err error
	switch {
	case len(os.Args) > 2 && os.Args[1] == "origin": // the bench starts itself so, on processors of their own
		err = origin(ctx, os.Args[2])
	case len(os.Args) > 2 && os.Args[1] == "load":
		err = load(ctx, os.Args[2], os.Stdout)
	case len(os.Args) > 2 && os.Args[1] == "attack":
		err = attackUntil(ctx, os.Args[2], os.Stdout)
	default:
		err = bench(ctx, os.Args[1:], os.Stdout)
	}
	if err != nil && !errors.Is(err, flag.ErrHelp) {
		fmt.Fprintln(os.Stderr, "bench:", err)
		stop()
		os.Exit(1)
	}
}

func origin(ctx context.Context, spec string) error {
	var p traffic.Ports
	if err := json.Unmarshal([]byte(spec), &p); err != nil {
		return err
	}
	return traffic.ServeOrigin(ctx, p)
}

func load(ctx context.Context, spec string, out io.Writer) error {
	var l traffic.Load
	if err := json.Unmarshal([]byte(spec), &l); err != nil {
		return err
	}
	run := traffic.Run
	if l.Protocol == traffic.Handshakes {
		run = traffic.RunHandshakes
	}
	result, err := run(ctx, l)
	if err != nil {
		return err
	}
	return json.NewEncoder(out).Encode(result)
}

// options are the flags.
type options struct {
	only, peers, topologies []string
	rounds                  int
	duration, warmup        time.Duration
	budget                  time.Duration
	quick, write            bool
	proxyOn, loadOn         []int
	linkerd, heddle, proxy  string
	base, profileDir, pgo   string
	work                    string
	merge, from, note       string
	cache                   string
}

func parse(args []string) (*options, error) {
	o := &options{}
	flags := flag.NewFlagSet("bench", flag.ContinueOnError)
	only := flags.String("only", "", "what to measure, of "+strings.Join(groups, ",")+" (default all)")
	flags.StringVar(&o.work, "work", "", "of those, the works alone whose names have this in them")
	names := flags.String("peers", "", "whom to measure, of "+strings.Join(peerNames, ",")+" (default all)")
	topologies := flags.String("topology", "", "pair, plain or both with a comma (default both)")
	flags.IntVar(&o.rounds, "rounds", 9, "interleaved rounds")
	flags.DurationVar(&o.duration, "duration", 1500*time.Millisecond, "how long each measurement lasts, those of latency twice as long")
	flags.DurationVar(&o.warmup, "warmup", 300*time.Millisecond, "what goes before it and isn't counted, four times as long before latencies")
	flags.DurationVar(&o.budget, "budget", 0, "how long the rounds of a topology may take: works without a target take 3 rounds at most then, latencies those whom a target names, and what doesn't fit is left out")
	flags.BoolVar(&o.quick, "quick", false, "3 rounds of 1 s: the pairs of Heddle and HAProxy, for the heart of each group, unless flags say otherwise")
	flags.BoolVar(&o.write, "write", false, "write test/bench/results and docs/performance.md")
	proxyOn := flags.String("proxy-cpus", "0", "processors of the proxies, with commas")
	loadOn := flags.String("load-cpus", "1", "processors of the generator and the origin, with commas")
	flags.StringVar(&o.heddle, "heddle", "", "the heddle command to start the sandbox with (default: built from this tree)")
	flags.StringVar(&o.proxy, "proxy", "", "the heddle-proxy to measure (default: built from this tree)")
	flags.StringVar(&o.base, "base", "", "another heddle-proxy to compare with, shown as heddle-base")
	flags.StringVar(&o.merge, "merge", "", "an earlier file of test/bench/results, to take from it what isn't measured now")
	flags.StringVar(&o.from, "from", "", "measure nothing: read this file of test/bench/results, and with -write the page from it")
	flags.StringVar(&o.note, "note", "", "a sentence to stand above the results")
	flags.StringVar(&o.linkerd, "linkerd", "", "a built linkerd2-proxy")
	flags.StringVar(&o.profileDir, "profile", "", "a folder to write processor profiles of Heddle's proxies into, one for each work and side; the top 20 are printed")
	flags.StringVar(&o.pgo, "pgo", "", "only profile Heddle's pair and write the merged profile to this file")
	if err := flags.Parse(args); err != nil {
		return nil, err
	}
	given := map[string]bool{}
	flags.Visit(func(f *flag.Flag) { given[f.Name] = true })
	if o.quick {
		quick := func(name string, set func()) {
			if !given[name] {
				set()
			}
		}
		quick("rounds", func() { o.rounds = 3 })
		quick("duration", func() { o.duration = time.Second })
		quick("peers", func() { *names = "heddle,haproxy" })
		quick("topology", func() { *topologies = "pair" })
	}
	return o, o.lists(*only, *names, *topologies, *proxyOn, *loadOn)
}

func (o *options) lists(only, names, topologies, proxyOn, loadOn string) (err error) {
	var errs []error
	o.only, err = parseList("only", only, groups)
	errs = append(errs, err)
	o.peers, err = parseList("peers", names, peerNames)
	errs = append(errs, err)
	o.topologies, err = parseList("topology", topologies, []string{string(peers.Pair), string(peers.Plain)})
	errs = append(errs, err)
	for list, to := range map[*string]*[]int{&proxyOn: &o.proxyOn, &loadOn: &o.loadOn} {
		if err := json.Unmarshal([]byte("["+*list+"]"), to); err != nil {
			errs = append(errs, fmt.Errorf("processors %q: want numbers with commas", *list))
		}
	}
	if o.rounds < 1 {
		errs = append(errs, errors.New("-rounds: want 1 at least"))
	}
	cache, err := os.UserCacheDir()
	if err != nil {
		cache = os.TempDir()
	}
	o.cache = filepath.Join(cache, "heddle-bench")
	return errors.Join(append(errs, os.MkdirAll(o.cache, 0o755))...)
}
