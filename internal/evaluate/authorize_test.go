// SPDX-License-Identifier: Apache-2.0

package evaluate

import (
	"strings"
	"testing"
	"time"

	"github.com/heddle-mesh/heddle/internal/identity"
	"github.com/heddle-mesh/heddle/internal/meshconfig"
)

const (
	allow = meshconfig.Action_ACTION_ALLOW
	deny  = meshconfig.Action_ACTION_DENY
)

var (
	nobody = identity.ID{}
	web    = identity.ID{TrustDomain: "cluster.local", Namespace: "shop", ServiceAccount: "web"}
	job    = identity.ID{TrustDomain: "cluster.local", Namespace: "batch", ServiceAccount: "job"}
	epoch  = time.Unix(1_800_000_000, 0)
)

func policy(defaultAction meshconfig.Action, rules ...*meshconfig.AuthorizationRule) *meshconfig.PortPolicy {
	return &meshconfig.PortPolicy{Port: 80, Mtls: meshconfig.MTLSMode_MTLS_MODE_STRICT, DefaultAction: defaultAction, Rules: rules}
}

func citing(p *meshconfig.PortPolicy, rule string) *meshconfig.PortPolicy {
	p.DefaultRule = rule
	return p
}

func authorizer(tb testing.TB, p *meshconfig.PortPolicy) *Authorizer {
	tb.Helper()
	a, err := NewAuthorizer(p)
	if err != nil {
		tb.Fatal(err)
	}
	return a
}

// adminRules are a rule that denies what is under /admin, and one that allows nothing else.
func adminRules(tb testing.TB) (denies, allows *Authorizer) {
	tb.Helper()
	to := []*meshconfig.Operation{{Paths: []string{"/admin/*"}}}
	return authorizer(tb, policy(allow, &meshconfig.AuthorizationRule{Name: "r", Action: deny, To: to})),
		authorizer(tb, policy(deny, &meshconfig.AuthorizationRule{Name: "r", Action: allow, To: to}))
}

