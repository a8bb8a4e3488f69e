// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"time"

	"github.com/heddle-mesh/heddle/proxy/admin"
)

// drainWait is how long a drain waits for requests unless told otherwise: a pod has 30 s to go away by default, and the
// application needs some of it.
const drainWait = 20 * time.Second

// drain is `heddle-proxy drain`, the preStop hook: while it runs the kubelet doesn't end the proxy.
func drain(ctx context.Context, args []string, stdout, stderr io.Writer) error {
	flags := flag.NewFlagSet("drain", flag.ContinueOnError)
	wait := flags.Duration("wait", drainWait, "how long to wait for running requests, an hour at most")
	socket := flags.String("socket", admin.SocketPath, "the proxy's admin socket")
	if err := parse(flags, args, stderr); err != nil {
		return err
	}
	if *wait < 0 || *wait > admin.MaxDrainWait {
		return usageError{fmt.Errorf("drain: -wait %v: want 0 to %v", *wait, admin.MaxDrainWait)}
	}
	d, err := admin.NewClient(*socket).Drain(ctx, *wait)
	if err != nil {
		return fmt.Errorf("drain: %w", err)
	}
	return json.NewEncoder(stdout).Encode(d)
}

// ask is `heddle-proxy admin`.
func ask(ctx context.Context, args []string, stdout, stderr io.Writer) error {
	what := ""
	if len(args) > 0 {
		what, args = args[0], args[1:]
	}
	switch what {
	case "drain":
		return drain(ctx, args, stdout, stderr)
	case "config", "certs":
		flags := flag.NewFlagSet("admin "+what, flag.ContinueOnError)
		socket := flags.String("socket", admin.SocketPath, "the proxy's admin socket")
		if err := parse(flags, args, stderr); err != nil {
			return err
		}
		if err := admin.NewClient(*socket).Show(ctx, what, stdout); err != nil {
			return fmt.Errorf("admin %s: %w", what, err)
		}
		return nil
	case "envelope":
		flags := flag.NewFlagSet("admin envelope SECTION", flag.ContinueOnError)
		socket := flags.String("socket", admin.SocketPath, "the proxy's admin socket")
		section := ""
		if len(args) > 0 {
			section, args = args[0], args[1:]
		}
		if err := parse(flags, args, stderr); err != nil {
			return err
		}
		if err := admin.NewClient(*socket).Envelope(ctx, section, stdout); err != nil {
			return fmt.Errorf("admin envelope %q: %w", section, err)
		}
		return nil
	case "profile":
		return profile(ctx, args, stdout, stderr)
	case "runtime":
		return held(ctx, args, stdout, stderr)
	default:
		return usageError{fmt.Errorf("admin %q: want config, certs, envelope, profile, runtime or drain", what)}
	}
}

// profile is `heddle-proxy admin profile`. What it prints is for `go tool pprof`.
func profile(ctx context.Context, args []string, stdout, stderr io.Writer) error {
	flags := flag.NewFlagSet("admin profile", flag.ContinueOnError)
	seconds := flags.Int("seconds", 10, fmt.Sprintf("how long to look, %d s at most", admin.MaxProfileSeconds))
	socket := flags.String("socket", admin.SocketPath, "the proxy's admin socket")
	if err := parse(flags, args, stderr); err != nil {
		return err
	}
	if *seconds < 1 || *seconds > admin.MaxProfileSeconds {
		return usageError{fmt.Errorf("admin profile: -seconds %d: want 1 to %d", *seconds, admin.MaxProfileSeconds)}
	}
	if err := admin.NewClient(*socket).Profile(ctx, *seconds, stdout); err != nil {
		return fmt.Errorf("admin profile: %w", err)
	}
	return nil
}

// held is `heddle-proxy admin runtime`: what the proxy holds of its machine.
func held(ctx context.Context, args []string, stdout, stderr io.Writer) error {
	flags := flag.NewFlagSet("admin runtime", flag.ContinueOnError)
	socket := flags.String("socket", admin.SocketPath, "the proxy's admin socket")
	if err := parse(flags, args, stderr); err != nil {
		return err
	}
	r, err := admin.NewClient(*socket).Runtime(ctx)
	if err != nil {
		return fmt.Errorf("admin runtime: %w", err)
	}
	return json.NewEncoder(stdout).Encode(r)
}
