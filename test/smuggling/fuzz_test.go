// SPDX-License-Identifier: Apache-2.0

package smuggling

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/textproto"
	"net/url"
	"slices"
	"strings"
	"testing"

	"github.com/heddle-mesh/heddle/internal/evaluate"
)

// FuzzRequests sends bytes to a client-side proxy. Whatever comes out behind it is whole requests by the strictest reading,
// and where net/http takes the same bytes for requests, too, they are the same requests.
func FuzzRequests(f *testing.F) {
	for _, table := range attacks {
		for i := range table {
			f.Add([]byte(table[i].send + inner))
		}
	}
	b := newClientBench(f, true)
	f.Fuzz(func(t *testing.T, sent []byte) {
		b.origin.take()
		c := b.dial(t)
		defer c.Close()
		c.Write(sent)
		c.(*net.TCPConn).CloseWrite()
		got, err := io.ReadAll(c)
		if err != nil && !strings.Contains(err.Error(), "reset by peer") {
			t.Fatalf("%q: after %q: %v", sent, got, err)
		}
		b.another(t)
		arrived := b.origin.take()
		wanted := bufio.NewReader(bytes.NewReader(sent))
		for i, a := range arrived {
			if a.breach != nil {
				t.Fatalf("%q came out as what is no request: %v", sent, a.breach)
			}
			if strings.HasPrefix(target(a.request), "/canary/") {
				if i != len(arrived)-1 {
					t.Fatalf("%q: a request came behind the canary: %v", sent, arrived[i+1].request)
				}
				return
			}
			r, body, ok := next(wanted)
			if !ok {
				return // net/http does not take it, so there is nothing to compare
			}
			if err := same(a.request, r, body); err != nil {
				t.Fatalf("%q: request %d came out as %v: %v", sent, i, a.request, err)
			}
		}
	})
}

// next reads what net/http takes for the next request of which a proxy does not decline the path.
func next(r *bufio.Reader) (_ *http.Request, body string, ok bool) {
	for {
		request, err := http.ReadRequest(r)
		if err != nil {
			return nil, "", false
		}
		content, err := io.ReadAll(request.Body)
		if err != nil {
			return nil, "", false
		}
		if !declines(request) {
			return request, string(content), true
		}
	}
}

func declines(r *http.Request) bool {
	if r.Method == http.MethodConnect || r.RequestURI == "*" {
		return false
	}
	_, path := split(r)
	_, ok := evaluate.NormalizePath(path)
	return !ok
}

// split cuts the query off a target, and what stands before the path in the absolute form.
func split(r *http.Request) (prefix, path string) {
	path, _, _ = strings.Cut(r.RequestURI, "?")
	if scheme, rest, ok := strings.Cut(path, "://"); ok && path[0] != '/' {
		authority, behind, _ := strings.Cut(rest, "/")
		return strings.ToLower(scheme) + "://" + authority, "/" + behind
	}
	return "", path
}

// same compares a request that came out with what net/http makes of what went in.
func same(m *message, r *http.Request, body string) error {
	if method(m) != r.Method {
		return fmt.Errorf("the method was %s", r.Method)
	}
	if want := normalized(r); want != target(m) {
		return fmt.Errorf("the target was %q", want)
	}
	if r.Host != "" && !sameHost(m.value("Host"), r.Host) {
		return fmt.Errorf("the host was %q", r.Host)
	}
	if m.body != body {
		return fmt.Errorf("the content was %q", body)
	}
	out := make(http.Header)
	for _, line := range m.fields {
		name, value, _ := strings.Cut(line, ":")
		name = http.CanonicalHeaderKey(name)
		out[name] = append(out[name], strings.Trim(value, " \t"))
	}
	trailer := make(http.Header)
	for _, line := range m.trailer {
		name, value, _ := strings.Cut(line, ":")
		name = http.CanonicalHeaderKey(name)
		trailer[name] = append(trailer[name], strings.Trim(value, " \t"))
	}
	for what, pair := range map[string][2]http.Header{"fields": {out, r.Header}, "trailer": {trailer, r.Trailer}} {
		if got, want := endToEnd(pair[0], r.Header), endToEnd(pair[1], r.Header); fmt.Sprint(got) != fmt.Sprint(want) {
			return fmt.Errorf("the %s were %q, are %q", what, want, got)
		}
	}
	return nil
}

// normalized is a request's target as it is forwarded.
func normalized(r *http.Request) string {
	if r.Method == http.MethodConnect {
		return r.RequestURI
	}
	_, query, asked := strings.Cut(r.RequestURI, "?")
	prefix, raw := split(r)
	if path, ok := evaluate.NormalizePath(raw); ok {
		raw = path
	}
	if asked {
		raw += "?" + query
	}
	if r.Method == http.MethodOptions && raw == "/" && prefix != "" {
		raw = "*" // of the server as a whole (RFC 9112, section 3.2.4)
	}
	return prefix + raw
}

// sameHost compares a Host with that of an absolute target, which net/http unescapes.
func sameHost(a, b string) bool {
	unescaped, err := url.PathUnescape(a)
	return a == b || err == nil && unescaped == b
}

