// SPDX-License-Identifier: Apache-2.0

package main

import "github.com/heddle-mesh/heddle/proxy/agent"

// shownConfig is what `heddle-proxy admin config` prints.
type shownConfig struct {
	Version  string     `json:"version"`
	Pod      string     `json:"pod"` // namespace/name
	Identity string     `json:"identity"`
	Draining bool       `json:"draining"`
	Running  running    `json:"running"`
	Agent    agent.Dump `json:"agent"`
}

// running is how many requests, and connections that aren't HTTP, each direction carries.
type running struct {
	Outbound int `json:"outbound"`
	Inbound  int `json:"inbound"`
}

func (p *proxy) showConfig() any {
	return shownConfig{
		Version:  version,
		Pod:      p.config.identity.Namespace + "/" + p.config.podName,
		Identity: p.config.identity.String(),
		Draining: p.drain.Draining(),
		Running:  running{p.out.Active(), p.in.Active()},
		Agent:    p.agent.Dump(),
	}
}

// shownCertificates is what `heddle-proxy admin certs` prints.
type shownCertificates struct {
	Serial string `json:"serial"` // of the leaf; empty: there is none yet
	agent.Certificates
}

func (p *proxy) showCertificates() any {
	s := shownCertificates{Certificates: p.agent.Identity().Dump()}
	if len(s.Chain) > 0 {
		s.Serial = s.Chain[0].Serial
	}
	return s
}
