// SPDX-License-Identifier: Apache-2.0

// The controller program is cert-manager's controllers behind the flags that the official chart passes.
//
// It holds the issuers that need nothing outside the cluster (CA and self-signed) and every certificate and request
// controller. Upstream's own program also holds ACME, Vault and Venafi, whose libraries are most of its size.
package main

import (
	"context"
	"slices"
	"strings"
	"time"

	"github.com/cert-manager/cert-manager/heddle/process"
	"github.com/cert-manager/cert-manager/pkg/controller"
	_ "github.com/cert-manager/cert-manager/pkg/controller/certificaterequests/approver"
	_ "github.com/cert-manager/cert-manager/pkg/controller/certificaterequests/ca"
	_ "github.com/cert-manager/cert-manager/pkg/controller/certificaterequests/selfsigned"
	_ "github.com/cert-manager/cert-manager/pkg/controller/certificates/issuing"
	_ "github.com/cert-manager/cert-manager/pkg/controller/certificates/keymanager"
	_ "github.com/cert-manager/cert-manager/pkg/controller/certificates/metrics"
	_ "github.com/cert-manager/cert-manager/pkg/controller/certificates/readiness"
	_ "github.com/cert-manager/cert-manager/pkg/controller/certificates/requestmanager"
	_ "github.com/cert-manager/cert-manager/pkg/controller/certificates/revisionmanager"
	_ "github.com/cert-manager/cert-manager/pkg/controller/certificates/trigger"
	_ "github.com/cert-manager/cert-manager/pkg/controller/clusterissuers"
	_ "github.com/cert-manager/cert-manager/pkg/controller/issuers"
	_ "github.com/cert-manager/cert-manager/pkg/issuer/ca"
	_ "github.com/cert-manager/cert-manager/pkg/issuer/selfsigned"
	logf "github.com/cert-manager/cert-manager/pkg/logs"
	utilfeature "github.com/cert-manager/cert-manager/pkg/util/feature"
	"github.com/spf13/pflag"
	logsapi "k8s.io/component-base/logs/api/v1"
)

// options are the program's flags. Their defaults are upstream's, whose own table of them cannot be imported without
// the libraries of every cloud.
type options struct {
	context     controller.ContextOptions
	controllers []string
	workers     int
	metrics     string
	healthz     string
	election    election
	logging     logsapi.LoggingConfiguration
}

func main() {
	var o options
	flags := pflag.NewFlagSet("controller", pflag.ContinueOnError)
	o.add(flags)
	process.Main("controller", flags, &o.logging, func(ctx context.Context) error { return run(ctx, &o) })
}

func (o *options) add(flags *pflag.FlagSet) {
	c := &o.context
	flags.StringVar(&c.Kubeconfig, "kubeconfig", "", "only outside of a cluster")
	flags.Float32Var(&c.KubernetesAPIQPS, "kube-api-qps", 20, "requests a second to the API server")
	flags.IntVar(&c.KubernetesAPIBurst, "kube-api-burst", 50, "requests at once to the API server")
	flags.StringVar(&c.ClusterResourceNamespace, "cluster-resource-namespace", "kube-system", "where the secrets of ClusterIssuers are")
	flags.BoolVar(&c.EnableOwnerRef, "enable-certificate-owner-ref", false, "delete a secret with its Certificate")
	flags.StringSliceVar(&c.CopiedAnnotationPrefixes, "copied-annotation-prefixes",
		[]string{"*", "-kubectl.kubernetes.io/", "-fluxcd.io/", "-argocd.argoproj.io/"}, "what a Certificate's request inherits")
	flags.DurationVar(&c.CertificateRequestMinimumBackoffDuration, "certificate-request-minimum-backoff-duration", time.Hour, "")
	flags.DurationVar(&c.CertificateRequestMaximumBackoffDuration, "certificate-request-maximum-backoff-duration", 32*time.Hour, "")
	flags.StringSliceVar(&o.controllers, "controllers", []string{"*"}, "controllers to run; -NAME leaves one out")
	flags.IntVar(&o.workers, "concurrent-workers", 5, "workers of each controller")
	flags.StringVar(&o.metrics, "metrics-listen-address", "0.0.0.0:9402", "")
	flags.StringVar(&o.healthz, "internal-healthz-listen-address", "0.0.0.0:9403", "")
	flags.String("acme-http01-solver-image", "", "ignored: there is no ACME issuer in this program")
	flags.Int("max-concurrent-challenges", 0, "ignored like that")
	o.election.add(flags)
	utilfeature.DefaultMutableFeatureGate.AddFlag(flags)
	logsapi.SetRecommendedLoggingConfiguration(&o.logging)
	logf.AddFlags(&o.logging, flags)
}

// enabled says whether --controllers lets this one run. A list that only leaves some out means all others.
func (o *options) enabled(name string) bool {
	if slices.Contains(o.controllers, "-"+name) {
		return false
	}
	return slices.Contains(o.controllers, "*") || slices.Contains(o.controllers, name) ||
		!slices.ContainsFunc(o.controllers, func(c string) bool { return !strings.HasPrefix(c, "-") })
}
