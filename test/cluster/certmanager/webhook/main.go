// SPDX-License-Identifier: Apache-2.0

// The webhook program is cert-manager's own webhook server behind the flags that the official chart passes.
package main

import (
	"context"

	"github.com/cert-manager/cert-manager/heddle/process"
	"github.com/cert-manager/cert-manager/internal/webhook"
	logf "github.com/cert-manager/cert-manager/pkg/logs"
	utilfeature "github.com/cert-manager/cert-manager/pkg/util/feature"
	"github.com/cert-manager/cert-manager/pkg/webhook/options"
	"github.com/spf13/pflag"
)

func main() {
	config, err := options.NewWebhookConfiguration()
	if err != nil {
		panic(err) // the defaults are compiled in
	}
	flags := pflag.NewFlagSet("webhook", pflag.ContinueOnError)
	options.AddConfigFlags(flags, config)
	process.Main("webhook", flags, &config.Logging, func(ctx context.Context) error {
		if err := utilfeature.DefaultMutableFeatureGate.SetFromMap(config.FeatureGates); err != nil {
			return err
		}
		server, err := webhook.NewCertManagerWebhookServer(logf.FromContext(ctx), *config)
		if err != nil {
			return err
		}
		return server.Run(ctx)
	})
}
