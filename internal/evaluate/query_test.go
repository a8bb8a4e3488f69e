// SPDX-License-Identifier: Apache-2.0

package evaluate

import (
	"net/url"
	"strings"
	"testing"

	"github.com/heddle-mesh/heddle/internal/identity"
	"github.com/heddle-mesh/heddle/internal/meshconfig"
)

const (
	exactValue = meshconfig.HeaderMatch_TYPE_EXACT
	regexValue = meshconfig.HeaderMatch_TYPE_REGEX
)

func query(kind meshconfig.HeaderMatch_Type, name, value string) *meshconfig.Match {
	return &meshconfig.Match{Query: []*meshconfig.HeaderMatch{{Type: kind, Name: name, Value: value}}}
}

func hosts(hosts ...string) *meshconfig.Match { return &meshconfig.Match{Hosts: hosts} }

func callers(callers ...*meshconfig.Caller) *meshconfig.Match {
	return &meshconfig.Match{Callers: callers}
}

// A matchCase is a request to which a match says yes or no.
type matchCase struct {
	match   *meshconfig.Match
	request Request
	want    bool
}

func queryCases() map[string]matchCase {
	asks := func(query string) Request { return Request{Method: "GET", Path: "/", Query: query} }
	long := strings.Repeat("a", maxFormValue)
	return map[string]matchCase{
		"a parameter is equal":                           {query(exactValue, "v", "2"), asks("v=2"), true},
		"a parameter among others":                       {query(exactValue, "v", "2"), asks("a=1&v=2&b"), true},
		"a parameter that is not there":                  {query(exactValue, "v", "2"), asks("w=2"), false},
		"no query at all":                                {query(regexValue, "v", ".*"), asks(""), false},
		"another value":                                  {query(exactValue, "v", "2"), asks("v=22"), false},
		"the start of a value":                           {query(exactValue, "v", "22"), asks("v=2"), false},
		"the second of several values":                   {query(exactValue, "v", "2"), asks("v=1&v=2"), true},
		"a name counts case":                             {query(exactValue, "v", "2"), asks("V=2"), false},
		"a value counts case":                            {query(exactValue, "v", "a"), asks("v=A"), false},
		"a value without a sign is empty":                {query(exactValue, "v", ""), asks("v"), true},
		"an empty value":                                 {query(exactValue, "v", ""), asks("v="), true},
		"a value with a sign in it":                      {query(exactValue, "v", "a=b"), asks("v=a=b"), true},
		"a plus is a space":                              {query(exactValue, "v", "a b"), asks("v=a+b"), true},
		"an escaped plus is a plus":                      {query(exactValue, "v", "a+b"), asks("v=a%2Bb"), true},
		"an escaped value":                               {query(exactValue, "v", "é&"), asks("v=%C3%a9%26"), true},
		"an escaped name":                                {query(exactValue, "v w", "2"), asks("%76+w=2"), true},
		"an escape is decoded once":                      {query(exactValue, "v", "a"), asks("v=%2561"), false},
		"a semicolon is part of a value":                 {query(exactValue, "v", "1;w=2"), asks("v=1;w=2"), true},
		"a cut escape matches nothing":                   {query(regexValue, "v", ".*"), asks("v=%2"), false},
		"an escape that is none matches nothing":         {query(exactValue, "v", "%zz"), asks("v=%zz"), false},
		"a broken escape leaves other parameters":        {query(exactValue, "v", "2"), asks("v=%zz&%=1&v=2"), true},
		"an escaped value to a regular expression":       {query(regexValue, "v", "a b."), asks("v=a%20b%2e"), true},
		"a raw value to a regular expression":            {query(regexValue, "v", "[0-9]+"), asks("v=42"), true},
		"a regular expression takes the whole value":     {query(regexValue, "v", "4"), asks("v=42"), false},
		"a regular expression and the whole, decoded":    {query(regexValue, "v", "4"), asks("v=%342"), false},
		"as much as a regular expression reads":          {query(regexValue, "v", "a*"), asks("v=" + long), true},
		"more than a regular expression reads":           {query(regexValue, "v", "a*"), asks("v=" + long + "a"), false},
		"as much as a regular expression reads, escaped": {query(regexValue, "v", "a*"), asks("v=%61" + long[1:]), true},
		"more than a regular expression reads, escaped":  {query(regexValue, "v", "a*"), asks("v=%61" + long), false},
		"an exact value of any length":                   {query(exactValue, "v", long+"aa"), asks("v=%61" + long + "a"), true},
	}
}

