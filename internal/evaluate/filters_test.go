// SPDX-License-Identifier: Apache-2.0

package evaluate

import (
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/heddle-mesh/heddle/internal/meshconfig"
)

// lines are the plain form of Fields.
type lines []string

func isNamed(line, name string) bool { return strings.EqualFold(line[:strings.Index(line, ":")], name) }

func (l *lines) Del(name string) {
	*l = slices.DeleteFunc(*l, func(line string) bool { return isNamed(line, name) })
}

func (l *lines) Set(name, value string) { l.Del(name); l.Add(name, value) }

func (l *lines) Add(name, value string) { *l = append(*l, name+": "+value) }

func TestHeaderFilter(t *testing.T) {
	type value = meshconfig.HeaderValue
	cases := map[string]struct {
		filter *meshconfig.HeaderFilter
		want   string
	}{
		"no filter":                                 {nil, "A: 1|a: 2|B: 3"},
		"an empty filter":                           {&meshconfig.HeaderFilter{}, "A: 1|a: 2|B: 3"},
		"all lines of a name are removed":           {&meshconfig.HeaderFilter{Remove: []string{"a"}}, "B: 3"},
		"what is not there is not removed":          {&meshconfig.HeaderFilter{Remove: []string{"c"}}, "A: 1|a: 2|B: 3"},
		"one value takes the place of all":          {&meshconfig.HeaderFilter{Set: []*value{{Name: "A", Value: "x"}}}, "B: 3|A: x"},
		"what is not there is set":                  {&meshconfig.HeaderFilter{Set: []*value{{Name: "C", Value: ""}}}, "A: 1|a: 2|B: 3|C: "},
		"a value is added to others":                {&meshconfig.HeaderFilter{Add: []*value{{Name: "b", Value: "4"}, {Name: "b", Value: "5"}}}, "A: 1|a: 2|B: 3|b: 4|b: 5"},
		"first it removes, then sets, at last adds": {&meshconfig.HeaderFilter{Add: []*value{{Name: "a", Value: "y"}}, Set: []*value{{Name: "a", Value: "x"}}, Remove: []string{"a", "b"}}, "a: x|a: y"},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			f, err := newHeaderFilter(c.filter)
			if err != nil {
				t.Fatal(err)
			}
			got := lines{"A: 1", "a: 2", "B: 3"}
			f.Apply(&got)
			if got := strings.Join(got, "|"); got != c.want {
				t.Errorf("got %s, want %s", got, c.want)
			}
		})
	}
}

func TestFiltersTouchNoFieldThatIsNotTheirs(t *testing.T) {
	for _, name := range []string{
		"Connection", "keep-alive", "Proxy-Connection", "Transfer-Encoding", "transfer_encoding", "upgrade", "TE", "Trailer", "HTTP2-Settings",
		"Content-Length", "content_length", "Expect", "Host", ":path", ":authority", "Heddle-Undelivered", "heddle-reason", "Heddle_Reason",
		"X-Forwarded-Client-Cert", "X_Forwarded_Client-Cert", "", "a b", "a:", "é",
	} {
		fields := []*meshconfig.HeaderValue{{Name: "ok", Value: "1"}, {Name: name, Value: "1"}}
		for what, f := range map[string]*meshconfig.HeaderFilter{
			"remove[1]": {Remove: []string{"ok", name}}, "set[1]": {Set: fields}, "add[1]": {Add: fields},
		} {
			if _, err := newHeaderFilter(f); err == nil || !strings.Contains(err.Error(), what) {
				t.Errorf("%s %q: got error %v", what, name, err)
			}
		}
	}
	for _, value := range []string{" a", "a\t", "a\r\nb: c", "a\x00", "a\x7f"} {
		if _, err := newHeaderFilter(&meshconfig.HeaderFilter{Set: []*meshconfig.HeaderValue{{Name: "a", Value: value}}}); err == nil || !strings.Contains(err.Error(), "the value has") {
			t.Errorf("value %q: got error %v", value, err)
		}
	}
	if _, err := newHeaderFilter(&meshconfig.HeaderFilter{Set: []*meshconfig.HeaderValue{{Name: "X-Tag_1", Value: "a\tb é"}}}); err != nil {
		t.Error(err)
	}
}

func rewrite(prefix bool, value string) *meshconfig.PathRewrite {
	return &meshconfig.PathRewrite{Prefix: prefix, Value: value}
}

