// SPDX-License-Identifier: Apache-2.0

// Demo installs Heddle and the shop on the local cluster, puts steady load on it, moves a canary from v1 to v2 while it
// shows what callers get, has one call denied, and shows the three kinds in `kubectl get`. `make demo` runs it.
package main

import (
	"context"
	"flag"
	"fmt"
	"log"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"
)

// step is one stage of the canary.
type step struct{ v1, v2 int }

var canary = []step{{100, 0}, {90, 10}, {50, 50}, {0, 100}}

type demo struct {
	cluster   cluster
	overlay   string
	manifests string
	images    string
	rate      int
	stay      time.Duration // on each step, once it is programmed
	show      *display
}

func main() {
	log.SetFlags(0)
	d := demo{show: newDisplay(os.Stdout)}
	flag.StringVar(&d.cluster.command, "cluster", "bin/cluster", "the cluster command")
	flag.StringVar(&d.cluster.provider, "provider", "local", "local or kind")
	flag.StringVar(&d.overlay, "overlay", "config/demo", "kustomization to install")
	flag.StringVar(&d.manifests, "manifests", "test/shop/manifests", "the shop's manifests")
	flag.StringVar(&d.images, "images", "dist/images", "folder of image archives")
	flag.IntVar(&d.rate, "rate", 100, "purchases per second")
	flag.DurationVar(&d.stay, "stay", 8*time.Second, "time on each step of the canary")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	if err := d.run(ctx); err != nil {
		stop()
		log.Fatalf("demo: %v", err)
	}
}

func (d *demo) run(ctx context.Context) error {
	start := time.Now()
	for _, stage := range []struct {
		title string
		do    func(context.Context) error
	}{
		{"cluster and cert-manager", d.up},
		{"Heddle", d.install},
		{"the shop", d.shop},
	} {
		if err := d.show.stage(stage.title, func() error { return stage.do(ctx) }); err != nil {
			return err
		}
	}
	if err := d.moveCanary(ctx); err != nil {
		return err
	}
	if err := d.deny(ctx); err != nil {
		return err
	}
	out, err := d.cluster.kubectl(ctx, "get", "trafficsplits,serviceprofiles,meshpolicies", "-n", "shop")
	if err != nil {
		return err
	}
	d.show.section("what the mesh says of itself", "kubectl get trafficsplits,serviceprofiles,meshpolicies -n shop")
	fmt.Println(out)
	d.show.section("done in "+time.Since(start).Round(time.Second).String(), "the cluster stays up")
	fmt.Printf("explore:  %s in kubectl get pods -A\nend:      make demo-down\n", d.cluster.command)
	return nil
}

func (d *demo) up(ctx context.Context) error {
	if err := d.cluster.run(ctx, "up"); err != nil {
		return err
	}
	archives, err := os.ReadDir(d.images)
	if err != nil {
		return err
	}
	args := []string{"load"}
	for _, a := range archives {
		if strings.HasSuffix(a.Name(), ".tar") {
			args = append(args, d.images+"/"+a.Name())
		}
	}
	return d.cluster.run(ctx, args...)
}

func (d *demo) install(ctx context.Context) error {
	return d.cluster.kubectls(ctx,
		"apply -k "+d.overlay,
		"-n heddle-system wait certificates --all --for=condition=Ready --timeout=120s",
		"-n heddle-system rollout status deployment/heddle-operator --timeout=180s",
	)
}

func (d *demo) shop(ctx context.Context) error {
	return d.cluster.kubectls(ctx,
		"apply -k "+d.manifests,
		"-n shop rollout status deployment,statefulset --timeout=180s",
		"-n shop wait trafficsplits,serviceprofiles,meshpolicies --all --for=condition=Ready --timeout=60s",
	)
}

// moveCanary edits the weights step by step under load.
func (d *demo) moveCanary(ctx context.Context) error {
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	load, err := d.cluster.load(ctx, d.rate)
	if err != nil {
		return err
	}
	d.show.section("a canary under load", fmt.Sprintf("%d purchases a second; the weights of TrafficSplit checkout move", d.rate))
	for i, s := range canary {
		edited := time.Now()
		if err := d.cluster.setWeights(ctx, s.v1, s.v2); err != nil {
			return err
		}
		d.show.line(fmt.Sprintf("%3d/%-3d programmed on every proxy %s after the edit", s.v1, s.v2, time.Since(edited).Round(10*time.Millisecond)))
		if i == 0 {
			d.show.header()
		}
		if err := d.watch(ctx, s, load); err != nil {
			return err
		}
	}
	return nil
}

// watch shows a line per second of load for as long as the step stays.
func (d *demo) watch(ctx context.Context, s step, load <-chan stats) error {
	timer := time.NewTimer(d.stay)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-timer.C:
			return nil
		case st, ok := <-load:
			if !ok {
				return fmt.Errorf("the load ended early: see `%s in kubectl -n shop logs deploy/customer`", d.cluster.command)
			}
			d.show.stats(s, st)
		}
	}
}

// deny makes a call that the MeshPolicy forbids and shows what both ends read.
func (d *demo) deny(ctx context.Context) error {
	d.show.section("a call that MeshPolicy payments denies", "customer calls payments; only checkout may")
	out, err := d.cluster.kubectl(ctx, "-n", "shop", "exec", "deploy/customer", "-c", "customer", "--",
		"/shop", "get", "-method", "POST", "http://payments:9090/shop.payments.v1.Payments/Charge")
	if err != nil {
		return err
	}
	fmt.Println("the caller reads:   ", out)
	logs, err := d.cluster.kubectl(ctx, "-n", "shop", "logs", "deploy/payments", "-c", "heddle-proxy", "--tail", "200")
	if err != nil {
		return err
	}
	for line := range strings.Lines(logs) {
		if strings.Contains(line, "denied") {
			fmt.Println("payments' proxy logs:", strings.TrimSpace(line))
			return nil
		}
	}
	return fmt.Errorf("payments' proxy logged no denial; the caller got: %s", out)
}
