// SPDX-License-Identifier: Apache-2.0

package smuggling

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"strings"
	"sync"
	"testing"

	"github.com/heddle-mesh/heddle/test/pair"
)

// identityLine is what the server-side proxy adds to each request.
const identityLine = "X-Forwarded-Client-Cert: URI=spiffe://cluster.local/ns/shop/sa/web"

// arrival is what came to the origin: a whole request, or a breach.
type arrival struct {
	conn    int
	request *message
	breach  error
}

// origin is the strict origin.
type origin struct {
	address netip.AddrPort

	mu       sync.Mutex
	arrivals []arrival
	conns    int
	scripts  map[string]script // answers by request target
	more     chan struct{}     // the rest may be written
}

// script is what the origin writes instead of its usual answer.
type script struct {
	raw   string
	rest  string // when the caller has read the head of that, and the first chunk
	early bool   // before the request's content is read, which it never is
	close bool   // and then closes
	stay  bool   // reads nothing more on the connection, and leaves it open until the proxy closes it
}

func newOrigin(tb testing.TB) *origin {
	tb.Helper()
	o := &origin{scripts: make(map[string]script), more: make(chan struct{}, 1)}
	o.address = pair.Listen(tb, func(_ context.Context, c net.Conn) { o.serve(c) })
	return o
}

func (o *origin) serve(c net.Conn) {
	o.mu.Lock()
	o.conns++
	conn := o.conns
	o.mu.Unlock()
	r := bufio.NewReader(c)
	for {
		var acts script
		scripted, early := false, false
		m, err := readRequest(r, func(m *message) {
			o.mu.Lock()
			acts, scripted = o.scripts[target(m)]
			o.mu.Unlock()
			if early = scripted && acts.early; early {
				m.framing = "none"
				o.note(arrival{conn: conn, request: m})
				io.WriteString(c, acts.raw)
				return
			}
			if strings.EqualFold(m.value("Expect"), "100-continue") {
				io.WriteString(c, "HTTP/1.1 100 Continue\r\n\r\n")
			}
		})
		if errors.Is(err, errBreach) {
			o.note(arrival{conn: conn, breach: err})
			return
		}
		if err != nil {
			return // it ended between requests or within one: nothing whole came
		}
		if !early {
			o.note(arrival{conn: conn, request: m})
		}
		switch {
		case !scripted:
			io.WriteString(c, usualAnswer(m))
			continue
		case !early:
			io.WriteString(c, acts.raw)
		}
		if acts.rest != "" {
			<-o.more
			io.WriteString(c, acts.rest)
		}
		if acts.close {
			return
		}
		if acts.stay {
			io.Copy(io.Discard, r)
			return
		}
	}
}

func (o *origin) note(a arrival) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.arrivals = append(o.arrivals, a)
}

// take returns what has arrived since it was asked last.
func (o *origin) take() []arrival {
	o.mu.Lock()
	defer o.mu.Unlock()
	all := o.arrivals
	o.arrivals = nil
	return all
}

func (o *origin) script(target string, s script) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.scripts[target] = s
}

func target(m *message) string { return strings.Fields(m.start)[1] }

func method(m *message) string { return strings.Fields(m.start)[0] }

// usualAnswer tells which request it is the answer to.
func usualAnswer(m *message) string {
	body := answerTo(method(m), target(m))
	head := fmt.Sprintf("HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n", len(body))
	switch method(m) {
	case "HEAD":
		return head
	case "CONNECT":
		head = strings.Replace(head, "200 OK", "405 No", 1)
	}
	return head + body
}

// answerTo is the body of the answer to a request.
func answerTo(method, target string) string { return "the answer to " + method + " " + target }

// carried compares a request that arrived with what it must be. Where a proxy puts the fields that frame the content, and
// those of the connection, is its own business, and how it cuts chunks; all else counts byte for byte and in its order.
func (w *want) carried(m *message) error {
	head, lists, upgrade, identities := []string{m.start}, "", "", 0
	for _, line := range m.fields {
		name, value, _ := strings.Cut(line, ":")
		switch strings.ToLower(name) {
		case "connection":
			lists += strings.ToLower(strings.TrimSpace(value))
		case "upgrade":
			upgrade += strings.TrimSpace(value)
		case "transfer-encoding":
		case "x-forwarded-client-cert":
			identities++
			if line != identityLine {
				return fmt.Errorf("the caller's identity came as %q", line)
			}
		default:
			head = append(head, line)
		}
	}
	switch {
	case identities != 1:
		return fmt.Errorf("%d fields tell the caller's identity", identities)
	case strings.Join(head, "\r\n") != strings.Join(w.head, "\r\n"):
		return fmt.Errorf("the head is %q, want %q", head, w.head)
	case m.body != w.body:
		return fmt.Errorf("the content is %q, want %q", clip(m.body), clip(w.body))
	case strings.Join(m.trailer, "\r\n") != strings.Join(w.trailer, "\r\n"):
		return fmt.Errorf("the trailer is %q, want %q", m.trailer, w.trailer)
	case lists != w.lists, upgrade != w.upgrade:
		return fmt.Errorf("Connection %q and Upgrade %q were passed on, want %q and %q", lists, upgrade, w.lists, w.upgrade)
	}
	return nil
}

func clip(s string) string {
	if len(s) > 200 {
		return s[:200] + fmt.Sprintf("... (%d bytes)", len(s))
	}
	return s
}
