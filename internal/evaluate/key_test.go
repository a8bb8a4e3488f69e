// SPDX-License-Identifier: Apache-2.0

package evaluate

import (
	"net/http"
	"strings"
	"testing"
	"unicode"

	"github.com/heddle-mesh/heddle/internal/meshconfig"
)

func TestCookie(t *testing.T) {
	cases := map[string]struct {
		lines []string
		want  string
	}{
		"no cookie":                         {nil, ""},
		"one cookie":                        {[]string{"user=ann"}, "ann"},
		"the last of several":               {[]string{"a=b; c=d; user=ann"}, "ann"},
		"without white space":               {[]string{"a=b;user=ann;c=d"}, "ann"},
		"with white space":                  {[]string{" user = ann ;"}, "ann"},
		"the first of two":                  {[]string{"user=ann; user=bob"}, "ann"},
		"the first that is not empty":       {[]string{"user=; user=bob"}, "bob"},
		"on another line":                   {[]string{"a=b", "user=ann"}, "ann"},
		"in quotes":                         {[]string{`user="ann"`}, "ann"},
		"half in quotes":                    {[]string{`user="`}, `"`},
		"with a sign":                       {[]string{"user=a=b"}, "a=b"},
		"a name that ends alike is another": {[]string{"xuser=ann; user2=b"}, ""},
		"a name counts case":                {[]string{"User=ann"}, ""},
		"a name without a value":            {[]string{"user"}, ""},
		"rubbish":                           {[]string{";;=;user;=user;"}, ""},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			if got := cookie(cookieLines(c.lines...), "user"); got != c.want {
				t.Errorf("got %q, want %q", got, c.want)
			}
		})
	}
	if got := cookie(nil, "user"); got != "" {
		t.Errorf("no headers have %q", got)
	}
}

func cookieLines(lines ...string) (headers HeaderList) {
	for _, line := range lines {
		headers = append(headers, HeaderField{"Cookie", line})
	}
	return headers
}

// FuzzCookie compares with package http, which leaves out cookies with characters that this one does not care for.
func FuzzCookie(f *testing.F) {
	for _, s := range []string{"user=ann", "a=b; user=ann", `user="a n"`, "user", "user=;user=b", "=user", ";", " user = a ; b", "user=\"", "user=é", "user=a,b"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, line string) {
		if strings.ContainsFunc(line, unicode.IsControl) { // net/http trims CR and LF, which no field has that the codecs let in
			return
		}
		got := cookie(cookieLines(line), "user")
		if got != "" && !strings.Contains(line, got) {
			t.Fatalf("%q has %q", line, got)
		}
		request := &http.Request{Header: http.Header{"Cookie": {line}}}
		known := request.CookiesNamed("user")
		if len(known) == 0 || strings.Count(line, "user") != 1 {
			return
		}
		if want := strings.Trim(known[0].Value, " \t"); strings.Trim(got, " \t") != want {
			t.Errorf("%q: got %q, want %q", line, got, want)
		}
	})
}

func TestKeys(t *testing.T) {
	keys, err := NewKeys([]*meshconfig.HashKey{
		{By: meshconfig.HashKey_BY_HEADER, Name: "X-User"},
		{By: meshconfig.HashKey_BY_COOKIE, Name: "user"},
		{By: meshconfig.HashKey_BY_QUERY, Name: "user"},
		{By: meshconfig.HashKey_BY_SOURCE_IP},
	})
	if err != nil {
		t.Fatal(err)
	}
	headers := HeaderList{{"x-user", "a"}, {"cookie", "user=b"}}
	cases := map[string]struct {
		request Request
		key     string
	}{
		"a header before all":          {Request{Headers: headers, Query: "user=c", Source: address}, "a"},
		"a cookie":                     {Request{Headers: headers[1:], Query: "user=c", Source: address}, "b"},
		"a parameter":                  {Request{Query: "x=y&user=c", Source: address}, "c"},
		"a parameter that is encoded":  {Request{Query: "%75ser=%63+d"}, "c d"},
		"a parameter that is broken":   {Request{Query: "user=%zz", Source: address}, "\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\xff\xff\x0a\x00\x00\x07"},
		"an empty parameter is passed": {Request{Query: "user=&user&user=c"}, "c"},
		"an address":                   {Request{Source: address}, "\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\xff\xff\x0a\x00\x00\x07"},
		"nothing":                      {Request{}, ""},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			hash, ok := keys.Hash(&c.request)
			if ok != (c.key != "") || ok && hash != mix(hashString(fnvOffset, c.key)) {
				t.Errorf("got %x, %v, want that of %q", hash, ok, c.key)
			}
		})
	}
	if _, ok := (&Keys{}).Hash(&Request{Headers: headers}); ok {
		t.Error("no keys have one")
	}
}

func TestNewKeysRefuses(t *testing.T) {
	cases := map[string]struct {
		key  *meshconfig.HashKey
		want string
	}{
		"by nothing":                 {&meshconfig.HashKey{}, "hash[0]: by: unknown value 0"},
		"by what it does not know":   {&meshconfig.HashKey{By: 9}, "hash[0]: by: unknown value 9"},
		"a header without a name":    {&meshconfig.HashKey{By: meshconfig.HashKey_BY_HEADER}, "hash[0]: name"},
		"a parameter without a name": {&meshconfig.HashKey{By: meshconfig.HashKey_BY_QUERY}, "hash[0]: name"},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			if _, err := NewKeys([]*meshconfig.HashKey{c.key}); err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("got error %v, want one that holds %q", err, c.want)
			}
		})
	}
}
