// SPDX-License-Identifier: Apache-2.0

package arch

import (
	"context"
	"fmt"
	"os/exec"
	"slices"
	"strings"
)

// Module is the path of the main module.
const Module = "github.com/heddle-mesh/heddle"

// Fence says what packages may not depend on, not even through others.
type Fence struct {
	// Name says why, in an error.
	Name string
	// From are the fenced packages: import paths, or prefixes that end in "/...".
	From []string
	// Never are path prefixes that none of them may reach.
	Never []string
}

// Fences are the rules of docs/ARCHITECTURE.md.
var Fences = []Fence{
	{
		Name: "the proxy is slim",
		From: []string{Module + "/proxy/...", Module + "/cmd/proxy"},
		Never: []string{
			"k8s.io", "sigs.k8s.io", "github.com/cert-manager", "google.golang.org/grpc", "go.opentelemetry.io", "github.com/google/cel-go",
		},
	},
	{
		Name: "the proxy imports nothing of the control plane",
		From: []string{Module + "/proxy/...", Module + "/cmd/proxy"},
		Never: []string{
			Module + "/api", Module + "/controllers", Module + "/webhook", Module + "/internal/collect", Module + "/internal/snapshot",
			Module + "/internal/compile", Module + "/internal/distribute", Module + "/internal/issue", Module + "/internal/conditions",
			Module + "/internal/leader",
		},
	},
	{
		Name: "what both sides share knows nothing of Kubernetes",
		From: []string{
			Module + "/internal/meshconfig", Module + "/internal/evaluate", Module + "/internal/signedconfig", Module + "/internal/identity",
			Module + "/internal/controlapi", Module + "/internal/probe", Module + "/internal/limits", Module + "/internal/distribute",
		},
		Never: []string{"k8s.io", "sigs.k8s.io", "github.com/cert-manager"},
	},
	{
		Name:  "compile has no client",
		From:  []string{Module + "/internal/compile", Module + "/internal/snapshot"},
		Never: []string{"k8s.io/client-go", "sigs.k8s.io/controller-runtime"},
	},
	{
		Name:  "api is apimachinery only",
		From:  []string{Module + "/api/v1alpha1"},
		Never: []string{"k8s.io/client-go", "k8s.io/api", "sigs.k8s.io/controller-runtime", Module + "/internal"},
	},
	{
		Name:  "the control plane imports nothing of the proxy",
		From:  []string{Module + "/cmd/operator", Module + "/controllers", Module + "/webhook/...", Module + "/internal/..."},
		Never: []string{Module + "/proxy", Module + "/cmd/proxy"},
	},
}

// Graph maps a package to everything that it depends on, itself left out.
type Graph map[string][]string

// Load reads the graph of the module's own packages with `go list`, run in dir.
func Load(ctx context.Context, dir string) (Graph, error) {
	cmd := exec.CommandContext(ctx, "go", "list", "-f", `{{.ImportPath}}{{range .Deps}} {{.}}{{end}}`, "./...")
	cmd.Dir = dir
	out, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("go list: %w", err)
	}
	graph := Graph{}
	for line := range strings.Lines(string(out)) {
		fields := strings.Fields(line)
		graph[fields[0]] = fields[1:]
	}
	return graph, nil
}

// Check returns every crossing of the fence. A fence that no package of the graph lies behind is an error too: it
// guards nothing.
func (f Fence) Check(graph Graph) []error {
	var errs []error
	for _, from := range f.From {
		seen := false
		for pkg, deps := range graph {
			if !covers(from, pkg) {
				continue
			}
			seen = true
			for _, dep := range deps {
				if slices.ContainsFunc(f.Never, func(never string) bool { return dep == never || strings.HasPrefix(dep, never+"/") }) {
					errs = append(errs, fmt.Errorf("%s: %s depends on %s", f.Name, pkg, dep))
				}
			}
		}
		if !seen {
			errs = append(errs, fmt.Errorf("%s: no package matches %s", f.Name, from))
		}
	}
	return errs
}

func covers(pattern, pkg string) bool {
	prefix, wild := strings.CutSuffix(pattern, "/...")
	return pkg == prefix || (wild && strings.HasPrefix(pkg, prefix+"/"))
}