func hostCases() map[string]matchCase {
	to := func(authority string) Request { return Request{Method: "GET", Path: "/", Authority: authority} }
	return map[string]matchCase{
		"a host is equal":                              {hosts("shop.example"), to("shop.example"), true},
		"a host whatever its case":                     {hosts("shop.example"), to("Shop.EXAMPLE"), true},
		"a host with a port":                           {hosts("shop.example"), to("shop.example:8080"), true},
		"a host with the dot of an absolute name":      {hosts("shop.example"), to("shop.example.:80"), true},
		"another host":                                 {hosts("shop.example"), to("shop.example.org"), false},
		"a name below is another host":                 {hosts("shop.example"), to("a.shop.example"), false},
		"any of several hosts":                         {hosts("a.example", "b.example"), to("b.example"), true},
		"no host":                                      {hosts("a.example"), to(""), false},
		"a name below a star":                          {hosts("*.example"), to("SHOP.example:1"), true},
		"a name far below a star":                      {hosts("*.example"), to("a.b.example"), true},
		"the name itself is not below":                 {hosts("*.example"), to("example"), false},
		"nothing before the dot is not below":          {hosts("*.example"), to(".example"), false},
		"a name that ends alike is not below":          {hosts("*.example"), to("shopexample"), false},
		"an IPv4 address":                              {hosts("10.0.0.1"), to("10.0.0.1:80"), true},
		"an IPv6 address":                              {hosts("fd00::1"), to("[fd00::1]"), true},
		"an IPv6 address in brackets, with a port":     {hosts("[fd00::1]"), to("[fd00::1]:8080"), true},
		"an IPv6 address spelled otherwise":            {hosts("fd00::1"), to("[FD00:0:0::0001]:80"), true},
		"another IPv6 address":                         {hosts("fd00::1"), to("[fd00::2]"), false},
		"an IPv6 address without brackets is a name":   {hosts("fd00::1"), to("fd00::1"), false},
		"a literal that is none":                       {hosts("fd00::1", "*.example"), to("[.example]"), false},
		"a literal without an end":                     {hosts("fd00::1"), to("[fd00::1"), false},
		"a literal with something behind it":           {hosts("fd00::1"), to("[fd00::1]x"), false},
		"a literal that is broken in many ways":        {hosts("::"), to("[:::]"), false},
		"an address that maps one of IPv4 is the same": {hosts("::ffff:10.0.0.1"), to("[::ffff:a00:1]"), true},
	}
}

func callerCases() map[string]matchCase {
	by := func(id *identity.ID) Request { return Request{Method: "GET", Path: "/", Caller: id} }
	return map[string]matchCase{
		"a caller by identity":                 {callers(&meshconfig.Caller{Identities: []string{web.String()}}), by(&web), true},
		"another caller":                       {callers(&meshconfig.Caller{Identities: []string{web.String()}}), by(&job), false},
		"a caller by namespace":                {callers(&meshconfig.Caller{Namespaces: []string{"batch"}}), by(&job), true},
		"any of several callers":               {callers(&meshconfig.Caller{Namespaces: []string{"x"}}, &meshconfig.Caller{Namespaces: []string{"batch"}}), by(&job), true},
		"every caller that has an identity":    {callers(&meshconfig.Caller{Identities: []string{"*"}}), by(&job), true},
		"nobody has no identity":               {callers(&meshconfig.Caller{Identities: []string{"*"}}), by(nil), false},
		"all lists of a caller and here one":   {callers(&meshconfig.Caller{Identities: []string{"*"}, Namespaces: []string{"shop"}}), by(&job), false},
		"everything of a match, and here all":  {everything(), Request{Method: "GET", Path: "/a", Query: "v=2", Authority: "shop.example", Caller: &web}, true},
		"everything, but for the query":        {everything(), Request{Method: "GET", Path: "/a", Query: "v=3", Authority: "shop.example", Caller: &web}, false},
		"everything, but for the host":         {everything(), Request{Method: "GET", Path: "/a", Query: "v=2", Authority: "example", Caller: &web}, false},
		"everything, but for the caller":       {everything(), Request{Method: "GET", Path: "/a", Query: "v=2", Authority: "shop.example", Caller: &job}, false},
		"everything, but for the method":       {everything(), Request{Method: "PUT", Path: "/a", Query: "v=2", Authority: "shop.example", Caller: &web}, false},
		"everything, but for the path of gRPC": {everything(), Request{Method: "GET", Path: "/pkg.Service/Method", Query: "v=2", Authority: "shop.example", Caller: &web}, false},
	}
}

func everything() *meshconfig.Match {
	m := path(prefix, "/a")
	m.Method, m.Query, m.Hosts = "GET", query(exactValue, "v", "2").Query, []string{"*.example"}
	m.Callers = []*meshconfig.Caller{{Identities: []string{web.String()}}}
	return m
}