func TestRewrite(t *testing.T) {
	cases := map[string]struct {
		rewrite      *meshconfig.PathRewrite
		match        string // the prefix of the route's match
		path, result string
	}{
		"the whole path":                            {rewrite(false, "/b"), "/cart", "/cart/items", "/b"},
		"the whole path is normalised":              {rewrite(false, "/%62//c/./d"), "/", "/cart", "/b/c/d"},
		"a prefix":                                  {rewrite(true, "/basket"), "/cart", "/cart/items", "/basket/items"},
		"a prefix that is the whole path":           {rewrite(true, "/basket"), "/cart", "/cart", "/basket"},
		"a prefix and a slash":                      {rewrite(true, "/basket"), "/cart", "/cart/", "/basket/"},
		"a prefix to the root":                      {rewrite(true, "/"), "/cart", "/cart/items", "/items"},
		"a prefix that is the whole, to the root":   {rewrite(true, "/"), "/cart", "/cart", "/"},
		"a prefix and a slash to the root":          {rewrite(true, "/"), "/cart", "/cart/", "/"},
		"a prefix that ends in a slash":             {rewrite(true, "/basket"), "/cart/", "/cart/items", "/basket/items"},
		"to a prefix that ends in a slash":          {rewrite(true, "/basket/"), "/cart", "/cart/items", "/basket/items"},
		"the whole to what ends in a slash":         {rewrite(true, "/basket/"), "/cart", "/cart", "/basket/"},
		"the root":                                  {rewrite(true, "/api"), "/", "/cart", "/api/cart"},
		"the root itself":                           {rewrite(true, "/api"), "/", "/", "/api/"},
		"the root to the root":                      {rewrite(true, "/"), "/", "/cart", "/cart"},
		"a prefix of several segments":              {rewrite(true, "/x/y"), "/a/b", "/a/b/c", "/x/y/c"},
		"escapes stay":                              {rewrite(true, "/x%2Fy"), "/a", "/a/%2F", "/x%2Fy/%2F"},
		"what is no path stays":                     {rewrite(true, "/x"), "/", "*", "*"},
		"what is no path stays, whatever is wanted": {rewrite(false, "/x"), "/", "", ""},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			port := testPort()
			port.Routes = []*meshconfig.Route{{
				Name: "r", Matches: []*meshconfig.Match{path(prefix, "/no"), path(prefix, c.match)}, Filters: &meshconfig.Filters{RewritePath: c.rewrite},
			}}
			router, err := NewRouter(port)
			if err != nil {
				t.Fatal(err)
			}
			choice := router.Route(&Request{Path: c.path})
			if choice.Route == Unrouted() {
				choice = Choice{Route: router.routes[0]}
			}
			if got := choice.Route.Filters.Path.Rewrite(c.path, choice.Prefix); got != c.result {
				t.Errorf("got %q, want %q", got, c.result)
			}
		})
	}
}

func TestARewrittenPathIsNormalised(t *testing.T) {
	r := rand.New(rand.NewPCG(13, 14))
	found := 0
	for range 20_000 {
		before, ok := NormalizePath(randomPath(r))
		value := randomPath(r)
		p, err := newPathRewrite(rewrite(true, value), true)
		if !ok || err != nil {
			continue
		}
		found++
		for end := range len(before) + 1 {
			if end < len(before) && before[end] != '/' {
				continue
			}
			got := p.Rewrite(before, before[:end])
			if again, ok := NormalizePath(got); !ok || again != got {
				t.Fatalf("%q without %q behind %q is %q, which is normalised %q, %v", before, before[:end], value, got, again, ok)
			}
		}
	}
	if found < 500 {
		t.Fatalf("only %d paths", found)
	}
}

