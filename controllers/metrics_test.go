// SPDX-License-Identifier: Apache-2.0

package controllers

import (
	"os"
	"strings"
	"testing"

	"github.com/heddle-mesh/heddle/internal/meshconfig"
)

func TestMetricsAreDocumented(t *testing.T) {
	i := newInstallation(t)
	r := i.start(t)
	eventually(t, func() string {
		if r.node.Hub().Get(meshconfig.HeartbeatName) == nil {
			return "nothing is published"
		}
		return ""
	})
	families, err := r.metrics.Gather()
	if err != nil {
		t.Fatal(err)
	}
	docs, err := os.ReadFile("../docs/operator.md")
	if err != nil {
		t.Fatal(err)
	}
	seen := map[string]bool{}
	for _, f := range families {
		name, ok := strings.CutPrefix(f.GetName(), "heddle_operator_")
		if !ok {
			t.Errorf("metric %s has another prefix", f.GetName())
		}
		seen[name] = true
		if !strings.Contains(string(docs), "`"+name+"`") {
			t.Errorf("metric %s is not in docs/operator.md", f.GetName())
		}
	}
	for _, name := range []string{"leader", "term", "heartbeat_age_seconds", "sections_signed_total", "signer_expiry_timestamp_seconds"} {
		if !seen[name] {
			t.Errorf("no metric heddle_operator_%s", name)
		}
	}
}
