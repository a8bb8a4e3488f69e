// SPDX-License-Identifier: Apache-2.0

package evaluate

import (
	"math/rand/v2"
	"net/url"
	"strings"
	"testing"
)

func TestNormalizePath(t *testing.T) {
	refused := "\x00refused"
	cases := map[string]struct{ in, want string }{
		"a plain path stays":                              {"/cart/items-1_2.~", "/cart/items-1_2.~"},
		"the root stays":                                  {"/", "/"},
		"a slash at the end stays":                        {"/cart/", "/cart/"},
		"reserved characters stay":                        {"/a:b@c!$&'()*+,=", "/a:b@c!$&'()*+,="},
		"parameters stay":                                 {"/a;v=1/b", "/a;v=1/b"},
		"an escaped slash stays, in upper case":           {"/group%2fproject", "/group%2Fproject"},
		"an escaped reserved character stays":             {"/a%3Ab", "/a%3Ab"},
		"an escaped space stays":                          {"/a%20b", "/a%20b"},
		"escaped letters are decoded":                     {"/%61dmin", "/admin"},
		"escaped letters are decoded in lower case hex":   {"/%7euser", "/~user"},
		"an escaped dot is decoded":                       {"/a%2etxt", "/a.txt"},
		"repeated slashes are merged":                     {"//a///b//", "/a/b/"},
		"dot segments are resolved":                       {"/a/./b/../c", "/a/c"},
		"escaped dot segments are resolved":               {"/a/%2e%2E/c", "/c"},
		"half-escaped dot segments are resolved":          {"/a/.%2e/c", "/c"},
		"a dot segment at the end leaves a slash":         {"/a/b/..", "/a/"},
		"a single dot at the end leaves a slash":          {"/a/.", "/a/"},
		"hidden files are no dot segments":                {"/.well-known/..x/...", "/.well-known/..x/..."},
		"raw UTF-8 is escaped":                            {"/café", "/caf%C3%A9"},
		"raw characters that no path holds are escaped":   {"/{a}|\"<b>^`[c]", "/%7Ba%7D%7C%22%3Cb%3E%5E%60%5Bc%5D"},
		"a percent sign alone in its escape stays":        {"/100%25", "/100%25"},
		"a percent sign before letters stays":             {"/50%25off", "/50%25off"},
		"an escaped backslash stays":                      {"/a%5Cb", "/a%5Cb"},
		"an escaped Latin-1 letter stays":                 {"/%E9t%E9", "/%E9t%E9"},
		"dots within an escaped slash stay if harmless":   {"/a%2F.hidden", "/a%2F.hidden"},
		"an empty path is refused":                        {"", refused},
		"a relative path is refused":                      {"a/b", refused},
		"the asterisk form is refused":                    {"*", refused},
		"a query is refused":                              {"/a?b", refused},
		"a fragment is refused":                           {"/a#b", refused},
		"a raw space is refused":                          {"/a b", refused},
		"a raw NUL is refused":                            {"/a\x00", refused},
		"a raw line feed is refused":                      {"/a\n", refused},
		"a raw DEL is refused":                            {"/a\x7f", refused},
		"a raw backslash is refused":                      {"/a\\b", refused},
		"an escaped NUL is refused":                       {"/a%00", refused},
		"an escaped line feed is refused":                 {"/a%0d%0a", refused},
		"a twice escaped NUL is refused":                  {"/a%2500", refused},
		"a cut escape is refused":                         {"/a%2", refused},
		"a percent sign at the end is refused":            {"/a%", refused},
		"an escape that is not hexadecimal is refused":    {"/a%zz", refused},
		"a climb above the root is refused":               {"/../a", refused},
		"an escaped climb above the root is refused":      {"/a/%2e%2e/%2e%2e/b", refused},
		"dots before an escaped slash are refused":        {"/a/..%2Fb", refused},
		"dots after an escaped slash are refused":         {"/a%2F..", refused},
		"a dot between escaped slashes is refused":        {"/a%2F.%2Fb", refused},
		"dots before an escaped backslash are refused":    {"/a/..%5Cb", refused},
		"dots with parameters are refused":                {"/a/..;/b", refused},
		"a dot with parameters is refused":                {"/a/.;x=1", refused},
		"dots with escaped parameters are refused":        {"/a/..%3Bx/b", refused},
		"an escaped slash in parameters is refused":       {"/;x%2Fy/admin", refused},
		"a backslash in parameters is refused":            {"/%3Bx%5Cy/admin", refused},
		"twice escaped dots are refused":                  {"/a/%252e%252e/b", refused},
		"three times escaped dots are refused":            {"/a/%25252e./b", refused},
		"dots and a twice escaped slash are refused":      {"/a/..%252fb", refused},
		"an overlong slash is refused":                    {"/a%C0%AF..", refused},
		"an overlong dot is refused":                      {"/%c0%ae%c0%ae/a", refused},
		"a raw overlong byte is refused":                  {"/a\xc0\xaf", refused},
		"an overlong slash of three bytes is refused":     {"/a%E0%80%AFb", refused},
		"an overlong slash of four bytes is refused":      {"/a%F0%80%80%AFb", refused},
		"an overlong slash in double escapes is refused":  {"/a%25C0%25AFb", refused},
		"a slash that follows a letter à is not overlong": {"/%C3%A0/b", "/%C3%A0/b"},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			got, ok := NormalizePath(c.in)
			if !ok {
				got = refused
			}
			if got != c.want {
				t.Errorf("NormalizePath(%q) = %q, want %q", c.in, got, c.want)
			}
		})
	}
}

