// SPDX-License-Identifier: Apache-2.0

package evaluate

import (
	"strings"
	"testing"

	"github.com/heddle-mesh/heddle/internal/meshconfig"
)

const (
	exact  = meshconfig.PathMatch_TYPE_EXACT
	prefix = meshconfig.PathMatch_TYPE_PREFIX
	regex  = meshconfig.PathMatch_TYPE_REGEX
)

func path(kind meshconfig.PathMatch_Type, value string) *meshconfig.Match {
	return &meshconfig.Match{Path: &meshconfig.PathMatch{Type: kind, Value: value}}
}

func header(kind meshconfig.HeaderMatch_Type, name, value string) *meshconfig.Match {
	return &meshconfig.Match{Headers: []*meshconfig.HeaderMatch{{Type: kind, Name: name, Value: value}}}
}

func TestMatch(t *testing.T) {
	const exactHeader, regexHeader = meshconfig.HeaderMatch_TYPE_EXACT, meshconfig.HeaderMatch_TYPE_REGEX
	get := func(path string, headers ...HeaderField) Request {
		return Request{Method: "GET", Path: path, Authority: "shop.example", Headers: HeaderList(headers)}
	}
	cases := map[string]struct {
		match   *meshconfig.Match
		request Request
		want    bool
	}{
		"an empty match takes all":                          {&meshconfig.Match{}, get("/a"), true},
		"an exact path is equal":                            {path(exact, "/a"), get("/a"), true},
		"an exact path is not below":                        {path(exact, "/a"), get("/a/b"), false},
		"an exact path counts case":                         {path(exact, "/a"), get("/A"), false},
		"an exact path counts the slash at the end":         {path(exact, "/a"), get("/a/"), false},
		"an exact path is normalised as requests are":       {path(exact, "/%61"), get("/a"), true},
		"a prefix takes the path itself":                    {path(prefix, "/cart"), get("/cart"), true},
		"a prefix takes what is below":                      {path(prefix, "/cart"), get("/cart/1"), true},
		"a prefix takes whole segments":                     {path(prefix, "/cart"), get("/cartoon"), false},
		"a prefix takes no part of an escaped segment":      {path(prefix, "/cart"), get("/cart%2F1"), false},
		"a prefix does not care for its own slash":          {path(prefix, "/cart/"), get("/cart"), true},
		"the root prefix takes all":                         {path(prefix, "/"), get("/x/y"), true},
		"a regular expression matches the whole path":       {path(regex, "/v[12]"), get("/v1"), true},
		"a regular expression does not match a part":        {path(regex, "/v[12]"), get("/v1/x"), false},
		"alternatives of an expression stay together":       {path(regex, "/a|/b"), get("/b/c"), false},
		"an expression does not stop at a line's end":       {path(regex, "(?m)/a$"), get("/a\nx"), false},
		"a method is equal":                                 {&meshconfig.Match{Method: "GET"}, get("/"), true},
		"a method counts case":                              {&meshconfig.Match{Method: "get"}, get("/"), false},
		"a header name does not count case":                 {header(exactHeader, "X-User", "ann"), get("/", HeaderField{"x-USER", "ann"}), true},
		"a header value counts case":                        {header(exactHeader, "x-user", "ann"), get("/", HeaderField{"x-user", "Ann"}), false},
		"a header that is absent does not match":            {header(regexHeader, "x-user", ".*"), get("/"), false},
		"no headers at all do not match":                    {header(regexHeader, "x-user", ".*"), Request{Path: "/"}, false},
		"a header that is empty matches an expression":      {header(regexHeader, "x-user", ".*"), get("/", HeaderField{"x-user", ""}), true},
		"the second line of a header may match":             {header(exactHeader, "x-user", "bob"), get("/", HeaderField{"x-user", "ann"}, HeaderField{"x-user", "bob"}), true},
		"an expression matches the whole value":             {header(regexHeader, "x-user", "an"), get("/", HeaderField{"x-user", "ann"}), false},
		"host stands for the authority":                     {header(exactHeader, "Host", "shop.example"), get("/"), true},
		"the authority is not taken from a header":          {header(exactHeader, "host", "other"), get("/", HeaderField{"host", "other"}), false},
		"white space around a value does not count":         {header(exactHeader, "x-user", "ann"), get("/", HeaderField{"x-user", " ann\t"}), true},
		"a path and a header must match both, and here one": {&meshconfig.Match{Path: path(exact, "/a").Path, Headers: header(exactHeader, "x", "1").Headers}, get("/a"), false},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			m, err := NewMatcher(c.match)
			if err != nil {
				t.Fatal(err)
			}
			if got := m.Match(&c.request); got != c.want {
				t.Errorf("got %v, want %v", got, c.want)
			}
			if n := testing.AllocsPerRun(50, func() { m.Match(&c.request) }); n != 0 {
				t.Errorf("%v allocations", n)
			}
		})
	}
}

func TestNewMatcherRefuses(t *testing.T) {
	cases := map[string]struct {
		match *meshconfig.Match
		want  string
	}{
		"a path without a slash":              {path(exact, "a"), "not a path"},
		"a prefix with a query":               {path(prefix, "/a?b"), "not a path"},
		"a broken expression":                 {path(regex, "("), "not an RE2 regular expression"},
		"an expression that leaves its group": {path(regex, "/a)|(/b"), "not an RE2 regular expression"},
		"an expression with a look-ahead":     {path(regex, "(?=a)"), "not an RE2 regular expression"},
		"an expression that is too long":      {path(regex, strings.Repeat("a", 1025)), "at most 1024"},
		"an expression that is too large":     {path(regex, "(abc{30}){30}"), "too large"},
		"an expression that grows in steps":   {path(regex, strings.Repeat("(a{900})", 2)), "too large"},
		"an unknown type of path":             {path(9, "/a"), "unknown type 9"},
		"an unknown type of header":           {header(9, "a", "b"), "unknown type 9"},
		"a header without a name":             {header(1, "", "b"), "name is empty"},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			_, err := NewMatcher(c.match)
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("got error %v, want one that holds %q", err, c.want)
			}
		})
	}
}

func FuzzRegex(f *testing.F) {
	f.Add("/v[12]/.*", "/v1/x")
	f.Add("((a{100}){100}){100}", "/")
	f.Fuzz(func(_ *testing.T, expression, path string) {
		if re, err := compileRegex(expression); err == nil {
			re.MatchString(path)
		}
	})
}
