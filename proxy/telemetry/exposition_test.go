// SPDX-License-Identifier: Apache-2.0

package telemetry

import (
	"errors"
	"io"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"
)

func TestMergeTakes(t *testing.T) {
	for name, page := range map[string]string{
		"an empty page": "",
		"a counter":     "# HELP shop_sales_total Sales.\n# TYPE shop_sales_total counter\nshop_sales_total 12\n",
		"labels":        "sales_total{item=\"a\",shop=\"b\"} 12 1700000000000\nsales_total{item=\"a\",} 1e9\nx{} 1\nx { a = \"b\" } 2\n",
		"escapes":       "x{a=\"q\\\"b\\\\c\\nd\"} 1\n",
		"odd values":    "x NaN\ny +Inf\nz -Inf\nw -1.5e-3\n",
		"comments":      "# anything\n#\n# EOF\n\n",
		"a histogram":   "# TYPE h histogram\nh_bucket{le=\"+Inf\"} 1\nh_sum 2\nh_count 1\n",
		"recorded":      "job:x:rate5m 1\n",
	} {
		t.Run(name, func(t *testing.T) {
			var out strings.Builder
			if err := Merge(&out, iotest.OneByteReader(strings.NewReader(page))); err != nil {
				t.Fatal(err)
			}
			if out.String() != page {
				t.Errorf("got %q, want %q", out.String(), page)
			}
		})
	}
}

func TestMergeLeavesOut(t *testing.T) {
	for name, line := range map[string]string{
		"HTML":                        "<html>\n",
		"a name that isn't one":       "1x 1\n",
		"a value that isn't one":      "x one\n",
		"no value":                    "x\n",
		"no value behind labels":      "x{a=\"b\"}\n",
		"a third number":              "x 1 2 3\n",
		"a timestamp with a fraction": "x 1 2.5\n",
		"an open label":               "x{a=\"b\" 1\n",
		"an open quote":               "x{a=\"b} 1\n",
		"labels without a comma":      "x{a=\"b\"c=\"d\"} 1\n",
		"an unknown escape":           "x{a=\"\\t\"} 1\n",
		"what isn't UTF-8":            "x{a=\"\xff\"} 1\n",
		"a type that isn't one":       "# TYPE x info\n",
		"a type without a name":       "# TYPE\n",
		"a metric of the proxy":       "heddle_requests_total 1\n",
		"its type":                    "# TYPE heddle_requests_total gauge\n",
		"the line end of DOS":         "x 1\r\n",
		"a line too long":             "x{a=\"" + strings.Repeat("b", 3*maxLine) + "\"} 1\n",
	} {
		t.Run(name, func(t *testing.T) {
			var out strings.Builder
			err := Merge(&out, strings.NewReader("before 1\n"+line+"after 2\n"))
			if !errors.Is(err, ErrMalformed) || out.String() != "before 1\nafter 2\n" {
				t.Errorf("got %q, %v", out.String(), err)
			}
		})
	}
}

func TestMergeOfWhatIsCutOff(t *testing.T) {
	var out strings.Builder
	if err := Merge(&out, strings.NewReader("x 1\ny 12")); !errors.Is(err, ErrMalformed) || out.String() != "x 1\n" {
		t.Errorf("got %q, %v", out.String(), err)
	}
	out.Reset()
	broken := errors.New("broken")
	err := Merge(&out, io.MultiReader(strings.NewReader("x 1\n"), iotest.ErrReader(broken)))
	if !errors.Is(err, broken) || out.String() != "x 1\n" {
		t.Errorf("got %q, %v", out.String(), err)
	}
}

// FuzzMerge: what is let through, one sample or comment at a time, Prometheus' own parser takes.
func FuzzMerge(f *testing.F) {
	f.Add("x{a=\"b\",c=\"d\\n\"} 1 2\n")
	f.Add("# HELP x y\n")
	f.Add("# TYPE x counter\n")
	f.Add("x +Inf\n")
	f.Fuzz(func(t *testing.T, page string) {
		var out strings.Builder
		_ = Merge(&out, strings.NewReader(page))
		for line := range strings.Lines(out.String()) {
			line = strings.Trim(line, " \t\n") + "\n" // this parser is stricter than the server's about spaces at the end
			parser := expfmt.NewTextParser(model.LegacyValidation)
			if _, err := parser.TextToMetricFamilies(strings.NewReader(line)); err != nil && !isOrder(err) {
				t.Fatalf("line %q: %v", line, err)
			}
		}
	})
}

// isOrder says whether an error is about what this line isn't alone to blame for, or about labels that stand twice, which
// Prometheus' server itself takes.
func isOrder(err error) bool {
	return strings.Contains(err.Error(), "duplicate label") || strings.Contains(err.Error(), "label name \"__name__\" is reserved") ||
		strings.Contains(err.Error(), "expected float as value for")
}