// server is a way to read a path that some software has.
type server struct {
	decode     int // times
	backslash  bool
	params     bool // cut, before decoding
	lateParams bool // cut, after decoding
	trim       string
	resolve    bool
}

func (s server) segments(path string) []string {
	if s.params {
		path = cutParams(path)
	}
	for range s.decode {
		if decoded, err := url.PathUnescape(path); err == nil {
			path = decoded
		}
	}
	if s.backslash {
		path = strings.ReplaceAll(path, `\`, "/")
	}
	if s.lateParams {
		path = cutParams(path)
	}
	var out []string
	for _, segment := range strings.Split(path, "/") {
		segment = strings.Trim(segment, s.trim)
		switch {
		case segment == "" || segment == "." && s.resolve:
		case segment == ".." && s.resolve:
			out = out[:max(0, len(out)-1)]
		default:
			out = append(out, segment)
		}
	}
	return out
}

func cutParams(path string) string {
	parts := strings.Split(path, "/")
	for i := range parts {
		parts[i], _, _ = strings.Cut(parts[i], ";")
	}
	return strings.Join(parts, "/")
}

func allServers() []server {
	var all []server
	for i := range 4 * 32 {
		s := server{
			decode: i % 4, backslash: i&4 != 0, params: i&8 != 0, lateParams: i&16 != 0, resolve: i&32 != 0,
		}
		if i&64 != 0 {
			s.trim = " "
		}
		all = append(all, s)
	}
	return all
}

var servers = allServers()

// pieces are what paths that get around rules are made of.
var pieces = []string{
	"/", "/", "/", "admin", "admin", "public", "x", ".", "..", "%2e", "%2E", "%252e", "%2f", "%2F", "%252f", "%25252F",
	"%5c", "%255c", ";", ";x=1", "%3b", "%253B", "%61", "%2561", "dmin", "%20", "%2520", "%25", "%", "//", "a", "%41",
	"\\", " ", "é", "%C0%AF", "{", "%00",
}

func randomPath(r *rand.Rand) string {
	var b strings.Builder
	b.WriteByte('/')
	for range r.IntN(8) {
		b.WriteString(pieces[r.IntN(len(pieces))])
	}
	return b.String()
}

// checkPath asserts what holds for every path.
func checkPath(t *testing.T, deny, allow *Authorizer, path string) {
	t.Helper()
	normal, ok := NormalizePath(path)
	if !ok {
		return
	}
	if again, ok := NormalizePath(normal); !ok || again != normal {
		t.Errorf("NormalizePath(%q) = %q, and that in turn is %q, %v", path, normal, again, ok)
	}
	if strings.Contains(normal, "//") || strings.ContainsAny(normal, "\\ \x00?#") {
		t.Errorf("NormalizePath(%q) = %q", path, normal)
	}
	op := Op{Port: 80, HTTP: true, Method: "GET", Path: normal}
	denied := !deny.Decide(nobody, op, epoch).Allowed
	allowed := allow.Decide(nobody, op, epoch).Allowed
	for _, s := range servers {
		segments := s.segments(normal)
		isAdmin := len(segments) > 0 && segments[0] == "admin"
		if isAdmin && !denied {
			t.Errorf("%q, forwarded as %q, is %q to %+v and was not denied", path, normal, segments, s)
		}
		if !isAdmin && allowed {
			t.Errorf("%q, forwarded as %q, is %q to %+v and was allowed", path, normal, segments, s)
		}
	}
}

func TestNoSpellingOfAPathGetsAroundARule(t *testing.T) {
	deny, allow := adminRules(t)
	seed := rand.Uint64()
	r := rand.New(rand.NewPCG(seed, 0))
	for range 3_000 {
		checkPath(t, deny, allow, randomPath(r))
		if t.Failed() {
			t.Fatalf("seed %d", seed)
		}
	}
}

func FuzzNormalizePath(f *testing.F) {
	for _, p := range pieces {
		f.Add("/a/" + p + "/admin")
		f.Add("/" + p + "admin" + p)
	}
	deny, allow := adminRules(f)
	f.Fuzz(func(t *testing.T, path string) { checkPath(t, deny, allow, path) })
}

func TestNormalizePathOfANormalPathDoesNotAllocate(t *testing.T) {
	path := "/cart/items/42"
	if n := testing.AllocsPerRun(100, func() { _, _ = NormalizePath(path) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func BenchmarkNormalizePath(b *testing.B) {
	for _, path := range []string{"/cart/items/42", "/cart//items/%34%32"} {
		b.Run(path, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				_, _ = NormalizePath(path)
			}
		})
	}
}