func TestDecide(t *testing.T) {
	type from = meshconfig.Caller
	type to = meshconfig.Operation
	rule := func(name string, action meshconfig.Action, f *from, o *to) *meshconfig.AuthorizationRule {
		r := &meshconfig.AuthorizationRule{Name: name, Action: action}
		if f != nil {
			r.From = []*from{f}
		}
		if o != nil {
			r.To = []*to{o}
		}
		return r
	}
	get := func(path string) Op { return Op{Port: 80, HTTP: true, Method: "GET", Path: path} }
	tcp := Op{Port: 80}
	yes, no := func(rule string) Decision { return Decision{true, rule} }, func(rule string) Decision { return Decision{false, rule} }
	webID := &from{Identities: []string{web.String()}}
	cases := map[string]struct {
		policy *meshconfig.PortPolicy
		caller identity.ID
		op     Op
		want   Decision
	}{
		"without rules the default allows":              {policy(allow), nobody, get("/"), yes("default")},
		"without rules the default denies":              {policy(deny), web, get("/"), no("default")},
		"a default of a policy cites it":                {citing(policy(deny), "shop/cart/defaultAction"), web, get("/"), no("shop/cart/defaultAction")},
		"a rule without terms allows all":               {policy(deny, rule("r", allow, nil, nil)), nobody, tcp, yes("r")},
		"Deny is read first":                            {policy(allow, rule("a", allow, nil, nil), rule("d", deny, nil, nil)), web, get("/"), no("d")},
		"a caller is known by its identity":             {policy(deny, rule("r", allow, webID, nil)), web, get("/"), yes("r")},
		"another caller is not":                         {policy(deny, rule("r", allow, webID, nil)), job, get("/"), no("default")},
		"an identity of another trust domain is not":    {policy(deny, rule("r", allow, webID, nil)), identity.ID{TrustDomain: "other", Namespace: "shop", ServiceAccount: "web"}, get("/"), no("default")},
		"nobody has no identity":                        {policy(deny, rule("r", allow, webID, nil)), nobody, get("/"), no("default")},
		"a caller is known by its namespace":            {policy(deny, rule("r", allow, &from{Namespaces: []string{"x", "batch"}}, nil)), job, get("/"), yes("r")},
		"nobody has no namespace":                       {policy(deny, rule("r", allow, &from{Namespaces: []string{"", "batch"}}, nil)), nobody, get("/"), no("default")},
		"every identity is not nobody":                  {policy(deny, rule("r", allow, &from{Identities: []string{"*"}}, nil)), nobody, get("/"), no("default")},
		"every identity is anybody":                     {policy(deny, rule("r", allow, &from{Identities: []string{"*"}}, nil)), job, get("/"), yes("r")},
		"every namespace is anybody with an identity":   {policy(deny, rule("r", allow, &from{Namespaces: []string{"*"}}, nil)), job, get("/"), yes("r")},
		"all lists of a caller must match":              {policy(deny, rule("r", allow, &from{Identities: []string{"*"}, Namespaces: []string{"shop"}}, nil)), job, get("/"), no("default")},
		"a port is one of the list":                     {policy(deny, rule("r", allow, nil, &to{Ports: []uint32{1, 80}})), nobody, tcp, yes("r")},
		"another port is not":                           {policy(deny, rule("r", allow, nil, &to{Ports: []uint32{1, 81}})), nobody, tcp, no("default")},
		"a method is one of the list":                   {policy(deny, rule("r", allow, nil, &to{Methods: []string{"POST", "GET"}})), nobody, get("/"), yes("r")},
		"an Allow counts the case of a method":          {policy(deny, rule("r", allow, nil, &to{Methods: []string{"get"}})), nobody, get("/"), no("default")},
		"a Deny does not":                               {policy(allow, rule("r", deny, nil, &to{Methods: []string{"get"}})), nobody, get("/"), no("r")},
		"every method is any":                           {policy(deny, rule("r", allow, nil, &to{Methods: []string{"*"}})), nobody, get("/"), yes("r")},
		"a path is equal":                               {policy(deny, rule("r", allow, nil, &to{Paths: []string{"/a"}})), nobody, get("/a"), yes("r")},
		"a path is not below an exact one":              {policy(deny, rule("r", allow, nil, &to{Paths: []string{"/a"}})), nobody, get("/a/b"), no("default")},
		"a path is below":                               {policy(deny, rule("r", allow, nil, &to{Paths: []string{"/a/*"}})), nobody, get("/a/b"), yes("r")},
		"a path is the one that others are below":       {policy(deny, rule("r", allow, nil, &to{Paths: []string{"/a/*"}})), nobody, get("/a"), yes("r")},
		"a path is not below part of a segment":         {policy(deny, rule("r", allow, nil, &to{Paths: []string{"/a/*"}})), nobody, get("/ab"), no("default")},
		"all paths are below the root":                  {policy(deny, rule("r", allow, nil, &to{Paths: []string{"/*"}})), nobody, get("/ab"), yes("r")},
		"every path is any":                             {policy(deny, rule("r", allow, nil, &to{Paths: []string{"*"}})), nobody, get("/ab"), yes("r")},
		"all lists of an operation must match":          {policy(deny, rule("r", allow, nil, &to{Methods: []string{"GET"}, Paths: []string{"/a"}})), nobody, get("/b"), no("default")},
		"an Allow of paths leaves connections alone":    {policy(deny, rule("r", allow, nil, &to{Paths: []string{"/*"}})), nobody, tcp, no("default")},
		"an Allow of every path does too":               {policy(deny, rule("r", allow, nil, &to{Paths: []string{"*"}})), nobody, tcp, no("default")},
		"a Deny of paths takes connections":             {policy(allow, rule("r", deny, nil, &to{Paths: []string{"/admin"}})), nobody, tcp, no("r")},
		"a Deny of methods takes connections":           {policy(allow, rule("r", deny, nil, &to{Methods: []string{"DELETE"}})), nobody, tcp, no("r")},
		"a Deny of paths on another port does not":      {policy(allow, rule("r", deny, nil, &to{Ports: []uint32{81}, Paths: []string{"/admin"}})), nobody, tcp, yes("default")},
		"an Allow of the root leaves what has no path":  {policy(deny, rule("r", allow, nil, &to{Paths: []string{"/*"}})), nobody, get("*"), no("default")},
		"a Deny of a path takes what has no path":       {policy(allow, rule("r", deny, nil, &to{Paths: []string{"/admin"}})), nobody, get("*"), no("r")},
		"a Deny takes a slash at the end":               {policy(allow, rule("r", deny, nil, &to{Paths: []string{"/admin"}})), nobody, get("/admin/"), no("r")},
		"a Deny takes parameters":                       {policy(allow, rule("r", deny, nil, &to{Paths: []string{"/admin/*"}})), nobody, get("/admin;x=1/y"), no("r")},
		"a Deny takes an escaped slash":                 {policy(allow, rule("r", deny, nil, &to{Paths: []string{"/admin/*"}})), nobody, get("/admin%2Fy"), no("r")},
		"a Deny takes double escapes":                   {policy(allow, rule("r", deny, nil, &to{Paths: []string{"/admin/*"}})), nobody, get("/%2561dmin/y"), no("r")},
		"a Deny takes white space at the end":           {policy(allow, rule("r", deny, nil, &to{Paths: []string{"/admin"}})), nobody, get("/admin%20"), no("r")},
		"a Deny takes more white space than it reads":   {policy(allow, rule("r", deny, nil, &to{Paths: []string{"/admin"}})), nobody, get("/admin" + strings.Repeat("%20", 5000)), no("r")},
		"a Deny of an escaped path takes it raw":        {policy(allow, rule("r", deny, nil, &to{Paths: []string{"/a%3Ab"}})), nobody, get("/a:b"), no("r")},
		"a Deny leaves other long paths alone":          {policy(allow, rule("r", deny, nil, &to{Paths: []string{"/admin/*"}})), nobody, get("/public" + strings.Repeat("/x", 5000)), yes("default")},
		"a Deny leaves what only starts alike alone":    {policy(allow, rule("r", deny, nil, &to{Paths: []string{"/admin/*"}})), nobody, get("/administrator"), yes("default")},
		"a Deny of everything below the root takes all": {policy(allow, rule("r", deny, nil, &to{Paths: []string{"/*"}})), nobody, get("/"), no("r")},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			a := authorizer(t, c.policy)
			if got := a.Decide(c.caller, c.op, epoch); got != c.want {
				t.Errorf("got %+v, want %+v", got, c.want)
			}
			if n := testing.AllocsPerRun(50, func() { a.Decide(c.caller, c.op, epoch) }); n != 0 {
				t.Errorf("%v allocations", n)
			}
		})
	}
}

