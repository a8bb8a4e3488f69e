// SPDX-License-Identifier: Apache-2.0

package forward_test

import (
	"io"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/heddle-mesh/heddle/internal/identity"
	"github.com/heddle-mesh/heddle/internal/meshconfig"
	"github.com/heddle-mesh/heddle/proxy/observe"
)

func TestFiltersChangeRequestAndAnswer(t *testing.T) {
	bothVersions(t, func(t *testing.T, v versions) {
		t.Helper()
		app := httpApp(t, func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("X-Secret", "1")
			w.Header().Set("X-Seen", strings.Join([]string{
				r.Host, r.URL.Path, r.URL.RawQuery, r.Header.Get("X-Drop"), r.Header.Get("X-Set"), strings.Join(r.Header["X-Add"], "+"),
			}, "|"))
			io.Copy(w, r.Body)
		})
		p := newPair(t, v.declared, app, settings{})
		p.client.route(v.declared, &meshconfig.Route{
			Matches: []*meshconfig.Match{{Path: &meshconfig.PathMatch{Type: meshconfig.PathMatch_TYPE_PREFIX, Value: "/old"}}},
			Filters: &meshconfig.Filters{
				RequestHeaders: &meshconfig.HeaderFilter{
					Remove: []string{"x-drop"}, Set: []*meshconfig.HeaderValue{{Name: "X-Set", Value: "s"}},
					Add: []*meshconfig.HeaderValue{{Name: "X-Add", Value: "b"}},
				},
				ResponseHeaders: &meshconfig.HeaderFilter{
					Remove: []string{"x-secret"}, Set: []*meshconfig.HeaderValue{{Name: "X-Mesh", Value: "yes"}},
				},
				RewriteHost: "new.shop", RewritePath: &meshconfig.PathRewrite{Prefix: true, Value: "/new"},
			},
		})
		response, body := call{method: "PUT", path: "/old/a?q=1", body: "x", header: http.Header{
			"X-Drop": {"d"}, "X-Set": {"caller"}, "X-Add": {"a"},
		}}.do(t, clientOf(t, p.at, v.http2))
		if got := response.Header.Get("X-Seen"); got != "new.shop|/new/a|q=1||s|a+b" || body != "x" {
			t.Errorf("the application saw %q, body %q", got, body)
		}
		if response.Header.Get("X-Secret") != "" || response.Header.Get("X-Mesh") != "yes" {
			t.Errorf("the caller got %v", response.Header)
		}
		p.client.events.wait(t, "of the caller's path", func(e observe.Event) bool { return e.Path == "/old/a" })
	})
}

func TestARedirectIsAnsweredByTheProxy(t *testing.T) {
	bothVersions(t, func(t *testing.T, v versions) {
		t.Helper()
		var served atomic.Int64
		p := newPair(t, v.declared, httpApp(t, func(http.ResponseWriter, *http.Request) { served.Add(1) }), settings{})
		p.client.route(v.declared, &meshconfig.Route{Filters: &meshconfig.Filters{
			Redirect:        &meshconfig.Redirect{Scheme: "https", Host: "shop.example", Status: 308},
			ResponseHeaders: &meshconfig.HeaderFilter{Set: []*meshconfig.HeaderValue{{Name: "X-Mesh", Value: "yes"}}},
		}})
		client := clientOf(t, p.at, v.http2)
		for range 2 { // the connection goes on
			response, _ := call{method: "POST", path: "/a?b=c", body: "x"}.do(t, client)
			got := response.Header.Get("Location")
			if response.StatusCode != http.StatusPermanentRedirect || got != "https://shop.example/a?b=c" || response.Header.Get("X-Mesh") != "yes" {
				t.Errorf("status %d, location %q, header %v", response.StatusCode, got, response.Header)
			}
		}
		p.client.events.wait(t, "of the redirect", func(e observe.Event) bool {
			return e.Status == 308 && e.Attempts == 0 && e.Reason == "" && e.Err == nil && e.Labels.Route == "all"
		})
		if served.Load() != 0 {
			t.Error("the application saw it")
		}
	})
}

func TestACopyIsSentAndNobodyWaitsForIt(t *testing.T) {
	bothVersions(t, func(t *testing.T, v versions) {
		t.Helper()
		p := newPair(t, v.declared, httpApp(t, func(w http.ResponseWriter, r *http.Request) {
			if r.Header.Get("X-Heddle-Mirror") != "" {
				t.Error("the live request is marked")
			}
			io.Copy(w, r.Body)
		}), settings{})
		copies, over := make(chan string, 100), make(chan struct{})
		shadow := httpApp(t, func(w http.ResponseWriter, r *http.Request) {
			body, _ := io.ReadAll(r.Body)
			copies <- strings.Join([]string{r.Method, r.Host, r.URL.RequestURI(), r.Header.Get("X-Heddle-Mirror"), string(body)}, " ")
			if r.URL.Path == "/slow" {
				<-over
			}
			w.WriteHeader(http.StatusInternalServerError)
		})
		defer close(over)
		route := &meshconfig.Route{Filters: &meshconfig.Filters{Mirror: &meshconfig.Mirror{
			Backend: &meshconfig.WeightedBackend{Name: "shadow", Service: "shadow.shop", Port: 80}, Percent: 100,
		}}}
		p.client.endpoints("shadow.shop", identity.ID{}, shadow)
		p.client.route(v.declared, route)
		client := clientOf(t, p.at, v.http2)
		for _, c := range []call{{method: "GET", path: "/a?b=c"}, {method: "POST", path: "/slow", body: "some"}, {method: "PUT", path: "/b", body: "x"}} {
			if got := c.status(t, client, 200); got != c.body {
				t.Errorf("got %q", got)
			}
			if got, want := <-copies, c.method+" cart "+c.path+" true "+c.body; got != want {
				t.Errorf("the copy is %q, want %q", got, want)
			}
		}
		large := strings.Repeat("x", 1<<20)
		if got := (call{method: "PUT", body: large}).status(t, client, 200); got != large {
			t.Errorf("got %d bytes", len(got))
		}
		p.client.endpoints("shadow.shop", identity.ID{}, nobody())
		call{}.status(t, client, 200)
		p.client.endpoints("shadow.shop", identity.ID{})
		call{}.status(t, client, 200)
		select {
		case got := <-copies:
			t.Errorf("a copy of %d bytes", len(got))
		default:
		}
	})
}

