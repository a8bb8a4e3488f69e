// SPDX-License-Identifier: Apache-2.0

package compile

import (
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"
	"sigs.k8s.io/yaml"

	"github.com/heddle-mesh/heddle/api/v1alpha1"
	"github.com/heddle-mesh/heddle/internal/meshconfig"
)

// TestDefaultsOfEjectionAreTheSameEverywhere compares what a profile that says nothing compiles to with what a proxy does
// without a profile, with the schemas, and with the page.
func TestDefaultsOfEjectionAreTheSameEverywhere(t *testing.T) {
	d := newOutlier(&v1alpha1.OutlierDetection{})
	if !proto.Equal(d, meshconfig.DefaultOutlier()) {
		t.Errorf("an empty outlierDetection is %v, none is %v", d, meshconfig.DefaultOutlier())
	}
	seconds := func(ms int64) string { return fmt.Sprintf("%.0fs", (time.Duration(ms) * time.Millisecond).Seconds()) }
	want := map[string]string{
		"consecutiveFailures":        fmt.Sprint(d.GetConsecutiveFailures()),
		"consecutiveConnectFailures": fmt.Sprint(d.GetConsecutiveConnectFailures()),
		"successRatePercent":         fmt.Sprint(d.GetSuccessRatePercent()),
		"latencyFactor":              fmt.Sprint(d.GetLatencyFactor() / 100),
		"window":                     seconds(d.GetWindow()),
		"minRequests":                fmt.Sprint(d.GetMinRequests()),
		"baseEjection":               seconds(d.GetBaseEjection()),
		"maxEjection":                seconds(d.GetMaxEjection()),
		"maxEjectedPercent":          fmt.Sprint(d.GetMaxEjectedPercent()),
		"panicPercent":               fmt.Sprint(d.GetPanicPercent()),
	}
	page := read(t, "../../docs/spec/v1alpha1/serviceprofile.md")
	for field, value := range want {
		_, row, found := strings.Cut(page, "\n| `spec.outlierDetection."+field+"` |")
		if columns := strings.SplitN(row, "|", 3); !found || !strings.HasPrefix(strings.TrimSpace(columns[1]), "`"+value+"`") {
			t.Errorf("the page of ServiceProfile does not say that %s is %s by default", field, value)
		}
	}
	for _, kind := range []string{"serviceprofiles", "meshpolicies"} {
		fields := schemaOf(t, kind, "outlierDetection")
		if len(fields) != len(want) {
			t.Errorf("%s have %d fields, %d are compared", kind, len(fields), len(want))
		}
		for field, value := range want {
			description := strings.Join(strings.Fields(fields[field].Description), " ")
			if _, after, _ := strings.Cut(description, "Default: "); after != value+"." && !strings.HasPrefix(after, value+",") {
				t.Errorf("the schema of %s says %q of %s, want a default of %s", kind, description, field, value)
			}
		}
	}
}

func read(t *testing.T, path string) string {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// schema is what is looked at of a schema.
type schema struct {
	Description string            `json:"description"`
	Properties  map[string]schema `json:"properties"`
}

// schemaOf returns the fields of a part of a kind's spec.
func schemaOf(t *testing.T, kind, part string) map[string]schema {
	t.Helper()
	var crd struct {
		Spec struct {
			Versions []struct {
				Schema struct {
					Root schema `json:"openAPIV3Schema"`
				} `json:"schema"`
			} `json:"versions"`
		} `json:"spec"`
	}
	if err := yaml.Unmarshal([]byte(read(t, "../../config/crd/bases/mesh.heddle.io_"+kind+".yaml")), &crd); err != nil {
		t.Fatal(err)
	}
	return crd.Spec.Versions[0].Schema.Root.Properties["spec"].Properties[part].Properties
}
