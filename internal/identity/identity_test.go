// SPDX-License-Identifier: Apache-2.0

package identity_test

import (
	"strings"
	"testing"

	"github.com/heddle-mesh/heddle/internal/identity"
)

func TestParse(t *testing.T) {
	t.Parallel()
	const good = "spiffe://cluster.local/ns/shop/sa/checkout"
	cases := map[string]struct {
		in   string
		want identity.ID
		ok   bool
	}{
		"an ID": {good, identity.ID{TrustDomain: "cluster.local", Namespace: "shop", ServiceAccount: "checkout"}, true},
		"a service account with dots": {
			"spiffe://a_b-c.d/ns/x/sa/a.b-c",
			identity.ID{TrustDomain: "a_b-c.d", Namespace: "x", ServiceAccount: "a.b-c"},
			true,
		},
		"the longest trust domain": {
			"spiffe://" + strings.Repeat("d", 255) + "/ns/x/sa/y",
			identity.ID{TrustDomain: strings.Repeat("d", 255), Namespace: "x", ServiceAccount: "y"},
			true,
		},
		"nothing":                          {in: ""},
		"a trust domain alone":             {in: "spiffe://cluster.local"},
		"a trailing slash":                 {in: good + "/"},
		"another scheme":                   {in: "https://cluster.local/ns/shop/sa/checkout"},
		"a scheme in upper case":           {in: "SPIFFE://cluster.local/ns/shop/sa/checkout"},
		"a trust domain in upper case":     {in: "spiffe://Cluster.local/ns/shop/sa/checkout"},
		"an empty trust domain":            {in: "spiffe:///ns/shop/sa/checkout"},
		"a trust domain of 256":            {in: "spiffe://" + strings.Repeat("d", 256) + "/ns/x/sa/y"},
		"a trust domain beginning in dots": {in: "spiffe://..local/ns/shop/sa/checkout"},
		"a port":                           {in: "spiffe://cluster.local:8443/ns/shop/sa/checkout"},
		"user info":                        {in: "spiffe://me@cluster.local/ns/shop/sa/checkout"},
		"a query":                          {in: good + "?x=y"},
		"an empty query":                   {in: good + "?"},
		"a fragment":                       {in: good + "#x"},
		"a percent escape":                 {in: "spiffe://cluster.local/ns/shop/sa/check%6fut"},
		"an escaped slash":                 {in: "spiffe://cluster.local/ns/shop%2fsa/sa/x"},
		"an empty segment":                 {in: "spiffe://cluster.local/ns//sa/checkout"},
		"a doubled slash":                  {in: "spiffe://cluster.local//ns/shop/sa/checkout"},
		"a dot segment":                    {in: "spiffe://cluster.local/ns/./sa/checkout"},
		"a double dot segment":             {in: "spiffe://cluster.local/ns/shop/sa/.."},
		"a namespace in upper case":        {in: "spiffe://cluster.local/ns/Shop/sa/checkout"},
		"a namespace with a dot":           {in: "spiffe://cluster.local/ns/sh.op/sa/checkout"},
		"a namespace of 64":                {in: "spiffe://cluster.local/ns/" + strings.Repeat("n", 64) + "/sa/x"},
		"a service account of 254":         {in: "spiffe://cluster.local/ns/x/sa/" + strings.Repeat("n", 254)},
		"a wildcard":                       {in: "spiffe://cluster.local/ns/shop/sa/*"},
		"another keyword":                  {in: "spiffe://cluster.local/ns/shop/pod/checkout"},
		"one segment more":                 {in: good + "/x"},
		"a NUL":                            {in: good + "\x00"},
		"a newline":                        {in: good + "\n"},
		"a space":                          {in: " " + good},
		"a letter that looks like one":     {in: "spiffe://cluster.local/ns/shop/sa/ch\u0435ckout"},
		"more than 2048 bytes":             {in: "spiffe://" + strings.Repeat("d", 2100) + "/ns/x/sa/y"},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got, err := identity.Parse(c.in)
			if (err == nil) != c.ok || got != c.want {
				t.Fatalf("Parse(%q) = %+v, %v; want %+v, ok %t", c.in, got, err, c.want, c.ok)
			}
			if c.ok && (got.String() != c.in || got.URL().String() != c.in) {
				t.Errorf("printed as %q and %q, want %q", got, got.URL(), c.in)
			}
		})
	}
}

func TestZeroIDIsNobody(t *testing.T) {
	t.Parallel()
	if id := (identity.ID{}); !id.IsZero() || id.String() != "" || id.Validate() == nil {
		t.Errorf("zero ID: IsZero %t, String %q, Validate %v", id.IsZero(), id, id.Validate())
	}
}

func FuzzParse(f *testing.F) {
	for _, s := range []string{
		"spiffe://cluster.local/ns/shop/sa/checkout", "spiffe://a/ns/b/sa/c", "spiffe://", "spiffe://a/ns/b/sa/c/",
		"spiffe://a:1/ns/b/sa/c", "spiffe://a/ns/b/sa/..", "spiffe://a/ns/%62/sa/c", "spiffe://a/ns/b/sa/c?d#e",
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		id, err := identity.Parse(s)
		if err != nil {
			if !id.IsZero() {
				t.Fatalf("Parse(%q) returned both %v and %v", s, id, err)
			}
			return
		}
		if id.String() != s || id.URL().String() != s {
			t.Fatalf("Parse(%q) prints as %q and %q: an ID must have one spelling", s, id, id.URL())
		}
	})
}
