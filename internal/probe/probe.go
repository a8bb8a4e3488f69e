// SPDX-License-Identifier: Apache-2.0

// Package probe is how the injector tells the proxy which of the kubelet's probes, HTTP lifecycle hooks and scrapes it
// answers in the application's place: the values of the proxy's environment variables HEDDLE_PROBES and
// HEDDLE_METRICS_MERGE. Under strict mTLS the kubelet can't reach the application, so the injector points its probes at
// http://POD-IP:15020/probe/<ID>, and the proxy asks the application from inside the pod.
package probe

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"
)

// EnvProbes and EnvScrape are the environment variables that hold what Encode and EncodeScrape return.
const (
	EnvProbes = "HEDDLE_PROBES"
	EnvScrape = "HEDDLE_METRICS_MERGE"
)

// Port is the port of the pod's own address on which the proxy answers.
const Port = 15020

// PathPrefix is what stands before the ID in the path of a rewritten probe.
const PathPrefix = "/probe/"

// Bounds of what Decode takes.
const (
	MaxSpecs    = 256
	maxEncoded  = 256 << 10
	maxIDLength = 64
)

// Kind is what the proxy does to find out.
type Kind string

// The kinds of probe.
const (
	HTTP Kind = "http" // httpGet: a status from 200 to 399 is success
	TCP  Kind = "tcp"  // tcpSocket: a connection is success
	GRPC Kind = "grpc" // grpc: the answer SERVING is success
	Hook Kind = "hook" // httpGet of a lifecycle hook: any response is success, as it is for the kubelet
)

// Spec is one rewritten probe or hook. Only probes of the pod itself are rewritten: one whose httpGet.host or
// tcpSocket.host is set asks another machine, from the node, and stays as it is.
type Spec struct {
	// ID is the last part of the path that the kubelet asks: 1 to 64 of a-z, 0-9 and "-", unique in the pod. It should
	// tell a stranger who can reach the port nothing.
	ID string `json:"id"`
	// Name says in logs whose probe it is, such as "app/readiness".
	Name string `json:"name,omitempty"`
	Kind Kind   `json:"kind"`
	// Port is the container's port, named ports resolved.
	Port uint16 `json:"port"`
	// Path is httpGet.path with its query, as written in the pod: "/healthz?full=1".
	Path string `json:"path,omitempty"`
	// HTTPS is set for httpGet.scheme HTTPS. The certificate isn't verified, as the kubelet doesn't either.
	HTTPS bool `json:"https,omitempty"`
	// Headers are httpGet.httpHeaders in their order; one named Host sets the request's host.
	Headers []Header `json:"headers,omitempty"`
	// Service is grpc.service; empty asks for the server as a whole.
	Service string `json:"service,omitempty"`
	// TimeoutMillis is the probe's timeoutSeconds in milliseconds. 0 is one second, the kubelet's default; for a Hook it
	// is until the kubelet hangs up.
	TimeoutMillis int64 `json:"timeoutMillis,omitempty"`
}

// Header is one header of a probe's request.
type Header struct {
	Name  string `json:"name"`
	Value string `json:"value"`
}

// Scrape is where the application serves its own metrics, which the proxy merges into its /metrics.
type Scrape struct {
	Port uint16 `json:"port"`
	Path string `json:"path"` // with its query; empty is "/metrics"
}

// Path returns the path that the kubelet asks for the probe with this ID.
func Path(id string) string { return PathPrefix + id }

// Timeout is how long the application has to answer; 0 is without a limit of its own (a Hook's).
func (s *Spec) Timeout() time.Duration {
	switch {
	case s.TimeoutMillis > 0:
		return time.Duration(s.TimeoutMillis) * time.Millisecond
	case s.Kind == Hook:
		return 0
	default:
		return time.Second
	}
}