func TestLocation(t *testing.T) {
	items := Request{Authority: "shop.example:8080", Path: "/cart/items", Query: "a=b&c=%20"}
	at := func(authority string) Request { return Request{Authority: authority, Path: "/a"} }
	cases := map[string]struct {
		redirect *meshconfig.Redirect
		request  Request
		scheme   string
		want     string
	}{
		"a scheme, whose port is its own":          {&meshconfig.Redirect{Scheme: "https"}, items, "http", "https://shop.example/cart/items?a=b&c=%20"},
		"the scheme that it has keeps the port":    {&meshconfig.Redirect{Scheme: "http", Host: "a.example"}, items, "", "http://a.example:8080/cart/items?a=b&c=%20"},
		"a host":                                   {&meshconfig.Redirect{Host: "Other.example"}, items, "", "http://Other.example:8080/cart/items?a=b&c=%20"},
		"an IPv6 address":                          {&meshconfig.Redirect{Host: "fd00::1"}, at("a"), "http", "http://[fd00::1]/a"},
		"from an IPv6 address":                     {&meshconfig.Redirect{Port: 81}, at("[fd00::1]:80"), "http", "http://[fd00::1]:81/a"},
		"a port":                                   {&meshconfig.Redirect{Port: 9090}, items, "https", "https://shop.example:9090/cart/items?a=b&c=%20"},
		"a scheme and a port":                      {&meshconfig.Redirect{Scheme: "https", Port: 8443}, items, "http", "https://shop.example:8443/cart/items?a=b&c=%20"},
		"port 80 of http is left out":              {&meshconfig.Redirect{Scheme: "http", Port: 80}, items, "https", "http://shop.example/cart/items?a=b&c=%20"},
		"port 443 of https is left out":            {&meshconfig.Redirect{Scheme: "https", Port: 443}, items, "http", "https://shop.example/cart/items?a=b&c=%20"},
		"port 443 of http is not":                  {&meshconfig.Redirect{Scheme: "http", Port: 443}, items, "https", "http://shop.example:443/cart/items?a=b&c=%20"},
		"a port that is the scheme's, of a caller": {&meshconfig.Redirect{Host: "b"}, at("a:80"), "", "http://b/a"},
		"a path":                      {&meshconfig.Redirect{Path: rewrite(false, "/new")}, items, "", "http://shop.example:8080/new?a=b&c=%20"},
		"a prefix":                    {&meshconfig.Redirect{Path: rewrite(true, "/basket")}, items, "", "http://shop.example:8080/basket/items?a=b&c=%20"},
		"a prefix to the root":        {&meshconfig.Redirect{Path: rewrite(true, "/")}, items, "", "http://shop.example:8080/items?a=b&c=%20"},
		"no authority leaves a path":  {&meshconfig.Redirect{Scheme: "https", Path: rewrite(false, "/new")}, Request{Path: "/a", Query: "b"}, "", "/new?b"},
		"what is no path is left out": {&meshconfig.Redirect{Host: "b"}, Request{Authority: "a", Path: "*"}, "", "http://b"},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			c.redirect.Status = http.StatusPermanentRedirect
			r, err := newRedirect(c.redirect, true)
			if err != nil {
				t.Fatal(err)
			}
			got := r.Location(&c.request, c.scheme, "/cart")
			if got != c.want || r.Status != http.StatusPermanentRedirect {
				t.Errorf("got %d %q, want %q", r.Status, got, c.want)
			}
			if _, err := url.Parse(got); err != nil {
				t.Error(err)
			}
		})
	}
}

func TestMirrorDrawsItsShare(t *testing.T) {
	for _, percent := range []uint32{0, 1, 33, 99, 100} {
		m, err := newMirror(&meshconfig.Mirror{Backend: weights(1)[0], Percent: percent})
		if err != nil {
			t.Fatal(err)
		}
		if got := drawsOf(100, m.Draws); got != int(percent) || m.Backend.GetName() != "a" {
			t.Errorf("%d %%: got %d of 100 to %v", percent, got, m.Backend)
		}
	}
}

func fullPort() *meshconfig.ServicePort {
	port := testPort()
	port.Routes[0].TryTimeout, port.Routes[0].IdleTimeout = 500, 2500
	port.Routes[0].Retry = &meshconfig.Retry{
		Attempts: 3, On: []meshconfig.RetryCondition{broke}, Codes: []uint32{503}, BackoffBase: 25, BackoffMax: 250, Idempotency: always,
	}
	port.Routes[0].Filters = &meshconfig.Filters{
		RequestHeaders: &meshconfig.HeaderFilter{Remove: []string{"a"}}, ResponseHeaders: &meshconfig.HeaderFilter{Remove: []string{"b"}},
		RewriteHost: "basket.shop:8080", RewritePath: rewrite(false, "/basket"), Mirror: &meshconfig.Mirror{Backend: weights(1)[0], Percent: 10},
	}
	return port
}

func TestARouteCarriesWhatTheSectionSays(t *testing.T) {
	router, err := NewRouter(fullPort())
	if err != nil {
		t.Fatal(err)
	}
	got := router.Route(&Request{Path: "/cart/items/1"}).Route
	if got.Name != "items" || got.RequestTimeout != 1500*time.Millisecond || got.TryTimeout != 500*time.Millisecond || got.IdleTimeout != 2500*time.Millisecond {
		t.Errorf("got %+v", got)
	}
	if r := got.Retry; r.Attempts != 3 || !r.Wants(Outcome{Status: 503}) || r.Wants(Outcome{Failure: connectFailure}) {
		t.Errorf("got retry %+v", r)
	}
	f := got.Filters
	response := lines{"a: 1", "b: 2"}
	f.ResponseHeaders.Apply(&response)
	if fmt.Sprint(response) != "[a: 1]" || f.RequestHeaders == nil || f.Host != "basket.shop:8080" || f.Path.Rewrite("/x", "") != "/basket" || f.Mirror == nil || f.Redirect != nil {
		t.Errorf("got filters %+v, %v", f, response)
	}
	plain := router.Route(&Request{Path: "/cart"}).Route
	if plain.Name != "cart" || plain.Retry != Unrouted().Retry || plain.Filters != nil || plain.RequestTimeout != 0 {
		t.Errorf("got %+v", plain)
	}
}