// endToEnd returns the fields that a proxy passes on, as net/http has them, in the order of their names.
func endToEnd(h, all http.Header) []string {
	var lines []string
	for name, values := range h {
		lower := strings.ReplaceAll(strings.ToLower(name), "_", "-")
		switch {
		case strings.HasPrefix(lower, "heddle-"), lower == "x-forwarded-client-cert", isOneHop(name), listed(all, name):
			continue
		}
		for _, v := range values {
			lines = append(lines, name+": "+v)
		}
	}
	slices.Sort(lines)
	return lines
}

// isOneHop says whether a field concerns one connection, or is one that net/http or a proxy writes anew.
func isOneHop(name string) bool {
	switch name {
	case "Connection", "Keep-Alive", "Proxy-Connection", "Te", "Transfer-Encoding", "Upgrade", "Trailer", "Host", "Content-Length":
		return true
	}
	return false
}

func listed(h http.Header, name string) bool {
	for _, line := range h["Connection"] {
		for item := range strings.SplitSeq(line, ",") {
			if strings.EqualFold(textproto.TrimString(item), name) {
				return true
			}
		}
	}
	return false
}

// FuzzAnswers has a server answer with bytes. What a caller gets is one whole answer, or a refusal, or one that breaks off;
// where net/http takes the bytes for an answer, too, it is the same. No other request's answer is touched.
func FuzzAnswers(f *testing.F) {
	for i := range answers {
		f.Add([]byte(answers[i].script.raw+answers[i].script.rest), true)
		f.Add([]byte(answers[i].script.raw+answers[i].script.rest), false)
	}
	b := newClientBench(f, true)
	f.Fuzz(func(t *testing.T, raw []byte, head bool) {
		b.origin.take()
		method := "POST"
		if head {
			method = "HEAD"
		}
		b.origin.script("/evil", script{raw: string(raw), close: true})
		c := b.dial(t)
		defer c.Close()
		io.WriteString(c, method+" /evil HTTP/1.1\r\nHost: cart\r\nContent-Length: 0\r\n\r\n")
		m, _, err := readAnswer(bufio.NewReader(c), method)
		b.another(t)
		if errors.Is(err, errBreach) {
			t.Fatalf("%q came out as what is no answer: %v", raw, err)
		}
		if err != nil {
			return // it breaks off
		}
		want, body, ok := oracle(raw, method)
		if m.status() == http.StatusBadGateway && m.value("Heddle-Reason") != "" || !ok {
			return
		}
		if m.status() != want.StatusCode || method != "HEAD" && m.body != body {
			t.Fatalf("%q came out as %v, want %d %q", raw, m, want.StatusCode, body)
		}
	})
}

// oracle is what net/http takes for the answer in some bytes.
func oracle(raw []byte, method string) (_ *http.Response, body string, ok bool) {
	r := bufio.NewReader(bytes.NewReader(raw))
	for {
		answer, err := http.ReadResponse(r, &http.Request{Method: method})
		if err != nil {
			return nil, "", false
		}
		content, err := io.ReadAll(answer.Body)
		if answer.StatusCode < 200 && answer.StatusCode != http.StatusSwitchingProtocols {
			continue
		}
		return answer, string(content), err == nil
	}
}

// FuzzDowngrades sends fields and content over HTTP/2 to a server of HTTP/1.1. What comes out is one request with the same
// method, target and content, or nothing.
func FuzzDowngrades(f *testing.F) {
	for i := range downgrades {
		var lines []string
		for _, field := range downgrades[i].fields {
			lines = append(lines, field.Name+"\x01"+field.Value)
		}
		f.Add(strings.Join(lines, "\x02"), strings.Join(downgrades[i].content, ""))
	}
	b := newClientBench(f, true)
	f.Fuzz(func(t *testing.T, head, content string) {
		if len(head) > 8<<10 || len(content) > 16<<10 {
			return
		}
		b.origin.take()
		a := downgrade{}
		for line := range strings.SplitSeq(head, "\x02") {
			name, value, _ := strings.Cut(line, "\x01")
			a.fields = append(a.fields, field{Name: name, Value: value})
		}
		if content != "" {
			a.content = []string{content}
		}
		d := newCaller2(b.dial(t))
		defer d.Close()
		e, err := d.Await(d.open(&a))
		if err != nil && !strings.Contains(err.Error(), "EOF") && !strings.Contains(err.Error(), "reset") {
			t.Fatalf("%q came to no end: %v", head, err)
		}
		d.Close()
		b.another(t)
		requests := 0
		for _, got := range b.origin.take() {
			switch {
			case got.breach != nil:
				t.Fatalf("%q came out as what is no request: %v", head, got.breach)
			case strings.HasPrefix(target(got.request), "/canary/"):
			default:
				requests++
				want := ""
				for _, f := range a.fields {
					if f.Name == ":method" {
						want = f.Value
					}
				}
				if method(got.request) != want || got.request.body != content {
					t.Fatalf("%q with %q came out as %v", head, content, got.request)
				}
			}
		}
		if requests > 1 || requests == 0 && e.Status == "200" {
			t.Fatalf("%q came out as %d requests, answered %+v", head, requests, e)
		}
	})
}
