// SPDX-License-Identifier: Apache-2.0

// Heddle-proxy runs beside a workload and carries its traffic. Its commands:
//
//	heddle-proxy [flags]                   carry traffic; configured by the environment, and without a redirect by flags
//	heddle-proxy init [flags]              redirect the pod's connections to the proxy (needs NET_ADMIN)
//	heddle-proxy drain [-wait 20s]         have the running proxy drain, and wait for its requests
//	heddle-proxy admin config|certs|drain  ask the running proxy, as JSON
//	heddle-proxy admin envelope SECTION    print a kept envelope, for `heddle config verify`
//	heddle-proxy admin profile             print where the processor's time goes, for `go tool pprof`
//	heddle-proxy admin runtime             collect garbage and print goroutines, descriptors and memory
//	heddle-proxy version                   print the version
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"syscall"
)

// version is set by the linker.
var version = "dev"

// The exit codes.
const (
	exitOK     = 0
	exitFailed = 1
	exitUsage  = 2 // a wrong command, flag or environment variable: trying again won't help
)

// usageError is a mistake of whoever started the program.
type usageError struct{ error }

func (e usageError) Unwrap() error { return e.error }

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	code := run(ctx, os.Args[1:], os.Getenv, os.Stdout, os.Stderr)
	stop()
	os.Exit(code)
}

// run is the program. It ends in order when ctx does.
func run(ctx context.Context, args []string, getenv func(string) string, stdout, stderr io.Writer) int {
	err := command(ctx, args, getenv, stdout, stderr)
	switch {
	case err == nil, errors.Is(err, flag.ErrHelp):
		return exitOK
	case errors.As(err, new(usageError)):
		fmt.Fprintln(stderr, "heddle-proxy:", err)
		return exitUsage
	default:
		fmt.Fprintln(stderr, "heddle-proxy:", err)
		return exitFailed
	}
}

func command(ctx context.Context, args []string, getenv func(string) string, stdout, stderr io.Writer) error {
	name := ""
	if len(args) > 0 && !strings.HasPrefix(args[0], "-") {
		name, args = args[0], args[1:]
	}
	switch name {
	case "":
		return carry(ctx, args, getenv, stdout, stderr)
	case "init":
		return redirect(args, getenv, stdout, stderr)
	case "drain":
		return drain(ctx, args, stdout, stderr)
	case "admin":
		return ask(ctx, args, stdout, stderr)
	case "version":
		_, err := fmt.Fprintln(stdout, version)
		return err
	default:
		return usageError{fmt.Errorf("unknown command %q: want init, drain, admin, version, or none to carry traffic", name)}
	}
}

// parse parses flags, after which no argument may be left.
func parse(flags *flag.FlagSet, args []string, stderr io.Writer) error {
	flags.SetOutput(stderr)
	if err := flags.Parse(args); err != nil {
		if errors.Is(err, flag.ErrHelp) {
			return err
		}
		return usageError{err}
	}
	if flags.NArg() > 0 {
		return usageError{fmt.Errorf("%s: unexpected argument %q", flags.Name(), flags.Arg(0))}
	}
	return nil
}
