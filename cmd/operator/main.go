// SPDX-License-Identifier: Apache-2.0

// Command operator runs one replica of the control plane: the informers, the webhooks, the identity service and the
// distribution of signed config on every replica; compiling, signing and status on the one that leads.
package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"

	"github.com/go-logr/logr"
	"github.com/spf13/pflag"
	"k8s.io/klog/v2"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/metrics"
)

// version is set by the linker.
var version = "dev"

func main() {
	o, err := parseFlags(os.Args[1:])
	switch {
	case errors.Is(err, pflag.ErrHelp):
		return
	case err != nil:
		fmt.Fprintln(os.Stderr, "heddle-operator:", err)
		os.Exit(2)
	}
	log := logr.FromSlogHandler(slog.NewJSONHandler(os.Stderr, &slog.HandlerOptions{Level: o.logLevel}))
	ctrl.SetLogger(log)
	klog.SetLogger(log.WithName("client-go"))
	if err := run(ctrl.SetupSignalHandler(), o, log); err != nil {
		log.Error(err, "the operator stops")
		os.Exit(1)
	}
}

// run runs the replica until the context ends.
func run(ctx context.Context, o *options, log logr.Logger) error {
	config, err := ctrl.GetConfig()
	if err != nil {
		return fmt.Errorf("find the API server: %w", err)
	}
	// The API server's own fairness bounds us; a limit here would make a thousand new pods wait minutes for certificates.
	config.QPS = -1
	config.UserAgent = "heddle-operator/" + version
	r, err := newReplica(ctx, config, o, log, metrics.Registry)
	if err != nil {
		return err
	}
	log.Info("the operator starts", "version", version, "meshID", r.meshID, "trustDomain", o.trustDomain)
	return r.manager.Start(ctx)
}