func TestMatchOfQueriesHostsAndCallers(t *testing.T) {
	for _, cases := range []map[string]matchCase{queryCases(), hostCases(), callerCases()} {
		for name, c := range cases {
			t.Run(name, func(t *testing.T) {
				m, err := NewMatcher(c.match)
				if err != nil {
					t.Fatal(err)
				}
				if got := m.Match(&c.request); got != c.want {
					t.Errorf("got %v, want %v", got, c.want)
				}
			})
		}
	}
}

func TestNewMatcherRefusesQueriesHostsAndCallers(t *testing.T) {
	cases := map[string]struct {
		match *meshconfig.Match
		want  string
	}{
		"a parameter without a name":     {query(exactValue, "", "1"), "query[0]: name is empty"},
		"an unknown type of parameter":   {query(9, "a", "1"), "query[0]: unknown type 9"},
		"a broken expression":            {query(regexValue, "a", "("), "query[0]: not an RE2"},
		"an expression that is too long": {query(regexValue, "a", strings.Repeat("a", 1025)), "query[0]: regular expression of 1025"},
		"an empty host":                  {hosts("a", ""), "hosts[1]"},
		"a host with a port":             {hosts("shop.example:80"), "leave the port out"},
		"a star alone":                   {hosts("*"), "not a host"},
		"a star within":                  {hosts("a.*.example"), "not a host"},
		"a star and nothing":             {hosts("*."), "not a host"},
		"a host with an empty label":     {hosts("a..example"), "not a host"},
		"a host that starts with a dot":  {hosts(".example"), "not a host"},
		"half a bracket":                 {hosts("[fd00::1"), "neither a name nor an IPv6"},
		"an address with a zone":         {hosts("fe80::1%eth0"), "neither a name nor an IPv6"},
		"a star before an address":       {hosts("*.fd00::1"), "neither a name nor an IPv6"},
		"a host of 254 bytes":            {hosts(strings.Repeat("a", 254)), "not a host"},
		"an empty caller":                {callers(&meshconfig.Caller{}), "callers[0]: neither"},
		"an identity that is none":       {callers(&meshconfig.Caller{Identities: []string{"*"}}, &meshconfig.Caller{Identities: []string{"web"}}), "callers[1]: SPIFFE ID"},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			if _, err := NewMatcher(c.match); err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("got error %v, want one that holds %q", err, c.want)
			}
		})
	}
}

// FuzzQuery compares with package url, which refuses semicolons where the standard of forms does not.
func FuzzQuery(f *testing.F) {
	for _, c := range queryCases() {
		f.Add(c.request.Query, c.match.Query[0].Name, c.match.Query[0].Value)
	}
	f.Fuzz(func(t *testing.T, raw, name, value string) {
		if name == "" || strings.Contains(raw, ";") {
			return
		}
		parsed, _ := url.ParseQuery(raw) // what is broken is left out
		want := false
		for _, v := range parsed[name] {
			want = want || v == value
		}
		m := queryMatcher{name: name, value: value}
		if got := m.match(raw); got != want {
			t.Errorf("%q has %q=%q: got %v, want %v", raw, name, value, got, want)
		}
		var buffer formBuffer
		if n, ok := formDecode(&buffer, raw); ok {
			if plain, err := url.QueryUnescape(raw); err != nil || plain != string(buffer[:n]) {
				t.Errorf("%q is decoded to %q, want %q, %v", raw, buffer[:n], plain, err)
			}
		} else if plain, err := url.QueryUnescape(raw); err == nil && len(plain) <= maxFormValue {
			t.Errorf("%q is not decoded, want %q", raw, plain)
		}
		first := ""
		for _, v := range parsed[name] {
			if first = v; v != "" {
				break
			}
		}
		if hash, ok := hashParameter(raw, name); !strings.Contains(raw, "%") && (ok != (first != "") || ok && hash != hashString(fnvOffset, first)) {
			t.Errorf("%q has a key %v by %q, want that of %q", raw, ok, name, first)
		}
	})
}

func BenchmarkMatch(b *testing.B) {
	request := &Request{
		Method: "GET", Path: "/cart/items/42", Query: "page=2&sort=price+asc&filter=%7B%22a%22%3A1%7D&v=2", Authority: "cart.shop.svc.cluster.local:8080", Caller: &web,
	}
	for name, match := range map[string]*meshconfig.Match{
		"query":            query(exactValue, "v", "2"),
		"query by regex":   query(regexValue, "v", "[0-9]+"),
		"escaped by regex": query(regexValue, "sort", "[a-z]+ (asc|desc)"),
		"host":             hosts("cart", "cart.shop", "*.cluster.local"),
		"caller":           callers(&meshconfig.Caller{Identities: []string{web.String()}}),
	} {
		b.Run(name, func(b *testing.B) {
			m, err := NewMatcher(match)
			if err != nil || !m.Match(request) {
				b.Fatal("no match: ", err)
			}
			b.ReportAllocs()
			for b.Loop() {
				m.Match(request)
			}
		})
	}
}
