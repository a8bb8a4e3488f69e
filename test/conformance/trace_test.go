// SPDX-License-Identifier: Apache-2.0

//go:build conformance

package conformance

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/heddle-mesh/heddle/test/pair"
)

const (
	trace  = "0af7651916cd43dd8448eb211c80319c"
	parent = "b7ad6b7169203331"
	valid  = "00-" + trace + "-" + parent + "-01"
)

// traceHeaders are what callers may send of W3C Trace Context, by what the specification says of it. A proxy that takes no
// part in the trace changes none of it, whatever it thinks of it.
var traceHeaders = []struct {
	name  string
	lines []string // "name: value"
}{
	{"none at all", nil},
	{"a parent", []string{"traceparent: " + valid}},
	{"a parent that is not sampled", []string{"traceparent: 00-" + trace + "-" + parent + "-00"}},
	{"flags that are not known yet", []string{"traceparent: 00-" + trace + "-" + parent + "-ff"}},
	{"the random flag of level 2", []string{"traceparent: 00-" + trace + "-" + parent + "-03"}},
	{"a parent and state", []string{"traceparent: " + valid, "tracestate: congo=t61rcWkgMzE"}},
	{"state of two vendors", []string{"traceparent: " + valid, "tracestate: rojo=00f067aa0ba902b7,congo=t61rcWkgMzE"}},
	{"state in two lines", []string{"traceparent: " + valid, "tracestate: rojo=1", "tracestate: congo=2"}},
	{"state in lines around others", []string{"tracestate: rojo=1", "traceparent: " + valid, "x-between: 1", "tracestate: congo=2"}},
	{"state before its parent", []string{"tracestate: rojo=1", "traceparent: " + valid}},
	{"state of a tenant", []string{"traceparent: " + valid, "tracestate: fw529a3039@dt=FfB"}},
	{"state with white space between members", []string{"traceparent: " + valid, "tracestate: a=1 ,\t b=2"}},
	{"state with empty members", []string{"traceparent: " + valid, "tracestate: a=1,,b=2,"}},
	{"empty state", []string{"traceparent: " + valid, "tracestate: "}},
	{"state of 32 members", []string{"traceparent: " + valid, "tracestate: " + members(32)}},
	{"state of 33 members", []string{"traceparent: " + valid, "tracestate: " + members(33)}},
	{"state of 512 characters", []string{"traceparent: " + valid, "tracestate: a=" + strings.Repeat("x", 510)}},
	{"state of 4,000 characters", []string{"traceparent: " + valid, "tracestate: a=" + strings.Repeat("x", 3998)}},
	{"a key twice in the state", []string{"traceparent: " + valid, "tracestate: a=1,a=2"}},
	{"a key of capitals", []string{"traceparent: " + valid, "tracestate: FOO=1"}},
	{"a key that begins with a digit", []string{"traceparent: " + valid, "tracestate: 0a=1"}},
	{"a key with a space", []string{"traceparent: " + valid, "tracestate: a b=1"}},
	{"a member without a value", []string{"traceparent: " + valid, "tracestate: a="}},
	{"a member without an equals sign", []string{"traceparent: " + valid, "tracestate: abc"}},
	{"state without a parent", []string{"tracestate: a=1"}},
	{"two parents", []string{"traceparent: " + valid, "traceparent: 00-" + trace + "-" + parent + "-00"}},
	{"the same parent twice", []string{"traceparent: " + valid, "traceparent: " + valid}},
	{"parents in one line", []string{"traceparent: " + valid + "," + valid}},
	{"an empty parent", []string{"traceparent: "}},
	{"a version from the future", []string{"traceparent: cc-" + trace + "-" + parent + "-01"}},
	{"a version from the future, with more", []string{"traceparent: cc-" + trace + "-" + parent + "-01-what-the-future-will-be-like"}},
	{"a version from the future, with too much", []string{"traceparent: cc-" + trace + "-" + parent + "-01.what"}},
	{"version 0 with more", []string{"traceparent: " + valid + "-00"}},
	{"the version that is forbidden", []string{"traceparent: ff-" + trace + "-" + parent + "-01"}},
	{"a version that is no hex", []string{"traceparent: .0-" + trace + "-" + parent + "-01"}},
	{"a version of one digit", []string{"traceparent: 0-" + trace + "-" + parent + "-01"}},
	{"a trace of zeros", []string{"traceparent: 00-" + strings.Repeat("0", 32) + "-" + parent + "-01"}},
	{"a trace of capitals", []string{"traceparent: 00-" + strings.ToUpper(trace) + "-" + parent + "-01"}},
	{"a trace that is too short", []string{"traceparent: 00-" + trace[1:] + "-" + parent + "-01"}},
	{"a trace that is too long", []string{"traceparent: 00-" + trace + "0-" + parent + "-01"}},
	{"a trace with a dot", []string{"traceparent: 00-." + trace[1:] + "-" + parent + "-01"}},
	{"a parent of zeros", []string{"traceparent: 00-" + trace + "-" + strings.Repeat("0", 16) + "-01"}},
	{"a parent that is too short", []string{"traceparent: 00-" + trace + "-" + parent[1:] + "-01"}},
	{"a parent with a dot", []string{"traceparent: 00-" + trace + "-." + parent[1:] + "-01"}},
	{"flags of one digit", []string{"traceparent: 00-" + trace + "-" + parent + "-1"}},
	{"flags of three digits", []string{"traceparent: 00-" + trace + "-" + parent + "-001"}},
	{"flags with a dot", []string{"traceparent: 00-" + trace + "-" + parent + "-.0"}},
	{"no dashes", []string{"traceparent: 00" + trace + parent + "01"}},
	{"names in another case", []string{"TraceParent: " + valid, "TRACESTATE: a=1", "tRaCeStAtE: b=2"}},
	{"baggage of all kinds", []string{"traceparent: " + valid, "baggage: user=%20a;p=1, ,b=2", "baggage: c"}},
	{"headers of other systems beside it", []string{"traceparent: " + valid, "b3: " + trace + "-" + parent + "-1", "x-b3-traceid: " + trace, "uber-trace-id: a:b:c:1"}},
}

