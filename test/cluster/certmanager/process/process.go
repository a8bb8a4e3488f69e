// SPDX-License-Identifier: Apache-2.0

// Package process is what cert-manager's three programs have in common: flags, logs and an orderly end.
package process

import (
	"context"
	"os"
	"os/signal"
	"syscall"

	logf "github.com/cert-manager/cert-manager/pkg/logs"
	"github.com/spf13/pflag"
	logsapi "k8s.io/component-base/logs/api/v1"
	ctrl "sigs.k8s.io/controller-runtime"
)

// Main parses the program's flags, sets up its logs as logging says once they are parsed, and runs it until a signal.
func Main(name string, flags *pflag.FlagSet, logging *logsapi.LoggingConfiguration, run func(context.Context) error) {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	logf.InitLogs()
	defer logf.FlushLogs()
	ctrl.SetLogger(logf.Log)
	ctx = logf.NewContext(ctx, logf.Log, name)

	err := flags.Parse(os.Args[1:])
	if err == nil {
		err = logf.ValidateAndApply(logging)
	}
	if err == nil {
		err = run(ctx)
	}
	if err != nil {
		logf.Log.Error(err, "cannot go on", "program", name)
		logf.FlushLogs()
		stop()
		os.Exit(1)
	}
}