func TestThereIsNoCopyOfARequestWithATrailer(t *testing.T) {
	bothVersions(t, func(t *testing.T, v versions) {
		t.Helper()
		p := newPair(t, v.declared, httpApp(t, func(_ http.ResponseWriter, r *http.Request) { io.Copy(io.Discard, r.Body) }), settings{})
		copies := make(chan string, 10)
		p.client.endpoints("shadow.shop", identity.ID{}, httpApp(t, func(_ http.ResponseWriter, r *http.Request) {
			io.Copy(io.Discard, r.Body)
			copies <- r.URL.Path
		}))
		p.client.route(v.declared, &meshconfig.Route{Filters: &meshconfig.Filters{Mirror: &meshconfig.Mirror{
			Backend: &meshconfig.WeightedBackend{Name: "shadow", Service: "shadow.shop", Port: 80}, Percent: 100,
		}}})
		client := clientOf(t, p.at, v.http2)
		r, err := http.NewRequestWithContext(t.Context(), http.MethodPut, "http://cart/trailer", io.MultiReader(strings.NewReader("x")))
		if err != nil {
			t.Fatal(err)
		}
		r.Trailer = http.Header{"X-Sum": {"1"}}
		response, err := client.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		io.Copy(io.Discard, response.Body)
		response.Body.Close()
		call{path: "/without"}.status(t, client, 200)
		if got := <-copies; got != "/without" || len(copies) > 0 {
			t.Errorf("a copy of %s, and %d more", got, len(copies))
		}
	})
}

func TestAUserStaysOnAVersion(t *testing.T) {
	bothVersions(t, func(t *testing.T, v versions) {
		t.Helper()
		versionOf := func(name string) http.HandlerFunc {
			return func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, name) }
		}
		p := newPair(t, v.declared, httpApp(t, versionOf("v1")), settings{})
		p.client.endpoints(backend(1), shop, p.server.listen(httpApp(t, versionOf("v2"))))
		p.client.traffic(v.declared, func(r *meshconfig.Routes) {
			r.Ports[0].Stickiness = &meshconfig.Stickiness{By: meshconfig.Stickiness_BY_COOKIE, Name: "canary", Ttl: 60_000}
		}, 1, 1)
		client := clientOf(t, p.at, v.http2)
		users := map[string]string{}
		for range 20 {
			response, body := call{}.do(t, client)
			cookies := response.Cookies()
			if len(cookies) != 1 || cookies[0].Name != "canary" || cookies[0].MaxAge != 60 {
				t.Fatalf("cookies %v", cookies)
			}
			users[cookies[0].Value] = body
		}
		seen := map[string]bool{}
		for value, version := range users {
			seen[version] = true
			for range 3 {
				response, body := call{header: http.Header{"Cookie": {"canary=" + value}}}.do(t, client)
				if body != version || len(response.Cookies()) != 0 {
					t.Errorf("user of %s got %s, cookies %v", version, body, response.Cookies())
				}
			}
		}
		if len(seen) != 2 {
			t.Errorf("all users got %v", seen)
		}
	})
}

func TestRoutesByQueryAndOwnIdentity(t *testing.T) {
	p, at := newClient(t, asHTTP, httpApp(t, ok))
	p.traffic(asHTTP, func(r *meshconfig.Routes) {
		r.Ports[0].Routes = []*meshconfig.Route{
			{Name: "query", Matches: []*meshconfig.Match{{Query: []*meshconfig.HeaderMatch{
				{Type: meshconfig.HeaderMatch_TYPE_EXACT, Name: "version", Value: "2"},
			}}}},
			{Name: "other", Matches: []*meshconfig.Match{{Callers: []*meshconfig.Caller{{Identities: []string{shop.String()}}}}}},
			{Name: "own", Matches: []*meshconfig.Match{{Callers: []*meshconfig.Caller{{Identities: []string{web.String()}}}}}},
		}
	}, 1)
	client := clientOf(t, at, false)
	for path, route := range map[string]string{"/?a=1&version=2": "query", "/?version=1": "own"} {
		call{path: path}.status(t, client, 200)
		p.events.wait(t, "of "+path, func(e observe.Event) bool { return e.Labels.Route == route })
	}
}