func members(n int) string {
	var list []string
	for i := range n {
		list = append(list, fmt.Sprintf("bar%02d=%d", i, i))
	}
	return strings.Join(list, ",")
}

func TestTraceContextIsLeftUntouched(t *testing.T) {
	got := make(chan []string, 1)
	raw := pair.Listen(t, func(_ context.Context, c net.Conn) { recordHeads(c, got) })
	app := serve(t, http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		var lines []string
		for name, values := range r.Header {
			for _, v := range values {
				lines = append(lines, strings.ToLower(name)+": "+v)
			}
		}
		got <- lines
	}))
	for _, version := range []string{"http1", "http2"} {
		to := behind(t, raw, service{protocol: "http1"})
		if version == "http2" {
			to = behind(t, app, service{protocol: "http2"})
		}
		begun := time.Now()
		passed := 0
		var failures strings.Builder
		for _, c := range traceHeaders {
			send := sendHTTP1
			if version == "http2" {
				send = sendHTTP2
			}
			sent, err := send(t, to.client, c.lines)
			if err != nil {
				fmt.Fprintf(&failures, "%s: %v\n", c.name, err)
				continue
			}
			have := ofTrace(<-got)
			if version == "http2" {
				byName(have)
				byName(sent)
			}
			if !slices.Equal(have, sent) {
				fmt.Fprintf(&failures, "%s: the application got\n%q, want\n%q\n", c.name, have, sent)
				continue
			}
			passed++
		}
		score(t, "W3C trace context untouched, "+version, begun, passed, len(traceHeaders), failures.String())
	}
}

// byName orders lines by their names, and leaves those of one name in their order.
func byName(lines []string) {
	slices.SortStableFunc(lines, func(a, b string) int {
		nameA, _, _ := strings.Cut(a, ":")
		nameB, _, _ := strings.Cut(b, ":")
		return strings.Compare(nameA, nameB)
	})
}

// recordHeads answers requests of HTTP/1.1 without content, and passes their header lines on as they came.
func recordHeads(c net.Conn, got chan<- []string) {
	r := bufio.NewReader(c)
	for {
		var lines []string
		for {
			line, err := r.ReadString('\n')
			if err != nil {
				return
			}
			if line = strings.TrimSuffix(line, "\r\n"); line == "" {
				break
			}
			if strings.HasSuffix(line, ":") {
				line += " " // white space around a value is not part of it
			}
			lines = append(lines, line)
		}
		got <- lines[1:]
		io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
	}
}

// ofTrace leaves out what clients and proxies add.
func ofTrace(lines []string) []string {
	return slices.DeleteFunc(lines, func(line string) bool {
		name, _, _ := strings.Cut(strings.ToLower(line), ":")
		switch name {
		case "host", "x-forwarded-client-cert", "user-agent", "content-length":
			return true
		}
		return false
	})
}

// sendHTTP1 sends a request with header lines as they are, and returns what the application must get.
func sendHTTP1(t *testing.T, to netip.AddrPort, lines []string) ([]string, error) {
	t.Helper()
	c, err := net.Dial("tcp", to.String())
	if err != nil {
		return nil, err
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(10 * time.Second))
	fmt.Fprintf(c, "GET / HTTP/1.1\r\nHost: a\r\n%s\r\n", strings.Join(append(slices.Clone(lines), ""), "\r\n"))
	answer, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil {
		return nil, err
	}
	answer.Body.Close()
	if answer.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("status %d", answer.StatusCode)
	}
	return slices.Clone(lines), nil
}

// sendHTTP2 does the same over HTTP/2, where names are of lower case and the order of different names does not count.
func sendHTTP2(t *testing.T, to netip.AddrPort, lines []string) ([]string, error) {
	t.Helper()
	transport := &http.Transport{Protocols: new(http.Protocols), DisableCompression: true}
	transport.Protocols.SetUnencryptedHTTP2(true)
	defer transport.CloseIdleConnections()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+to.String()+"/", nil)
	check(t, err)
	var want []string
	for _, line := range lines {
		name, value, _ := strings.Cut(line, ": ")
		r.Header.Add(name, value)
		want = append(want, strings.ToLower(name)+": "+value)
	}
	answer, err := transport.RoundTrip(r)
	if err != nil {
		return nil, err
	}
	answer.Body.Close()
	if answer.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("status %d", answer.StatusCode)
	}
	return want, nil
}
