// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/go-logr/logr"
	"github.com/spf13/pflag"

	"github.com/heddle-mesh/heddle/internal/identity"
	"github.com/heddle-mesh/heddle/internal/issue"
	"github.com/heddle-mesh/heddle/internal/sandbox"
)

const proxyName = "heddle-proxy"

func runSandbox(env environment, args []string) error {
	o := sandbox.Options{Version: version, Stdout: env.stdout, Stderr: env.stderr, Clock: env.now}
	limits, verbose := "", false
	flags := pflag.NewFlagSet("sandbox", pflag.ContinueOnError)
	flags.SetOutput(env.stderr)
	flags.SortFlags = false
	flags.Usage = func() {
		fmt.Fprintf(env.stderr, "Usage: heddle sandbox -f DIR [flags]\n%s", flags.FlagUsages())
	}
	flags.StringArrayVarP(&o.Paths, "filename", "f", nil, "directory or file with Services, EndpointSlices, Pods and the mesh's kinds; repeatable")
	flags.StringArrayVar(&o.Listen, "listen", nil, "SERVICE[:PORT]=IP:PORT: where the client side takes what goes to a Service, in clear; repeatable (default: all, at free ports)")
	flags.StringArrayVar(&o.Inbound, "inbound", nil, "ENDPOINT=IP:PORT: where the server side of an endpoint listens; repeatable (default: free ports)")
	flags.StringArrayVar(&o.Callers, "caller", nil, "SERVICE=NAMESPACE/SERVICEACCOUNT: who calls, at the client side of a Service (default: default, in its namespace)")
	flags.StringArrayVar(&o.Admin, "admin", nil, "SERVICE=IP:PORT or ENDPOINT=IP:PORT: /ready and /metrics of a client side, or of a server side (default: free ports)")
	flags.BoolVar(&o.InboundOnly, "inbound-only", false, "server sides alone: callers bring mutual TLS")
	flags.BoolVar(&o.OutboundOnly, "outbound-only", false, "client sides alone: they call the endpoints themselves, with mutual TLS")
	flags.StringVar(&o.PKI, "pki", "", "directory that keeps the workload CA, ca.pem and ca.key (default: a new CA in memory)")
	flags.StringVar(&o.TrustDomain, "trust-domain", "cluster.local", "trust domain of all identities")
	flags.DurationVar(&o.LeafDuration, "leaf-duration", issue.DefaultLeafDuration, "life of a proxy's certificate")
	flags.StringVar(&o.Proxy, "proxy", "", "the proxy's binary (default: heddle-proxy beside this one, then on the PATH)")
	flags.StringArrayVar(&o.ProxyArgs, "proxy-arg", nil, "one more argument of every proxy; repeatable")
	flags.StringArrayVar(&o.ProxyEnv, "proxy-env", nil, "NAME=VALUE in the environment of every proxy, on top of this one's; repeatable")
	flags.StringVar(&limits, "limits", "", "limits of every proxy, as HEDDLE_LIMITS has them: streams=100,header-bytes=64KiB")
	flags.BoolVar(&verbose, "verbose", false, "the log of the operator's part, too")
	if err := flags.Parse(args); err != nil {
		return err
	}
	if flags.NArg() > 0 || len(o.Paths) == 0 {
		return errors.New("want -f DIR, and flags alone; see --help")
	}
	if limits != "" {
		o.ProxyEnv = append(o.ProxyEnv, "HEDDLE_LIMITS="+limits)
	}
	if err := identity.ValidateTrustDomain(o.TrustDomain); err != nil {
		return fmt.Errorf("--trust-domain: %w", err)
	}
	var err error
	if o.Proxy, err = findProxy(o.Proxy); err != nil {
		return err
	}
	level := slog.LevelError
	if verbose {
		level = slog.LevelInfo
	}
	o.Log = logr.FromSlogHandler(slog.NewTextHandler(env.stderr, &slog.HandlerOptions{Level: level}))
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	return sandbox.Run(ctx, o)
}

// findProxy returns the path of the proxy's binary.
func findProxy(path string) (string, error) {
	if path != "" {
		found, err := exec.LookPath(path)
		if err != nil {
			return "", err
		}
		return filepath.Abs(found)
	}
	if own, err := os.Executable(); err == nil {
		beside := filepath.Join(filepath.Dir(own), proxyName)
		if info, err := os.Stat(beside); err == nil && info.Mode().IsRegular() {
			return beside, nil
		}
	}
	found, err := exec.LookPath(proxyName)
	if err != nil {
		return "", fmt.Errorf("%s is neither beside this program nor on the PATH: say where with --proxy", proxyName)
	}
	return filepath.Abs(found)
}

// sandboxCert issues a certificate for a peer that is no proxy of the sandbox.
func sandboxCert(env environment, args []string) error {
	dir, name, out, domain := "", "", "", ""
	var life time.Duration
	flags := pflag.NewFlagSet("sandbox cert", pflag.ContinueOnError)
	flags.SetOutput(env.stderr)
	flags.Usage = func() {
		fmt.Fprintf(env.stderr, "Usage: heddle sandbox cert --pki DIR --identity ID [flags]\n%s", flags.FlagUsages())
	}
	flags.StringVar(&dir, "pki", "", "directory of the workload CA; it is made there if there is none (required)")
	flags.StringVar(&name, "identity", "", "SPIFFE ID, or NAMESPACE/SERVICEACCOUNT (required)")
	flags.StringVar(&domain, "trust-domain", "cluster.local", "of an identity that is given as NAMESPACE/SERVICEACCOUNT")
	flags.StringVar(&out, "out", "", "writes PREFIX.pem and PREFIX.key (default: DIR/NAMESPACE-SERVICEACCOUNT)")
	flags.DurationVar(&life, "duration", issue.DefaultLeafDuration, "life of the certificate")
	if err := flags.Parse(args); err != nil {
		return err
	}
	if flags.NArg() > 0 || dir == "" || name == "" {
		return errors.New("want --pki DIR and --identity ID; see --help")
	}
	namespace, account, ok := strings.Cut(name, "/")
	id := identity.ID{TrustDomain: domain, Namespace: namespace, ServiceAccount: account}
	if !ok || strings.Contains(name, "://") {
		var err error
		if id, err = identity.Parse(name); err != nil {
			return err
		}
	}
	chain, key, err := sandbox.Certificate(dir, id, life, env.now)
	if err != nil {
		return err
	}
	if out == "" {
		out = filepath.Join(dir, id.Namespace+"-"+id.ServiceAccount)
	}
	if err := write(out+".key", key, 0o600); err != nil {
		return err
	}
	if err := write(out+".pem", chain, 0o644); err != nil {
		return err
	}
	fmt.Fprintf(env.stdout, "%s.pem and %s.key: %s, until %s; trusts %s\n",
		out, out, id, env.now().Add(life).UTC().Format(time.RFC3339), filepath.Join(dir, "ca.pem"))
	return nil
}

// write writes a file with a mode, whatever mode it had.
func write(path string, data []byte, mode fs.FileMode) error {
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return os.WriteFile(path, data, mode)
}