func TestNewAuthorizerRefuses(t *testing.T) {
	withRule := func(r *meshconfig.AuthorizationRule) *meshconfig.PortPolicy { return policy(allow, r) }
	cases := map[string]struct {
		policy *meshconfig.PortPolicy
		want   string
	}{
		"no default action":        {policy(0), "unknown default action"},
		"no mTLS mode":             {&meshconfig.PortPolicy{DefaultAction: allow}, "unknown mTLS mode"},
		"a rule without an action": {withRule(&meshconfig.AuthorizationRule{Name: "r"}), `rule "r": unknown action`},
		"an empty caller":          {withRule(&meshconfig.AuthorizationRule{Action: deny, From: []*meshconfig.Caller{{}}}), "from[0]: neither"},
		"an identity that is none": {withRule(&meshconfig.AuthorizationRule{Action: deny, From: []*meshconfig.Caller{{Identities: []string{"web"}}}}), "from[0]: SPIFFE ID"},
		"a port out of range":      {withRule(&meshconfig.AuthorizationRule{Action: deny, To: []*meshconfig.Operation{{Ports: []uint32{65536}}}}), "to[0]: port 65536"},
		"a star within a path":     {withRule(&meshconfig.AuthorizationRule{Action: deny, To: []*meshconfig.Operation{{Paths: []string{"/a*"}}}}), "stands alone"},
		"a path that is none":      {withRule(&meshconfig.AuthorizationRule{Action: deny, To: []*meshconfig.Operation{{Paths: []string{"a"}}}}), "not a path"},
		"a path that is too long":  {withRule(&meshconfig.AuthorizationRule{Action: deny, To: []*meshconfig.Operation{{Paths: []string{"/" + strings.Repeat("a", 2000)}}}}), "at most"},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			if _, err := NewAuthorizer(c.policy); err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("got error %v, want one that holds %q", err, c.want)
			}
		})
	}
}

func TestMode(t *testing.T) {
	const strict, permissive, disabled = meshconfig.MTLSMode_MTLS_MODE_STRICT, meshconfig.MTLSMode_MTLS_MODE_PERMISSIVE, meshconfig.MTLSMode_MTLS_MODE_DISABLED
	cases := map[string]struct {
		mode  meshconfig.MTLSMode
		until int64
		want  meshconfig.MTLSMode
	}{
		"Strict is Strict":                     {strict, 0, strict},
		"Permissive before its end":            {permissive, epoch.UnixMilli() + 1, permissive},
		"Permissive at its end is Strict":      {permissive, epoch.UnixMilli(), strict},
		"Permissive after its end is Strict":   {permissive, 1, strict},
		"Permissive by port has no end":        {permissive, 0, permissive},
		"Disabled after its end is Strict too": {disabled, 1, strict},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			p := policy(allow)
			p.Mtls, p.PermissiveUntil = c.mode, c.until
			if got := authorizer(t, p).Mode(epoch); got != c.want {
				t.Errorf("got %v, want %v", got, c.want)
			}
		})
	}
}

func BenchmarkDecide(b *testing.B) {
	a := authorizer(b, policy(deny,
		&meshconfig.AuthorizationRule{Name: "d", Action: deny, To: []*meshconfig.Operation{{Paths: []string{"/admin/*"}}}},
		&meshconfig.AuthorizationRule{Name: "a", Action: allow, From: []*meshconfig.Caller{{Identities: []string{web.String()}}}},
	))
	op := Op{Port: 80, HTTP: true, Method: "GET", Path: "/cart/items/42"}
	b.ReportAllocs()
	for b.Loop() {
		a.Decide(web, op, epoch)
	}
}
