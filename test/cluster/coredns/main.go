// SPDX-License-Identifier: Apache-2.0

// The coredns program is CoreDNS with the few plugins that a cluster of its own needs: upstream's main package also
// holds those that speak to every cloud, whose libraries take minutes to build.
package main

import (
	"github.com/coredns/coredns/core/dnsserver"
	"github.com/coredns/coredns/coremain"
	_ "github.com/coredns/coredns/plugin/cache"
	_ "github.com/coredns/coredns/plugin/errors"
	_ "github.com/coredns/coredns/plugin/health"
	_ "github.com/coredns/coredns/plugin/kubernetes"
	_ "github.com/coredns/coredns/plugin/loadbalance"
	_ "github.com/coredns/coredns/plugin/log"
	_ "github.com/coredns/coredns/plugin/ready"
	_ "github.com/coredns/coredns/plugin/reload"
	_ "github.com/coredns/coredns/plugin/template"
)

// Their order is the order in which a query passes them: template answers last, for all names that are not the cluster's.
func init() {
	dnsserver.Directives = []string{
		"reload", "health", "ready", "errors", "log", "loadbalance", "cache", "kubernetes", "template",
	}
}

func main() { coremain.Run() }
