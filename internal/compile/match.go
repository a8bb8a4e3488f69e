// SPDX-License-Identifier: Apache-2.0

package compile

import (
	"strings"

	"github.com/heddle-mesh/heddle/api/v1alpha1"
	"github.com/heddle-mesh/heddle/internal/evaluate"
	"github.com/heddle-mesh/heddle/internal/meshconfig"
)

// naming is how an object means the names in it.
type naming struct{ namespace, trustDomain string }

// matches turns matches that are valid into those of a section. Paths go in as requests are compared.
func (n *naming) matches(matches []v1alpha1.RequestMatch) []*meshconfig.Match {
	out := make([]*meshconfig.Match, 0, len(matches))
	for i := range matches {
		m := &matches[i]
		compiled := &meshconfig.Match{Method: m.Method, Hosts: sortedCopy(m.Hosts)}
		if m.Path != nil {
			compiled.Path = compilePath(m.Path)
		}
		if m.GRPC != nil {
			compiled.Method, compiled.Path = "POST", grpcPath(m.GRPC)
		}
		for j := range m.Headers {
			compiled.Headers = append(compiled.Headers, compileHeader(&m.Headers[j]))
		}
		for j := range m.Query {
			compiled.Query = append(compiled.Query, compileQuery(&m.Query[j]))
		}
		for j := range m.Callers {
			compiled.Callers = append(compiled.Callers, n.caller(&m.Callers[j]))
		}
		out = append(out, compiled)
	}
	return out
}

// grpcPath is the path of a method of gRPC, or of all methods of a service ("Path" in the protocol over HTTP/2).
func grpcPath(m *v1alpha1.GRPCMatch) *meshconfig.PathMatch {
	if m.Method == "" {
		return &meshconfig.PathMatch{Type: meshconfig.PathMatch_TYPE_PREFIX, Value: "/" + m.Service}
	}
	return &meshconfig.PathMatch{Type: meshconfig.PathMatch_TYPE_EXACT, Value: "/" + m.Service + "/" + m.Method}
}

func compileQuery(q *v1alpha1.QueryMatch) *meshconfig.HeaderMatch {
	return &meshconfig.HeaderMatch{Type: headerTypes[q.Type], Name: q.Name, Value: q.Value}
}

func (n *naming) caller(m *v1alpha1.CallerMatch) *meshconfig.Caller {
	out := &meshconfig.Caller{Namespaces: sortedCopy(m.Namespaces)}
	for _, account := range m.ServiceAccounts {
		out.Identities = append(out.Identities, serviceAccountID(account, n.namespace, n.trustDomain).String())
	}
	out.Identities = set(out.GetIdentities())
	return out
}

func compilePath(p *v1alpha1.PathMatch) *meshconfig.PathMatch {
	compiled := &meshconfig.PathMatch{Type: pathTypes[p.Type], Value: p.Value}
	if normal, ok := evaluate.NormalizePath(p.Value); ok && p.Type != v1alpha1.PathMatchRegex {
		compiled.Value = normal
	}
	return compiled
}

func compileHeader(h *v1alpha1.HeaderMatch) *meshconfig.HeaderMatch {
	return &meshconfig.HeaderMatch{Type: headerTypes[h.Type], Name: strings.ToLower(h.Name), Value: h.Value}
}

// The types of matches; the empty one is the schema's default.
var (
	pathTypes = map[v1alpha1.PathMatchType]meshconfig.PathMatch_Type{
		"":                       meshconfig.PathMatch_TYPE_PREFIX,
		v1alpha1.PathMatchExact:  meshconfig.PathMatch_TYPE_EXACT,
		v1alpha1.PathMatchPrefix: meshconfig.PathMatch_TYPE_PREFIX,
		v1alpha1.PathMatchRegex:  meshconfig.PathMatch_TYPE_REGEX,
	}
	headerTypes = map[v1alpha1.HeaderMatchType]meshconfig.HeaderMatch_Type{
		"":                        meshconfig.HeaderMatch_TYPE_EXACT,
		v1alpha1.HeaderMatchExact: meshconfig.HeaderMatch_TYPE_EXACT,
		v1alpha1.HeaderMatchRegex: meshconfig.HeaderMatch_TYPE_REGEX,
	}
)