// Validate says what is wrong with a probe by itself.
func (s *Spec) Validate() error {
	if !validID(s.ID) {
		return fmt.Errorf("probe id %q: want 1 to %d of a-z, 0-9 and \"-\"", s.ID, maxIDLength)
	}
	switch s.Kind {
	case HTTP, TCP, GRPC, Hook:
	default:
		return fmt.Errorf("probe %s: kind %q: want http, tcp, grpc or hook", s.ID, s.Kind)
	}
	if s.Port == 0 {
		return fmt.Errorf("probe %s: port 0: want the container's port", s.ID)
	}
	if s.TimeoutMillis < 0 || s.TimeoutMillis > time.Hour.Milliseconds() {
		return fmt.Errorf("probe %s: timeout of %d ms: want 0 to an hour", s.ID, s.TimeoutMillis)
	}
	return nil
}

func validID(id string) bool {
	return id != "" && len(id) <= maxIDLength && !strings.ContainsFunc(id, func(r rune) bool {
		return (r < 'a' || r > 'z') && (r < '0' || r > '9') && r != '-'
	})
}

// Encode returns the value of EnvProbes: one line of JSON, in the order given. The injector passes probes in the order
// of the pod's containers, so that injecting twice gives the same.
func Encode(specs []Spec) (string, error) {
	if err := validate(specs); err != nil {
		return "", err
	}
	return encode(specs)
}

// Decode reads a value of EnvProbes, strictly; the empty value is no probe.
func Decode(value string) ([]Spec, error) {
	if value == "" {
		return nil, nil
	}
	var specs []Spec
	if err := decode(EnvProbes, value, &specs); err != nil {
		return nil, err
	}
	if err := validate(specs); err != nil {
		return nil, fmt.Errorf("%s: %w", EnvProbes, err)
	}
	return specs, nil
}

func validate(specs []Spec) error {
	if len(specs) > MaxSpecs {
		return fmt.Errorf("%d probes: at most %d", len(specs), MaxSpecs)
	}
	seen := make(map[string]bool, len(specs))
	for i := range specs {
		if err := specs[i].Validate(); err != nil {
			return err
		}
		if seen[specs[i].ID] {
			return fmt.Errorf("probe id %q stands twice", specs[i].ID)
		}
		seen[specs[i].ID] = true
	}
	return nil
}

// EncodeScrape returns the value of EnvScrape.
func EncodeScrape(scrape Scrape) (string, error) {
	if scrape.Port == 0 {
		return "", errors.New("port 0: want the port on which the application serves its metrics")
	}
	return encode(scrape)
}

// DecodeScrape reads a value of EnvScrape; the empty value is none.
func DecodeScrape(value string) (*Scrape, error) {
	if value == "" {
		return nil, nil
	}
	var scrape Scrape
	if err := decode(EnvScrape, value, &scrape); err != nil {
		return nil, err
	}
	if scrape.Port == 0 {
		return nil, fmt.Errorf("%s: port 0: want the port on which the application serves its metrics", EnvScrape)
	}
	if scrape.Path == "" {
		scrape.Path = "/metrics"
	}
	return &scrape, nil
}

func encode(v any) (string, error) {
	var b strings.Builder
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false) // "&" of a query stays readable in the pod
	if err := e.Encode(v); err != nil {
		return "", err
	}
	if b.Len() > maxEncoded {
		return "", fmt.Errorf("%d bytes encoded: at most %d", b.Len(), maxEncoded)
	}
	return strings.TrimSuffix(b.String(), "\n"), nil
}

func decode(variable, value string, into any) error {
	if len(value) > maxEncoded {
		return fmt.Errorf("%s: %d bytes: at most %d", variable, len(value), maxEncoded)
	}
	d := json.NewDecoder(strings.NewReader(value))
	d.DisallowUnknownFields()
	if err := d.Decode(into); err != nil {
		return fmt.Errorf("%s: %w", variable, err)
	}
	if _, err := d.Token(); err != io.EOF {
		return fmt.Errorf("%s: more than one JSON value", variable)
	}
	return nil
}
