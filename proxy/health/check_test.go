// SPDX-License-Identifier: Apache-2.0

package health

import (
	"strings"
	"testing"
	"time"

	"github.com/heddle-mesh/heddle/internal/meshconfig"
)

const (
	byHTTP = meshconfig.HealthCheck_TYPE_HTTP
	byGRPC = meshconfig.HealthCheck_TYPE_GRPC
	byTCP  = meshconfig.HealthCheck_TYPE_TCP
)

func TestConfigThatIsRefused(t *testing.T) {
	header := func(name, value string) *meshconfig.HealthCheck {
		return &meshconfig.HealthCheck{Type: byHTTP, Headers: []*meshconfig.HeaderValue{{Name: "a", Value: "b"}, {Name: name, Value: value}}}
	}
	tests := map[string]struct {
		config *meshconfig.HealthCheck
		field  string
	}{
		"no type":                            {&meshconfig.HealthCheck{}, "type"},
		"a type of tomorrow":                 {&meshconfig.HealthCheck{Type: 9}, "type"},
		"checks without pause":               {&meshconfig.HealthCheck{Type: byTCP, Interval: 999}, "interval"},
		"a negative interval":                {&meshconfig.HealthCheck{Type: byTCP, Interval: -1}, "interval"},
		"an interval of a day":               {&meshconfig.HealthCheck{Type: byTCP, Interval: 86_400_000}, "interval"},
		"a timeout above the interval":       {&meshconfig.HealthCheck{Type: byTCP, Interval: 2000, Timeout: 2001}, "timeout"},
		"a negative timeout":                 {&meshconfig.HealthCheck{Type: byTCP, Timeout: -1}, "timeout"},
		"a threshold that is never reached":  {&meshconfig.HealthCheck{Type: byTCP, HealthyThreshold: 101}, "healthy_threshold"},
		"an endless run of bad checks":       {&meshconfig.HealthCheck{Type: byTCP, UnhealthyThreshold: 1 << 31}, "unhealthy_threshold"},
		"a relative path":                    {&meshconfig.HealthCheck{Type: byHTTP, Path: "health"}, "path"},
		"a path that splits the request":     {&meshconfig.HealthCheck{Type: byHTTP, Path: "/a HTTP/1.1\r\nX: y"}, "path"},
		"a path with a fragment":             {&meshconfig.HealthCheck{Type: byHTTP, Path: "/a#b"}, "path"},
		"a host with a line break":           {&meshconfig.HealthCheck{Type: byHTTP, Host: "a\r\nb"}, "host"},
		"a host with a user":                 {&meshconfig.HealthCheck{Type: byGRPC, Host: "a@b"}, "host"},
		"a status of no answer":              {&meshconfig.HealthCheck{Type: byHTTP, Codes: []uint32{200, 101}}, "codes[1]"},
		"a status of no class":               {&meshconfig.HealthCheck{Type: byHTTP, Codes: []uint32{600}}, "codes[0]"},
		"a pattern that is none":             {&meshconfig.HealthCheck{Type: byHTTP, Body: "("}, "body"},
		"a pattern of a book":                {&meshconfig.HealthCheck{Type: byHTTP, Body: strings.Repeat("a", 1025)}, "body"},
		"a pattern that grows":               {&meshconfig.HealthCheck{Type: byHTTP, Body: "((a{100}){100}){100}"}, "body"},
		"a name that is no token":            {header("a b", ""), "headers[1].name"},
		"a name that is empty":               {header("", ""), "headers[1].name"},
		"a field that the connection writes": {header("Transfer-Encoding", "chunked"), "headers[1].name"},
		"the host among the headers":         {header("HOST", "x"), "headers[1].name"},
		"a value that splits the request":    {header("x", "a\r\nb: c"), "headers[1].value"},
		"a service of a kilobyte":            {&meshconfig.HealthCheck{Type: byGRPC, GrpcService: strings.Repeat("a", 1025)}, "grpc_service"},
		"more headers than a head takes": {
			&meshconfig.HealthCheck{Type: byHTTP, Headers: make([]*meshconfig.HeaderValue, maxHeaders+1)}, "headers",
		},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			_, err := New(test.config, 0)
			if err == nil || !strings.HasPrefix(err.Error(), "health_check."+test.field+": ") {
				t.Errorf("error %v does not name %s", err, test.field)
			}
		})
	}
}

func TestDefaults(t *testing.T) {
	c, err := New(&meshconfig.HealthCheck{Type: byHTTP}, 0)
	if err != nil {
		t.Fatal(err)
	}
	if c.Interval != 10*time.Second || c.Timeout != time.Second || c.Healthy != 1 || c.Unhealthy != 3 || c.head.Path != "/" {
		t.Errorf("%+v", c)
	}
	c, err = New(&meshconfig.HealthCheck{
		Type: byTCP, Interval: 5000, Timeout: 300, HealthyThreshold: 2, UnhealthyThreshold: 4,
	}, 0)
	if err != nil {
		t.Fatal(err)
	}
	if c.Interval != 5*time.Second || c.Timeout != 300*time.Millisecond || c.Healthy != 2 || c.Unhealthy != 4 {
		t.Errorf("%+v", c)
	}
}
