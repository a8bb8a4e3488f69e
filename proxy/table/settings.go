// SPDX-License-Identifier: Apache-2.0

package table

import (
	"fmt"
	"time"

	"github.com/heddle-mesh/heddle/internal/evaluate"
	"github.com/heddle-mesh/heddle/internal/meshconfig"
	"github.com/heddle-mesh/heddle/proxy/balance"
	"github.com/heddle-mesh/heddle/proxy/health"
	"github.com/heddle-mesh/heddle/proxy/outlier"
)

// maxConnect bounds how long the making of a connection may take.
const maxConnect = time.Hour

// settings are how all clusters of a service are called. They never change.
type settings struct {
	section *meshconfig.Cluster // nil: nobody said anything
	options balance.Options     // but for Zone and Attach
	zones   bool                // whether zones matter
	outlier *outlier.Config
	limits  outlier.Limits
	keys    *evaluate.Keys // nil: none
	connect time.Duration  // 0: the default
	check   *health.Check  // nil: none
	timed   bool           // the time that answers take matters
}

// defaults are the settings of what no section speaks of.
var defaults = &settings{options: defaultOptions(), zones: true, outlier: outlier.Defaults()}

func defaultOptions() balance.Options {
	o, _ := balance.NewOptions(nil, nil, "") // has no error: there is nothing to refuse
	return o
}

// newSettings reads a section, or nil. Errors name the field.
func newSettings(m *meshconfig.Cluster) (*settings, error) {
	if m == nil {
		return defaults, nil
	}
	b := m.GetBalancing()
	n := &settings{section: m, zones: !b.GetIgnoreLocality(), limits: outlier.NewLimits(m.GetBreaker())}
	var err error
	if n.options, err = balance.NewOptions(b, m.GetOutlier(), ""); err != nil {
		return nil, err
	}
	if n.outlier, err = outlier.NewConfig(m.GetOutlier()); err != nil {
		return nil, err
	}
	keys, err := evaluate.NewKeys(b.GetHash())
	if err != nil {
		return nil, fmt.Errorf("balancing.%w", err)
	}
	if n.hashes() && len(b.GetHash()) > 0 {
		n.keys = keys
	}
	n.timed = n.options.Policy == meshconfig.BalancingPolicy_BALANCING_POLICY_PEAK_EWMA || n.outlier.LatencyFactor > 0 ||
		n.limits.Adaptive
	if ms := m.GetConnectTimeout(); ms < 0 || ms > maxConnect.Milliseconds() {
		return nil, fmt.Errorf("connect_timeout: %d ms is not between 0 and %v", ms, maxConnect)
	}
	n.connect = time.Duration(m.GetConnectTimeout()) * time.Millisecond
	if m.GetHealthCheck() != nil {
		n.check, err = health.New(m.GetHealthCheck(), n.connect)
	}
	return n, err
}

// hashes says whether Sets have a table, which takes a while to make.
func (n *settings) hashes() bool {
	return n.options.Policy == meshconfig.BalancingPolicy_BALANCING_POLICY_CONSISTENT_HASH
}

// in returns the options of a caller's zone.
func (n *settings) in(zone string) balance.Options {
	o := n.options
	if n.zones {
		o.Zone = zone
	}
	return o
}

// settingsOf reads how the services are called that ports name: by service.
func settingsOf(m *meshconfig.Routes, ports []portBuilder) (map[string]*settings, error) {
	named := make(map[string]*settings)
	for _, p := range ports {
		for _, w := range p.backends {
			named[w.GetService()] = defaults
		}
	}
	for i, c := range m.GetClusters() {
		n, err := newSettings(c)
		if err != nil {
			return nil, fmt.Errorf("clusters[%d]: %w", i, err)
		}
		if named[c.GetService()] != nil {
			named[c.GetService()] = n
		}
	}
	return named, nil
}
