// SPDX-License-Identifier: Apache-2.0

// Command heddle is the CLI of the mesh, also `kubectl heddle` when it is on the PATH as kubectl-heddle. docs/cli.md
// describes it.
package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/spf13/pflag"
)

// version is set by the linker.
var version = "dev"

// environment is what a command may touch besides its arguments, so that tests can replace it.
type environment struct {
	stdin          io.Reader
	stdout, stderr io.Writer
	now            func() time.Time
}

// command is one of the CLI's commands: its words, what it does in a line, and the function that does it.
type command struct {
	words string
	brief string
	run   func(env environment, args []string) error
}

var commands = []command{
	{"config verify", "check the signature and the claims of a stored envelope, offline", configVerify},
	{"sandbox cert", "issue a certificate that the sandbox's proxies take", sandboxCert},
	{"sandbox", "run the mesh on this machine, without a cluster", runSandbox},
	{"version", "print the version", printVersion},
}

func main() {
	os.Exit(run(environment{stdin: os.Stdin, stdout: os.Stdout, stderr: os.Stderr, now: time.Now}, os.Args[1:]))
}

// run runs the command that args begin with and returns the exit code: 0, or 1 for whatever went wrong.
func run(env environment, args []string) int {
	for _, c := range commands {
		words := strings.Fields(c.words)
		if len(args) < len(words) || strings.Join(args[:len(words)], " ") != c.words {
			continue
		}
		switch err := c.run(env, args[len(words):]); {
		case err == nil || errors.Is(err, pflag.ErrHelp):
			return 0
		default:
			fmt.Fprintf(env.stderr, "heddle %s: %v\n", c.words, err)
			return 1
		}
	}
	if len(args) == 1 && (args[0] == "help" || args[0] == "--help" || args[0] == "-h") {
		usage(env.stdout)
		return 0
	}
	if len(args) > 0 {
		fmt.Fprintf(env.stderr, "heddle: no command %q\n", strings.Join(args, " "))
	}
	usage(env.stderr)
	return 1
}

func usage(w io.Writer) {
	fmt.Fprintln(w, "Usage: heddle COMMAND [--help]")
	for _, c := range commands {
		fmt.Fprintf(w, "  %-16s %s\n", c.words, c.brief)
	}
}

func printVersion(env environment, _ []string) error {
	fmt.Fprintln(env.stdout, version)
	return nil
}