func TestNewFiltersRefuses(t *testing.T) {
	redirect := func(change func(*meshconfig.Redirect)) *meshconfig.Filters {
		r := &meshconfig.Redirect{Status: 302, Host: "a.example"}
		change(r)
		return &meshconfig.Filters{Redirect: r}
	}
	cases := map[string]struct {
		filters *meshconfig.Filters
		want    string
	}{
		"a request header that is ours":       {&meshconfig.Filters{RequestHeaders: &meshconfig.HeaderFilter{Remove: []string{"heddle-x"}}}, "request_headers: remove[0]"},
		"a response header of the connection": {&meshconfig.Filters{ResponseHeaders: &meshconfig.HeaderFilter{Remove: []string{"connection"}}}, "response_headers: remove[0]"},
		"a host with a star":                  {&meshconfig.Filters{RewriteHost: "*.example"}, "rewrite_host"},
		"a host with a space":                 {&meshconfig.Filters{RewriteHost: "a b"}, "rewrite_host"},
		"a host with an empty port":           {&meshconfig.Filters{RewriteHost: "a:"}, "rewrite_host"},
		"a host with a port that is none":     {&meshconfig.Filters{RewriteHost: "a:x"}, "rewrite_host"},
		"a host with port 0":                  {&meshconfig.Filters{RewriteHost: "a:0"}, "rewrite_host"},
		"a host with a port that is too high": {&meshconfig.Filters{RewriteHost: "a:65536"}, "rewrite_host"},
		"a host with a port that is too long": {&meshconfig.Filters{RewriteHost: "a:000080"}, "rewrite_host"},
		"an IPv6 address without brackets":    {&meshconfig.Filters{RewriteHost: "fd00::1"}, "rewrite_host"},
		"an IPv6 address that is none":        {&meshconfig.Filters{RewriteHost: "[fd00::g]:80"}, "rewrite_host"},
		"a path without a slash":              {&meshconfig.Filters{RewritePath: rewrite(false, "a")}, "rewrite_path: value"},
		"a path with a query":                 {&meshconfig.Filters{RewritePath: rewrite(false, "/a?b")}, "rewrite_path: value"},
		"a status that is no redirect":        {redirect(func(r *meshconfig.Redirect) { r.Status = 304 }), "redirect: status: 304"},
		"a scheme that is not HTTP":           {redirect(func(r *meshconfig.Redirect) { r.Scheme = "ftp" }), "redirect: scheme"},
		"a redirect to a host with a port":    {redirect(func(r *meshconfig.Redirect) { r.Host = "a:80" }), "redirect: host"},
		"a redirect to a star":                {redirect(func(r *meshconfig.Redirect) { r.Host = "*.a" }), "redirect: host"},
		"a redirect to a port too high":       {redirect(func(r *meshconfig.Redirect) { r.Port = 65536 }), "redirect: port"},
		"a redirect to no path":               {redirect(func(r *meshconfig.Redirect) { r.Path = rewrite(false, "") }), "redirect: path: value"},
		"a redirect to itself":                {redirect(func(r *meshconfig.Redirect) { r.Host = "" }), "redirect: none of"},
		"a mirror without a backend":          {&meshconfig.Filters{Mirror: &meshconfig.Mirror{Percent: 1}}, "mirror: backend"},
		"a mirror of more than all":           {&meshconfig.Filters{Mirror: &meshconfig.Mirror{Backend: weights(1)[0], Percent: 101}}, "mirror: percent"},
		"a redirect and a mirror": {&meshconfig.Filters{
			Redirect: redirect(func(*meshconfig.Redirect) {}).Redirect, Mirror: &meshconfig.Mirror{Backend: weights(1)[0]},
		}, "goes nowhere"},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			port := testPort()
			port.Routes[1].Filters = c.filters
			if _, err := NewRouter(port); err == nil || !strings.Contains(err.Error(), `route "cart": filters: `) || !strings.Contains(err.Error(), c.want) {
				t.Errorf("got error %v, want one that holds %q", err, c.want)
			}
		})
	}
	for _, m := range []*meshconfig.Match{path(exact, "/a"), path(regex, "/a")} {
		port := testPort()
		port.Routes[1].Matches = append(port.Routes[1].Matches, m)
		port.Routes[1].Filters = &meshconfig.Filters{RewritePath: rewrite(true, "/b")}
		if _, err := NewRouter(port); err == nil || !strings.Contains(err.Error(), "rewrite_path: prefix") {
			t.Errorf("a prefix of a match of %v: got error %v", m, err)
		}
	}
}
