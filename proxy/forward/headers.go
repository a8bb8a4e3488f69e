// SPDX-License-Identifier: Apache-2.0

package forward

import (
	"net/http"
	"net/textproto"
	"strings"
)

// Headers of the mesh's own.
const (
	// undelivered marks an answer of a server-side proxy to a request that the application never saw, so that it may be
	// sent to another endpoint whatever its method. It counts on mesh TLS alone, and is taken from what applications send.
	undelivered = "Heddle-Undelivered"
	// callerIdentity tells the application who calls: "URI=<SPIFFE ID>".
	callerIdentity = "X-Forwarded-Client-Cert"
	ownPrefix      = "heddle-"
)

// hopByHop are the fields of RFC 9110, section 7.6.1, that concern one connection alone. Trailer is net/http's to write;
// what authenticates with proxies goes on, since the proxy that it is for is behind this one.
var hopByHop = []string{"Connection", "Keep-Alive", "Proxy-Connection", "Te", "Trailer", "Transfer-Encoding", "Upgrade"}

// dropHopByHop removes what concerns one connection alone, also what Connection lists. It keeps "TE: trailers".
func dropHopByHop(h http.Header) {
	for _, line := range h["Connection"] {
		for name := range strings.SplitSeq(line, ",") {
			if name = textproto.TrimString(name); name != "" {
				delete(h, http.CanonicalHeaderKey(name))
			}
		}
	}
	trailers := hasToken(h["Te"], "trailers")
	for _, name := range hopByHop {
		delete(h, name)
	}
	if trailers {
		h["Te"] = []string{"trailers"}
	}
}

// hasToken says whether a list of tokens has one, whatever its case.
func hasToken(lines []string, token string) bool {
	for _, line := range lines {
		for item := range strings.SplitSeq(line, ",") {
			item, _, _ = strings.Cut(item, ";")
			if strings.EqualFold(textproto.TrimString(item), token) {
				return true
			}
		}
	}
	return false
}

// upgradeOf returns the protocol to which a request or answer of HTTP/1.1 upgrades, or "". That of HTTP/2 is none
// (RFC 9113, section 3.1, has withdrawn it): it would hide requests from every rule.
func upgradeOf(h http.Header) string {
	upgrade := h.Get("Upgrade")
	if upgrade == "" || !hasToken(h["Connection"], "upgrade") || strings.Contains(strings.ToLower(upgrade), "h2c") {
		return ""
	}
	return upgrade
}

// dropOwn removes the mesh's own fields in every spelling that some server takes for them, and with identity what tells
// who calls, too.
func dropOwn(h http.Header, identity bool) {
	for name := range h {
		if isOwn(name) || identity && isCallerIdentity(name) {
			delete(h, name)
		}
	}
}

func isOwn(name string) bool {
	return len(name) >= len(ownPrefix) && sameName(name[:len(ownPrefix)], ownPrefix)
}

func isCallerIdentity(name string) bool { return sameName(name, callerIdentity) }

// sameName compares as servers do that hand headers on as variables: whatever the case, an underscore for a dash.
func sameName(a, b string) bool {
	if len(a) != len(b) {
		return false
	}
	for i := range len(a) {
		if fold(a[i]) != fold(b[i]) {
			return false
		}
	}
	return true
}

func fold(c byte) byte {
	switch {
	case c == '_':
		return '-'
	case c >= 'A' && c <= 'Z':
		return c + 'a' - 'A'
	}
	return c
}

// addAll adds all fields of one header to another.
func addAll(to, from http.Header) {
	for name, values := range from {
		to[name] = append(to[name], values...)
	}
}
