// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"math"
	"net/netip"
	"strings"

	"github.com/heddle-mesh/heddle/proxy/capture"
)

// redirect is `heddle-proxy init`.
func redirect(args []string, getenv func(string) string, stdout, stderr io.Writer) error {
	config, err := redirectConfig(args, stderr)
	if err != nil {
		return err
	}
	around, err := capture.LookAround()
	if err != nil {
		return err
	}
	var errPod, errHost error
	around.PodIPs, errPod = parseIPs(getenv, envPodIPs)
	around.HostIPs, errHost = parseIPs(getenv, envHostIPs)
	if err := errors.Join(errPod, errHost); err != nil {
		return usageError{err}
	}
	if err := around.Check(); err != nil {
		return err
	}
	if err := capture.Apply(*config); err != nil {
		return err
	}
	_, err = fmt.Fprintf(stdout, "redirected: outbound to %d, inbound to %d; left alone: uid %d, loopback, inbound ports %d and %v, outbound ports %v, CIDRs %v\n",
		config.OutboundPort, config.InboundPort, config.ProxyUID, config.AdminPort, config.SkipInboundPorts,
		config.SkipOutboundPorts, config.SkipOutboundCIDRs)
	return err
}

func redirectConfig(args []string, stderr io.Writer) (*capture.Config, error) {
	config := capture.Default()
	flags := flag.NewFlagSet("init", flag.ContinueOnError)
	uid := flags.Uint("proxy-uid", capture.DefaultProxyUID, "user whose connections are left alone: the proxy's")
	outbound := flags.Uint("outbound-port", capture.DefaultOutboundPort, "port that takes what leaves the pod")
	inbound := flags.Uint("inbound-port", capture.DefaultInboundPort, "port that takes what enters the pod")
	skipIn := flags.String("skip-inbound-ports", "", "ports and ranges to leave alone, such as 22,8000-8100")
	skipOut := flags.String("skip-outbound-ports", "", "ports and ranges to leave alone")
	skipCIDRs := flags.String("skip-outbound-cidrs", "", "destinations to leave alone, such as 10.0.0.0/8,2001:db8::/32")
	if err := parse(flags, args, stderr); err != nil {
		return nil, err
	}
	if *uid > math.MaxUint32 || *outbound > math.MaxUint16 || *inbound > math.MaxUint16 {
		return nil, usageError{fmt.Errorf("init: uid %d or port %d or %d is too large", *uid, *outbound, *inbound)}
	}
	config.ProxyUID, config.OutboundPort, config.InboundPort = uint32(*uid), uint16(*outbound), uint16(*inbound)
	var errs [3]error
	config.SkipInboundPorts, errs[0] = capture.ParsePorts(*skipIn)
	config.SkipOutboundPorts, errs[1] = capture.ParsePorts(*skipOut)
	config.SkipOutboundCIDRs, errs[2] = capture.ParseCIDRs(*skipCIDRs)
	if err := errors.Join(errs[:]...); err != nil {
		return nil, usageError{fmt.Errorf("init: %w", err)}
	}
	if err := config.Validate(); err != nil {
		return nil, usageError{fmt.Errorf("init: %w", err)}
	}
	return &config, nil
}

// parseIPs reads a comma-separated list of addresses, as the downward API writes it. The empty value is none.
func parseIPs(getenv func(string) string, variable string) ([]netip.Addr, error) {
	var ips []netip.Addr
	for text := range strings.SplitSeq(getenv(variable), ",") {
		if text = strings.TrimSpace(text); text == "" {
			continue
		}
		ip, err := netip.ParseAddr(text)
		if err != nil {
			return nil, fmt.Errorf("environment variable %s: %q: want IP addresses, as fieldRef status.podIPs or status.hostIPs gives them", variable, text)
		}
		ips = append(ips, ip.Unmap())
	}
	return ips, nil
}
