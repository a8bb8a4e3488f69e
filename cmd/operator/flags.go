// SPDX-License-Identifier: Apache-2.0

package main

import (
	"cmp"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"time"

	cmmeta "github.com/cert-manager/cert-manager/pkg/apis/meta/v1"
	"github.com/spf13/pflag"

	"github.com/heddle-mesh/heddle/internal/identity"
	"github.com/heddle-mesh/heddle/internal/issue"
)

// options are the settings of the operator. docs/operator.md lists them.
type options struct {
	namespace, podIP string
	trustDomain      string
	networks         []string

	controlPort    int
	controlAddress string // that proxies dial
	controlCerts   string // a directory
	webhookPort    int
	webhookCerts   string
	metricsBind    string
	healthBind     string

	serialEpoch  uint32
	leafDuration time.Duration
	issuer       cmmeta.IssuerReference
	rootSecret   string

	proxyImage string
	logLevel   slog.Level
}

// serviceName is the Service of the control server and the webhooks.
const serviceName = "heddle-operator"

// parseFlags reads the command line; environment variables give the defaults that a Deployment sets.
func parseFlags(args []string) (*options, error) {
	o := &options{}
	level := ""
	f := pflag.NewFlagSet("heddle-operator", pflag.ContinueOnError)
	f.StringVar(&o.namespace, "namespace", os.Getenv("POD_NAMESPACE"), "the operator's own namespace")
	f.StringVar(&o.podIP, "pod-ip", os.Getenv("POD_IP"), "the address at which the other replicas reach this one")
	f.StringVar(&o.trustDomain, "trust-domain", "cluster.local", "trust domain of all workload identities")
	f.StringSliceVar(&o.networks, "mesh-networks", nil,
		"CIDRs of the mesh beside those of the nodes' pods and of Services: an address in them that nobody knows is refused")
	f.IntVar(&o.controlPort, "control-port", 8443, "port of the config and identity server")
	f.StringVar(&o.controlAddress, "control-address", "", "host:port that proxies dial (default: the Service's)")
	f.StringVar(&o.controlCerts, "control-cert-dir", "/var/run/heddle/control-tls", "tls.crt, tls.key and ca.crt of that server")
	f.IntVar(&o.webhookPort, "webhook-port", 9443, "port of the webhooks")
	f.StringVar(&o.webhookCerts, "webhook-cert-dir", "/var/run/heddle/webhook-tls", "tls.crt and tls.key of the webhooks")
	f.StringVar(&o.metricsBind, "metrics-bind-address", ":8080", "where /metrics is served")
	f.StringVar(&o.healthBind, "health-probe-bind-address", ":8081", "where /healthz and /readyz are served")
	f.Uint32Var(&o.serialEpoch, "serial-epoch", 0, "least epoch of serials; raise it after a restore of etcd from a backup")
	f.DurationVar(&o.leafDuration, "leaf-duration", issue.DefaultLeafDuration,
		fmt.Sprintf("life of a workload's certificate, %s to %s", issue.MinLeafDuration, issue.MaxLeafDuration))
	f.StringVar(&o.issuer.Name, "workload-issuer", issue.DefaultIssuer.Name, "cert-manager issuer of workload certificates")
	f.StringVar(&o.issuer.Kind, "workload-issuer-kind", issue.DefaultIssuer.Kind,
		"its kind; with ClusterIssuer, whoever may create CertificateRequests anywhere can mint identities")
	f.StringVar(&o.issuer.Group, "workload-issuer-group", issue.DefaultIssuer.Group, "its API group")
	f.StringVar(&o.rootSecret, "workload-root-secret", issue.DefaultRootsSecret, "Secret of the operator's namespace whose ca.crt workload certificates chain to")
	f.StringVar(&o.proxyImage, "proxy-image", os.Getenv("HEDDLE_PROXY_IMAGE"), "image of the proxy that is injected")
	f.StringVar(&level, "log-level", "info", "debug, info, warn or error")
	if err := f.Parse(args); err != nil {
		return nil, err
	}
	if f.NArg() > 0 {
		return nil, fmt.Errorf("unexpected argument %q", f.Arg(0))
	}
	if err := o.logLevel.UnmarshalText([]byte(level)); err != nil {
		return nil, fmt.Errorf("--log-level: %w", err)
	}
	o.controlAddress = cmp.Or(o.controlAddress, net.JoinHostPort(o.serverName(), fmt.Sprint(o.controlPort)))
	return o, o.validate()
}

func (o *options) validate() error {
	var errs []error
	if o.namespace == "" {
		errs = append(errs, errors.New("--namespace or POD_NAMESPACE must be set"))
	}
	if _, err := netip.ParseAddr(o.podIP); err != nil {
		errs = append(errs, fmt.Errorf("--pod-ip or POD_IP: %w", err))
	}
	if err := identity.ValidateTrustDomain(o.trustDomain); err != nil {
		errs = append(errs, fmt.Errorf("--trust-domain: %w", err))
	}
	for _, s := range o.networks {
		if _, err := netip.ParsePrefix(s); err != nil {
			errs = append(errs, fmt.Errorf("--mesh-networks: %w", err))
		}
	}
	if o.leafDuration != issue.ClampLeafDuration(o.leafDuration) {
		errs = append(errs, fmt.Errorf("--leaf-duration %s: want %s to %s", o.leafDuration, issue.MinLeafDuration, issue.MaxLeafDuration))
	}
	if o.proxyImage == "" {
		errs = append(errs, errors.New("--proxy-image or HEDDLE_PROXY_IMAGE must be set"))
	}
	return errors.Join(errs...)
}

// serverName is the exact DNS name in the control server's certificate.
func (o *options) serverName() string { return serviceName + "." + o.namespace + ".svc" }

// replicaAddress is where the other replicas reach this one's control server.
func (o *options) replicaAddress() string {
	return net.JoinHostPort(o.podIP, fmt.Sprint(o.controlPort))
}
