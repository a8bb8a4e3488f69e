// SPDX-License-Identifier: Apache-2.0

// Shop is the application of the demo and of the end-to-end tests: a web front, a checkout in two versions, payments
// over gRPC and a TCP store, and the clients that load and probe them. It knows nothing of the mesh.
package main

import (
	"context"
	"flag"
	"fmt"
	"log"
	"os"
	"os/signal"
	"syscall"
)

// commands run until the context ends or their work is done.
var commands = map[string]func(ctx context.Context, args []string) error{
	"web":      runWeb,      // HTTP front: /buy calls checkout
	"checkout": runCheckout, // HTTP: charges by payments, writes to the store
	"payments": runPayments, // gRPC
	"store":    runStore,    // TCP, the server speaks first
	"load":     runLoad,     // open-loop HTTP load
	"hold":     runHold,     // keeps HTTP, gRPC and TCP connections open and busy
	"get":      runGet,      // one HTTP request
	"job":      runJob,      // one call, then exits 0: for a Job
	"sleep":    runSleep,    // waits for a signal: a pod to exec in
}

func main() {
	log.SetFlags(log.Lmicroseconds)
	if len(os.Args) < 2 || commands[os.Args[1]] == nil {
		fmt.Fprintln(os.Stderr, "usage: shop web|checkout|payments|store|load|hold|get|job|sleep [FLAGS]")
		os.Exit(2)
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	if err := commands[os.Args[1]](ctx, os.Args[2:]); err != nil {
		log.Printf("shop %s: %v", os.Args[1], err)
		stop()
		os.Exit(1)
	}
}

func runSleep(ctx context.Context, _ []string) error {
	<-ctx.Done()
	return nil
}

func newFlags(name string) *flag.FlagSet {
	return flag.NewFlagSet("shop "+name, flag.ExitOnError)
}
